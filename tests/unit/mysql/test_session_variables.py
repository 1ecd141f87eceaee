"""The variables that a session must find as they are: what is refused, with a remedy that works."""

import pytest

from meshnode.errors import Refused
from meshnode.mysql.session import require_asserted

RIGHT = {
    "sql_log_bin": 1,
    "rbr_exec_mode": "STRICT",
    "binlog_transaction_compression": 0,
    "binlog_row_image": "FULL",
    "binlog_row_value_options": "",
    "gtid_next": "AUTOMATIC",
    "replica_skip_errors": "OFF",
    "innodb_rollback_on_timeout": 0,
}


def test_a_session_as_it_must_be_passes() -> None:
    require_asserted("one", RIGHT)
    require_asserted("one", RIGHT | {"binlog_row_value_options": None})


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("sql_log_bin", 0, "take sql_log_bin out of @@GLOBAL.init_connect"),
        ("rbr_exec_mode", "IDEMPOTENT", "take rbr_exec_mode out of @@GLOBAL.init_connect"),
        ("gtid_next", "ANONYMOUS", "take gtid_next out of @@GLOBAL.init_connect"),
        ("binlog_transaction_compression", 1, "SET PERSIST binlog_transaction_compression = 0,"),
        ("binlog_row_image", "MINIMAL", "SET PERSIST binlog_row_image = 'FULL',"),
        ("binlog_row_value_options", "PARTIAL_JSON", "SET PERSIST binlog_row_value_options = '',"),
        ("innodb_rollback_on_timeout", 1, "start the server with innodb_rollback_on_timeout = OFF"),
        ("replica_skip_errors", "1062", "start the server with replica_skip_errors = OFF"),
    ],
)
def test_another_value_is_refused_with_a_statement_that_the_server_takes(
    variable: str, value: object, remedy: str
) -> None:
    with pytest.raises(Refused, match=f"one: variable {variable} is '{value}'") as refused:
        require_asserted("one", RIGHT | {variable: value})
    assert refused.value.remedy.startswith(remedy)
    assert "SET GLOBAL" not in refused.value.remedy
