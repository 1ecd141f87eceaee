"""Names and globs that say which tables are replicated.

Theory of operation.  A pattern is ``schema.table``.  In either part ``*`` stands
for any characters, none included, and ``?`` for exactly one; everything else is
literal and case counts, because the name in a binlog is exact.  A part in
backticks is literal throughout (``` `a.b`.`c*` ```; a backtick inside is doubled),
so every name that MySQL allows can be written.

Some schemas are never replicated, whatever a pattern says: MySQL's own, and the
mesh's bookkeeping, which each region keeps for itself.
"""

import functools
import re
from collections.abc import Callable

NEVER_REPLICATED = frozenset(
    {"information_schema", "meshnode", "mysql", "ndbinfo", "performance_schema", "sys"}
)
"""Schemas that no pattern reaches, in lower case."""

_PART = r"(?:`(?:[^`\x00]|``)+`|[^`.\s\x00]+)"
_PATTERN = re.compile(rf"({_PART})\.({_PART})")

Selector = Callable[[str, str], bool]


def parse(pattern: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the expressions for schema and table; ValueError where it is no pattern."""
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError(pattern)
    return _expression(found[1]), _expression(found[2])


def names_only_unreplicated(pattern: str) -> bool:
    """Tell whether the schema part is, letter for letter, one that is never replicated."""
    schema = pattern.partition(".")[0].strip("`")
    return schema.lower() in NEVER_REPLICATED


@functools.lru_cache(maxsize=64)
def selector(tables: tuple[str, ...], exclude: tuple[str, ...]) -> Selector:
    """Return ``(schema, table) -> bool`` for valid patterns: in ``tables``, not in ``exclude``."""
    wanted = [parse(pattern) for pattern in tables]
    unwanted = [parse(pattern) for pattern in exclude]

    def select(schema: str, table: str) -> bool:
        if schema.lower() in NEVER_REPLICATED:
            return False
        return _any(wanted, schema, table) and not _any(unwanted, schema, table)

    return select


def _any(patterns: list[tuple[re.Pattern[str], re.Pattern[str]]], schema: str, table: str) -> bool:
    return any(s.fullmatch(schema) and t.fullmatch(table) for s, t in patterns)


def _expression(part: str) -> re.Pattern[str]:
    if part.startswith("`"):
        return re.compile(re.escape(part[1:-1].replace("``", "`")), re.DOTALL)
    first, *rest = (_fixed(piece) for piece in re.split(r"\*+", part))
    if not rest:
        return re.compile(first, re.DOTALL)
    # The leftmost place of a middle piece is as good as any other, so it is never given
    # back (atomic group): without that, many stars could take hours to fail.
    *middle, last = rest
    expression = first + "".join(f"(?>.*?{piece})" for piece in middle) + ".*" + last
    return re.compile(expression, re.DOTALL)


def _fixed(piece: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in piece)
