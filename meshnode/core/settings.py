"""Which settings a region's MySQL must run with, and what it means where one is another.

A *durable* setting decides whether a commit outlives a crash.  While one is wrong, the server
may lose what its peers have got, and then gives the same GTIDs to other transactions: nothing
may be published.  A lab may run without.  With the others wrong, rows are lost from the stream,
torn, or not applied; what is published is true all the same.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Setting(NamedTuple):
    """A system variable that must have one value; ``check`` is its name in the doctor's list."""

    check: str
    variable: str
    value: str
    why: str
    durable: bool = False
    at_start: bool = False
    """Whether the server reads it only when it starts."""

    def fits(self, found: str) -> bool:
        """Whether ``found`` (as ``SHOW GLOBAL VARIABLES`` has it) is the right value."""
        return found.upper() == self.value

    @property
    def remedy(self) -> str:
        """What sets it right."""
        if self.at_start:
            return f"start the server with {self.variable} = {self.value}"
        return f"SET PERSIST {self.variable} = {self.value or repr('')}"


_LOST = "a power cut takes back what peers have applied"

SETTINGS = (
    Setting(
        "log-bin", "log_bin", "ON", "without a binlog no change can be published", at_start=True
    ),
    Setting("binlog-format", "binlog_format", "ROW", "statements cannot be published"),
    Setting("binlog-row-image", "binlog_row_image", "FULL", "rows would lack columns"),
    Setting(
        "binlog-row-metadata", "binlog_row_metadata", "FULL", "rows would not name their columns"
    ),
    Setting(
        "binlog-row-value-options",
        "binlog_row_value_options",
        "",
        "JSON values would be logged in part",
    ),
    Setting(
        "binlog-transaction-compression",
        "binlog_transaction_compression",
        "OFF",
        "applied transactions would be compressed a second time, and read to their end",
    ),
    Setting(
        "binlog-error-action",
        "binlog_error_action",
        "ABORT_SERVER",
        "commits that cannot be logged would go on, and never be published",
    ),
    Setting(
        "binlog-order-commits",
        "binlog_order_commits",
        "ON",
        "a region that is filled from this one could begin behind changes that it was not given: "
        "they would be published, and not yet to be seen",
    ),
    # It could be set while the server runs, but only step by step, in all of them.
    Setting(
        "gtid-mode",
        "gtid_mode",
        "ON",
        "without GTIDs a stream cannot be taken up again",
        at_start=True,
    ),
    Setting(
        "skip-errors",
        "replica_skip_errors",
        "OFF",
        "it holds for applied rows, too: one that cannot stand, and all behind it, would be left "
        "out without an error",
        at_start=True,
    ),
    Setting(
        "rollback-on-timeout",
        "innodb_rollback_on_timeout",
        "OFF",
        "a lock that is not had in time would undo the whole transaction with its savepoints: "
        "no row could be set aside",
        at_start=True,
    ),
    Setting("sync-binlog", "sync_binlog", "1", _LOST, durable=True),
    Setting("flush-log-at-commit", "innodb_flush_log_at_trx_commit", "1", _LOST, durable=True),
    Setting("read-only", "read_only", "OFF", "nothing could be applied"),
    Setting("super-read-only", "super_read_only", "OFF", "nothing could be applied"),
)


class Unfit(NamedTuple):
    """A setting that has the value ``found``."""

    setting: Setting
    found: str

    def __str__(self) -> str:
        return f"{self.setting.variable} is {self.found!r}: {self.setting.why}"


def unfit(variables: Mapping[str, str]) -> list[Unfit]:
    """Those of ``variables`` (by name, as the server shows them) that must have another value.

    A variable that the server does not have cannot have the wrong one.
    """
    return [
        Unfit(setting, variables[setting.variable])
        for setting in SETTINGS
        if setting.variable in variables and not setting.fits(variables[setting.variable])
    ]
