"""Finding the rows of one item that can never apply here, and parking them.

The item's outcomes are tried in halves under savepoints; what fails alone goes
to ``meshnode.dead_letter`` with its image, the cause and what a replay needs, in
the transaction that moves the position.  The rest of the item applies.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from meshnode.actors.intake import Ready
from meshnode.core.check import Incoming
from meshnode.core.plan import Plan, Work, make_plan
from meshnode.mysql.leftovers import Letter
from meshnode.mysql.records import LetterRow, image_json, key_json, write_letters
from meshnode.mysql.session import RowError

DUPLICATE = 1062
"""MySQL's number for a unique value that another row has."""

if TYPE_CHECKING:
    from meshnode.actors.applier import Applier


async def apply_parking(applier: "Applier", ready: Ready) -> None:
    """Apply what can be applied of ``ready`` in the open transaction; park the rest."""
    work = applier.parking_work
    parked = await _unable(applier, work)
    shape_rows = []
    for incoming, error in parked:
        table = incoming.at[0]
        entry, image = incoming.entry, incoming.image.bytes() if incoming.image else None
        letter = Letter(1, ready.format, table.map_body, entry, image)
        charsets = applier.lookups.charsets
        shape_rows.append(
            LetterRow(
                table.shape, key_json(table.shape, entry.key, charsets), entry.stamp, error.code,
                error.what, image_json(table.shape, image, charsets),
                msgspec.msgpack.encode(letter), applier.peer.id, ready.mark.seq, ready.mark.tx_id,
            )
        )  # fmt: skip
    await write_letters(applier.applying.session, shape_rows)
    applier.board.counts["parked"] += len(parked)


async def _unable(applier: "Applier", work: Work) -> list[tuple[Incoming, RowError]]:
    """Apply what can be applied of ``work``; the outcomes that cannot, each with its error.

    A half may have failed on a unique value that a row of another half still
    held: what met a duplicate is tried again, together, as long as that helps.
    """
    parked: list[tuple[Incoming, RowError]] = []
    await _attempt(applier, work, work.incoming, parked)
    while True:
        again = [incoming for incoming, error in parked if error.code == DUPLICATE]
        left = [each for each in parked if each[1].code != DUPLICATE]
        await _attempt(applier, work, again, left)
        if len(left) == len(parked):
            return parked
        parked = left


async def _attempt(
    applier: "Applier", work: Work, incoming: Sequence[Incoming], parked: list
) -> None:
    """Apply the outcomes ``incoming``, halving what fails."""
    if not incoming:
        return
    session = applier.applying.session
    name = f"p{len(incoming)}"
    await session.query(f"SAVEPOINT {name}")
    try:
        plan = await _outcomes(applier, work, incoming)
    except RowError as error:
        await session.query(f"ROLLBACK TO SAVEPOINT {name}")
        if len(incoming) == 1:
            parked.append((incoming[0], error))
            return
        middle = len(incoming) // 2
        await _attempt(applier, work, incoming[:middle], parked)
        await _attempt(applier, work, incoming[middle:], parked)
    else:
        applier.board.counts["conflicts"] += len(plan.records)
        applier.board.counts["applied_rows"] += plan.rows


async def _outcomes(applier: "Applier", work: Work, incoming: Sequence[Incoming]) -> Plan:
    applying = applier.applying
    part = Work(work.item, work.scanned, list(incoming))
    state = await applying.lock([part], deep=True, wait=True)
    plan = make_plan([part], state, applier.board.ancestry, applier.fitting.wide, split=True)
    images = await applying.standing(plan)
    await applying.write(plan)
    await applying.look(plan)
    await applying.record(plan, images, applier.peer.id)
    return plan
