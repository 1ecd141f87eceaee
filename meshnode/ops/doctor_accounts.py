"""Checks of the accounts: each has what it needs, and ``apply`` has not what undoes its walls.

Each account is asked for its own grants (SHOW GRANTS), which needs no privilege and
shows roles that are active at login.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from meshnode.mysql.schema import MESH_SCHEMA
from meshnode.ops.checks import Context, Finding, Level, check
from meshnode.ops.grants import FORBIDDEN, NEEDS, TRUST_TRIGGERS
from meshnode.topology import ROLES

_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?P<where>.+?) TO (?P<who>.+)", re.DOTALL)
_ALL = "ALL PRIVILEGES"


@dataclass(frozen=True, slots=True)
class Grants:
    """What SHOW GRANTS says: ``everywhere``, and pairs of a schema pattern and its privileges."""

    everywhere: frozenset[str]
    schemas: tuple[tuple[str, frozenset[str]], ...]

    def holds(self, privilege: str, schema: str | None = None) -> bool:
        """Whether the privilege is granted everywhere, or on all of ``schema``."""
        if privilege in self.everywhere or (schema and _ALL in self.everywhere):
            return True
        return schema is not None and any(
            _matches(pattern, schema) and (privilege in held or _ALL in held)
            for pattern, held in self.schemas
        )


def parse_grants(lines: Iterable[str]) -> Grants:
    """Read the lines of SHOW GRANTS; grants on single tables or columns are passed over."""
    everywhere: set[str] = set()
    schemas: list[tuple[str, frozenset[str]]] = []
    for line in lines:
        found = _GRANT.match(line)
        if found is None:
            continue
        held = frozenset(part.strip().upper() for part in found["what"].split(","))
        where = found["where"]
        if where == "*.*":
            everywhere |= held
        elif where.endswith(".*"):
            schemas.append((where[:-2].strip("`").replace("``", "`"), held))
    return Grants(frozenset(everywhere), tuple(schemas))


def _matches(pattern: str, schema: str) -> bool:
    """A schema in a grant is a LIKE pattern."""
    pieces = re.findall(r"\\.|%|_|[^\\%_]+|\\", pattern)
    expression = "".join(
        ".*"
        if piece == "%"
        else "."
        if piece == "_"
        else re.escape(re.sub(r"^\\(.)", r"\1", piece))
        for piece in pieces
    )
    return re.fullmatch(expression, schema, re.DOTALL) is not None


@check("privileges", "the three accounts have the privileges that they need")
async def privileges(context: Context) -> list[Finding]:
    schemas = sorted({name[0] for name in context.tables})
    found = []
    for role in ROLES:
        if role not in context.grants:
            continue
        grants, needs = parse_grants(context.grants[role]), NEEDS[role]
        lacking = [f"{name} ON *.*" for name in needs.everywhere if not _global(grants, name)]
        for schema, wanted in [
            *((schema, needs.replicated) for schema in schemas),
            (MESH_SCHEMA, needs.bookkeeping),
        ]:
            lacking += [
                f"{name} ON {schema}.*" for name in wanted if not grants.holds(name, schema)
            ]
        if lacking:
            found.append(
                context.finding(
                    "privileges",
                    Level.REFUSE,
                    f"account {role}",
                    f"lacks {', '.join(lacking)}",
                    "run what `meshnode init --all --print-grants` prints",
                )
            )
    return found


def _global(grants: Grants, privilege: str) -> bool:
    return grants.holds(privilege) or _ALL in grants.everywhere or "SUPER" in grants.everywhere


@check("trigger-trust", "the account admin may make triggers while there is a binlog")
async def trigger_trust(context: Context) -> list[Finding]:
    grants = parse_grants(context.grants.get("admin", ()))
    if context.variables["log_bin_trust_function_creators"] == "ON":
        return []
    if "admin" not in context.grants or {"SUPER", _ALL} & grants.everywhere:
        return []
    return [
        context.finding(
            "trigger-trust",
            Level.WARN,
            "log_bin_trust_function_creators",
            "is OFF: `meshnode init` could not make the triggers of further tables (error 1419)",
            TRUST_TRIGGERS,
        )
    ]


@check("apply-walls", "the account apply has neither SUPER nor BINLOG_ADMIN")
async def apply_walls(context: Context) -> list[Finding]:
    grants = parse_grants(context.grants.get("apply", ()))
    held = [name for name in FORBIDDEN if name in grants.everywhere]
    if _ALL in grants.everywhere:
        held.append(f"{_ALL} ON *.*")
    if not held:
        return []
    level = Level.WARN if context.lab else Level.REFUSE
    return [
        context.finding(
            "apply-walls",
            level,
            "account apply",
            f"has {', '.join(held)}: a frame could write any table of this server",
            f"revoke {', '.join(held)} from it",
        )
    ]
