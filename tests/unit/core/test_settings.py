"""The settings a server must run with."""

import pytest

from meshnode.core.settings import SETTINGS, unfit

RIGHT = {setting.variable: setting.value for setting in SETTINGS}


def test_right_settings_are_fit_in_any_spelling():
    assert unfit(RIGHT) == []
    assert unfit({**RIGHT, "binlog_format": "row"}) == []


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
def test_each_wrong_one_is_named_with_its_value_and_remedy(setting):
    (found,) = unfit({**RIGHT, setting.variable: "7"})
    assert found.setting is setting
    assert str(found).startswith(f"{setting.variable} is '7': ")
    assert setting.variable in setting.remedy


@pytest.mark.parametrize("variable", ["replica_skip_errors", "innodb_rollback_on_timeout"])
def test_what_a_server_reads_when_it_starts_is_set_right_by_a_start(variable):
    (found,) = unfit({**RIGHT, variable: "1"})
    assert found.setting.remedy == f"start the server with {variable} = OFF"


def test_a_variable_that_the_server_does_not_have_is_not_wrong():
    assert unfit({}) == []


def test_what_decides_whether_commits_outlive_a_crash():
    durable = {setting.variable for setting in SETTINGS if setting.durable}
    assert durable == {"sync_binlog", "innodb_flush_log_at_trx_commit"}
