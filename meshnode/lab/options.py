"""The server variables of a mesh server in the lab.

Theory of operation.  The first group is what the mesh requires: its node
refuses a server without them.  The second makes many servers fit on one small
machine.  A server's own options go over both.
"""

from collections.abc import Mapping

Option = str | int | bool | None


def mesh_options(server_id: int, auto_increment: tuple[int, int]) -> dict[str, Option]:
    """The defaults for one server, by variable name."""
    increment, offset = auto_increment
    return {
        "server_id": server_id,
        "auto_increment_increment": increment,
        "auto_increment_offset": offset,
        "gtid_mode": True,
        "enforce_gtid_consistency": True,
        "log_bin": "binlog",
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "sync_binlog": 1,
        "innodb_flush_log_at_trx_commit": 1,
        # `init` makes triggers without SUPER; a server started without its persisted variables
        # would forget that.
        "log_bin_trust_function_creators": True,
        "max_allowed_packet": 2**30,
        "skip_name_resolve": True,
        "local_infile": False,
        # Packagers point it at a folder that need not exist, and the server then aborts.
        "secure_file_priv": "NULL",
        "mysqlx": False,
        "performance_schema": False,
        "innodb_buffer_pool_size": 64 * 2**20,
        # Its default of 64 MB since 8.4 is resident from the start.
        "innodb_log_buffer_size": 16 * 2**20,
        # Since 8.0.30; "loose" lets an older server pass over it.
        "loose_innodb_redo_log_capacity": 64 * 2**20,
        "innodb_buffer_pool_dump_at_shutdown": False,
        "innodb_buffer_pool_load_at_startup": False,
    }


def command_line(options: Mapping[str, Option]) -> list[str]:
    """``--name=value`` for each option; those with the value None are left out."""
    return [f"--{name}={_text(value)}" for name, value in options.items() if value is not None]


def _text(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    return str(value)
