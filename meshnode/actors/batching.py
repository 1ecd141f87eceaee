"""How much of what waits is applied in one transaction.

Theory of operation.  A transaction costs a few round trips whatever is in it, so a batch is as
large as the limits allow.  It ends where the images after it could not go into the same
transaction: before another format description, and before another form of one of its
tables.  A huge transaction and the end of a stream stand alone.  Runs and single items are
mixed only while they are few: together they go the long way, and the runs lose their pace.
"""

from collections.abc import Iterable

from meshnode.actors.intake import Ready
from meshnode.core.change import Table, in_form

APART_ROWS = 500
"""From so many rows on a batch ends where runs end or begin: together they go the long way."""


def next_batch(pending: Iterable[Ready], items: int, most_rows: int) -> list[Ready]:
    """The next batch: whole items of one format, one form of each table, within budget.

    Never empty where something waits.
    """
    batch: list[Ready] = []
    rows = 0
    forms: dict[str, Table] = {}
    format_bytes = b""
    runs = False
    for ready in pending:
        if batch and (
            len(batch) >= items
            or rows + ready.rows > most_rows
            or ready.huge is not None
            or batch[0].huge is not None
            or ready.refusal is not None
            or (ready.format and format_bytes and ready.format != format_bytes)
        ):
            break
        same = in_form(ready.used, forms)
        if batch and not same:
            break
        if ready.rows:
            run = ready.segments is not None
            if rows >= APART_ROWS and run != runs:
                break
            runs = run
        batch.append(ready)
        rows += ready.rows
        format_bytes = format_bytes or ready.format
    return batch
