"""Rules of applying, switched off one at a time in the node's own code.

The stress must see each of them: otherwise its silence about the real code means nothing.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from unittest.mock import patch

from meshnode.core.plan import Form, Plan, Step
from meshnode.mysql import applying
from meshnode.mysql.apply import run
from meshnode.mysql.applying import ApplyingStatements


async def _no_look(self: ApplyingStatements, plan: Plan) -> None:
    """Commit without having looked at the other side."""


async def _delete_what_is_there(self: ApplyingStatements, plan: Plan) -> None:
    """A row below its tombstone is removed at once, although the plan has never seen it.

    Guarded by its stamp, as one would; but nobody has recorded it or put it into the plan.
    """
    wanted: dict = defaultdict(dict)
    for at in plan.removals:
        wanted[at[0]][plan.keys[at]] = at
    for table, keys in wanted.items():
        rows = await applying.read_stamps(
            self.session, self.lookups(table), table, keys, applying.FOR_UPDATE_NOWAIT
        )
        below = [(plan.keys[at], b"") for at, row in rows.items() if row < plan.removals[at]]
        if below:
            await run(self.session, [Step(table, Form.DELETE_BY_KEY, below)])
    upserts: dict = defaultdict(dict)
    for at, incoming in plan.upserts.items():
        upserts[at[0]][incoming.entry.key] = at
    for table, keys in upserts.items():
        tombs = await applying.read_stamps(
            self.session, self.lookups(table), table, keys, applying.FOR_SHARE_NOWAIT,
            tombstones=True,
        )  # fmt: skip
        below = [
            (plan.upserts[at].entry.key, b"")
            for at, tomb in tombs.items()
            if tomb > plan.upserts[at].entry.stamp
        ]
        if below:
            await run(self.session, [Step(table, Form.DELETE_BY_KEY, below)])


MUTANTS = {
    "no-look": "nothing is looked at after the write",
    "look-without-lock": "the look is a plain read",
    "guarded-delete": "a row that the plan has not seen is deleted instead of planned anew",
}


@contextlib.contextmanager
def switched_off(name: str) -> Iterator[None]:
    """Run the block with a rule off; "" leaves all on."""
    if not name:
        yield
    elif name == "no-look":
        with patch.object(ApplyingStatements, "look", _no_look):
            yield
    elif name == "look-without-lock":
        with patch.object(applying, "FOR_SHARE_NOWAIT", ""):
            yield
    elif name == "guarded-delete":
        with patch.object(ApplyingStatements, "look", _delete_what_is_there):
            yield
    else:
        raise ValueError(f"no mutant {name!r}; there are {', '.join(MUTANTS)}")
