"""The MySQL accounts of a node, and the statements that make them.

Three accounts share the work so that none can do more than its part.  ``tail`` reads
the binlog and changes nothing.  ``apply`` writes rows with the ``BINLOG`` statement: with
REPLICATION_APPLIER the server checks its table grants row event by row event, which
is the second wall around frames from outside, and which BINLOG_ADMIN or SUPER would
pull down.  ``admin`` installs and examines; it owns the triggers, which run with its rights
whoever writes, so it must outlive them.

Session variables that need SESSION_VARIABLES_ADMIN (``sql_log_bin``,
``binlog_row_image``, ``binlog_row_value_options``, ``binlog_transaction_compression``) are
read and asserted by the node, not set: an account that could set them could write
past the binlog.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshnode.accounts import Account
from meshnode.mysql.control import Control
from meshnode.mysql.schema import MESH_SCHEMA
from meshnode.topology import ROLES, Role, Topology

TRUST_TRIGGERS = "SET PERSIST log_bin_trust_function_creators = ON"
"""Lets ``admin`` create triggers while there is a binlog, without SUPER.

The rule that it lifts protects statement-based replication; rows are logged here.
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """Privileges of one account: on everything, on each replicated schema, on ``meshnode``."""

    everywhere: tuple[str, ...]
    replicated: tuple[str, ...]
    bookkeeping: tuple[str, ...]


_ROWS = ("SELECT", "INSERT", "UPDATE", "DELETE")

NEEDS: Mapping[Role, Needs] = {
    "tail": Needs(("REPLICATION SLAVE", "REPLICATION CLIENT"), ("SELECT",), ("SELECT",)),
    "apply": Needs(("PROCESS", "REPLICATION_APPLIER"), _ROWS, _ROWS),
    "admin": Needs(
        ("PROCESS", "REPLICATION CLIENT", "REPLICATION_APPLIER"),
        (*_ROWS, "CREATE", "ALTER", "TRIGGER", "LOCK TABLES", "EVENT"),
        (*_ROWS, "CREATE", "ALTER", "DROP", "LOCK TABLES"),
    ),
}

FORBIDDEN = ("SUPER", "BINLOG_ADMIN")
"""What ``apply`` must not have: with either, ``BINLOG`` ignores its table grants."""


def statements(
    role: Role, user: str, password: str, schemas: Iterable[str], host: str = "%"
) -> list[str]:
    """The statements that make one account; running them again changes nothing but the password.

    ``schemas`` are the replicated ones, by their names.
    """
    account = f"{_text(user)}@{_text(host)}"
    needs = NEEDS[role]
    made = [
        f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {_text(password)}",
        f"ALTER USER {account} IDENTIFIED BY {_text(password)}",
        f"GRANT {', '.join(needs.everywhere)} ON *.* TO {account}",
    ]
    for schema, privileges in [
        *((schema, needs.replicated) for schema in sorted(set(schemas))),
        (MESH_SCHEMA, needs.bookkeeping),
    ]:
        made.append(f"GRANT {', '.join(privileges)} ON {_schema_pattern(schema)}.* TO {account}")
    if role == "admin":
        made.append(TRUST_TRIGGERS)
    return made


def render(topology: Topology, region: str, schemas: Iterable[str], host: str = "%") -> str:
    """The script that ``meshnode init --print-grants`` prints for one region, without secrets."""
    wanted = sorted(set(schemas))
    lines = [f"-- Accounts of the mesh {topology.mesh} in region {region}; run as administrator."]
    for role in ROLES:
        user = topology.account_source(region, role).user
        lines += ["", f"-- {role}"]
        lines += [
            f"{text};" for text in statements(role, user, f"password of {role}", wanted, host)
        ]
    return "\n".join(lines) + "\n"


async def create_accounts(
    connection: Control, accounts: Mapping[Role, Account], schemas: Iterable[str], host: str = "%"
) -> None:
    """Make the given accounts, or give them the password and grants that they should have."""
    wanted = list(schemas)
    for role, account in accounts.items():
        for text in statements(role, account.user, account.password, wanted, host):
            # No parameters: the driver leaves percent signs alone then.
            await connection.execute(text)


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _schema_pattern(schema: str) -> str:
    """In a grant ``_`` and ``%`` are wildcards; here a schema is one schema."""
    escaped = schema.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    return "`" + escaped.replace("`", "``") + "`"
