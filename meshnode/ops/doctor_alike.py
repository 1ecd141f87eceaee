"""Checks between regions: are the replicated tables there in all of them, and alike.

An applier asks the same of each table of a stream (:mod:`meshnode.actors.fitting`), but only when
rows of it come; these checks tell before.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from meshnode.core.shape import Unfit
from meshnode.mysql.catalog import Table, fits
from meshnode.ops.checks import Context, Finding, Level

CHANGING = "docs/OPERATING.md, 'Changing a table'"


def shapes(contexts: Sequence[Context]) -> list[Finding]:
    """Tables that do not fit in either direction, and those whose rows wait in one of them."""
    found = []
    for one, two, mine, theirs in _pairs(contexts):
        there, back = fits(mine, theirs), fits(theirs, mine)
        if isinstance(there, Unfit) and isinstance(back, Unfit):
            found.append(
                two.finding(
                    "shapes",
                    Level.REFUSE,
                    mine.name,
                    f"does not fit the table in region {one.region.name}: {there.reason}",
                    "make the definitions equal; until then its stream waits",
                )
            )
            continue
        for fit, here, source in ((there, two, one), (back, one, two)):
            if isinstance(fit, Unfit):
                found.append(
                    here.finding(
                        "shapes",
                        Level.WARN,
                        mine.name,
                        f"rows of region {source.region.name} wait here: {fit.reason}",
                        f"make the definitions equal ({CHANGING})",
                    )
                )
    return found


def generated(contexts: Sequence[Context]) -> list[Finding]:
    """Columns that are generated in one region only, or by another expression.

    The latter is a warning: releases of MySQL may spell one expression in several ways.
    """
    found = []
    for one, two, mine, theirs in _pairs(contexts):
        ours, others = mine.expressions, theirs.expressions
        shared = {column.name for column in mine.shape.columns} & {
            column.name for column in theirs.shape.columns
        }
        for name in sorted((ours.keys() | others.keys()) & shared):
            if ours.get(name) == others.get(name):
                continue
            both = name in ours and name in others
            what = " and ".join(
                f"`{name}` is {f'generated as {text}' if text else 'no generated column'} {where}"
                for text, where in (
                    (others.get(name), "here"),
                    (ours.get(name), f"in region {one.region.name}"),
                )
            )
            found.append(
                two.finding(
                    "generated-columns",
                    Level.WARN if both else Level.REFUSE,
                    mine.name,
                    f"{what}: clients may read other values here",
                    f"make the definitions equal ({CHANGING})",
                )
            )
    return found


def everywhere(contexts: Sequence[Context]) -> list[Finding]:
    """Tables that some regions replicate and others do not, whose appliers halt at them."""
    found = []
    sources = {name: each.region.name for each in reversed(contexts) for name in each.active}
    for here in contexts:
        for name in sorted(sources.keys() - here.active):
            if not here.topology.matches(*name):
                continue
            missing = "" if name in here.tables else ", and is not on this server"
            found.append(
                here.finding(
                    "everywhere",
                    Level.REFUSE,
                    ".".join(name),
                    f"is replicated in region {sources[name]} and not here{missing}: its"
                    " stream halts here at the first change of it",
                    "create it here as it is there if it is missing, then run `meshnode init`",
                )
            )
    return found


def _pairs(contexts: Sequence[Context]) -> Iterator[tuple[Context, Context, Table, Table]]:
    """Each table that two regions replicate and have, as it is in the one and in the other."""
    for one, two in combinations(contexts, 2):
        for name in sorted(one.active & two.active):
            mine, theirs = one.tables.get(name), two.tables.get(name)
            if mine is not None and theirs is not None:
                yield one, two, mine, theirs
