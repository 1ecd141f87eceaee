"""Writing runs straight: few statements, and no row handled by itself.

An apply transaction like any other (:mod:`meshnode.mysql.applying`): the fence
first, then the rows that must exist are locked and their stamps compared with the
bases, then the images are written as they are, then the tombstones of all keys are
looked at, under locks.  What differs is only how it is asked: as whole columns, and
in two packets, or in one where every row is new.  New rows are not asked for: an
absent row cannot be locked, and one that is there makes the write fail.

Anything that is not as the runs have it raises Replan, and the caller rolls back
and goes the long way.

Where the keys of rows are neighbouring integers, ``BETWEEN`` finds the same rows
as a list of them at a quarter of the cost.  It asks for as many rows as it
expects: InnoDB would try the row behind the range, too, which is somebody else's.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from meshnode import limits
from meshnode.core.plan import FORMS, Step
from meshnode.core.runs import Segment, Touched
from meshnode.errors import Busy, Replan
from meshnode.mysql.apply import statements
from meshnode.mysql.lookup import FOR_SHARE_NOWAIT, FOR_UPDATE_NOWAIT, PROBE_KEYS, Lookup, in_order
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.session import Answer, Session

RANGE_KEYS = 32
"""Keys in a row, on the average, from which a statement for each range of them is cheaper."""


class Straight:
    """The statements that write a batch of runs, and what their answers must be.

    ``segments`` in stream order; ``tables`` what they touch.  All statements are made here, so
    that it can be done while the server is busy with those of the batch before.  Raises RowError
    where an image does not fit a statement.
    """

    def __init__(
        self,
        segments: Iterable[Segment],
        tables: Sequence[Touched],
        lookups: Lookups,
        max_packet: int,
    ) -> None:
        self._asked = [_Asked(each, lookups(each.table)) for each in tables]
        self._rows = list(statements(_steps(segments), max_packet))

    async def write(self, session: Session, opening: Sequence[bytes] = ()) -> list[Answer]:
        """Run ``opening`` and write the runs in its transaction; the answers to ``opening``.

        Raises Replan when something is not at its base; Busy, RowError and the others as
        :meth:`Session.query` does.  The caller rolls back then.
        """
        locks = [statement for asked in self._asked for statement in asked.locks]
        looks = [statement for asked in self._asked for statement in asked.look]
        opened: list[Answer] = []
        if locks:
            answers = await session.script([*opening, *locks])
            opened, answers = answers[: len(opening)], answers[len(opening) :]
            for asked in self._asked:
                own, answers = answers[: len(asked.locks)], answers[len(asked.locks) :]
                asked.require_bases(own)
        before = [] if opened else list(opening)
        before += self._rows
        probed = True
        try:
            answers = await session.script([*before, *looks])
        except Busy:
            # A tombstone is being written within a range: it may be at none of these keys.
            answers, probed = session.answers, False
            if len(answers) < len(before):
                raise
        opened = opened or answers[: len(opening)]
        answers = answers[len(before) :]
        for asked in self._asked:
            own, answers = answers[: len(asked.look)], answers[len(asked.look) :]
            if not probed or (asked.probing and any(answer.rows for answer in own)):
                own = await session.script(asked.looks())
            asked.require_no_tombstone(own)
        return opened


def _steps(segments: Iterable[Segment]) -> list[Step]:
    steps: list[Step] = []
    for segment in segments:
        form = FORMS[segment.kind]
        if steps and steps[-1].table is segment.table and steps[-1].form is form:
            steps[-1].chunks.append(segment.rows)
        else:
            steps.append(Step(segment.table, form, [segment.rows]))
    return steps


class _Asked:
    """The questions about one table."""

    def __init__(self, touched: Touched, lookup: Lookup) -> None:
        self.touched = touched
        self.lookup = lookup
        tokens = lookup.tokens(touched.keys)
        self._keys = dict(zip(tokens, touched.keys))
        self.bases = dict(zip(lookup.tokens(touched.known), touched.bases))
        self.locks = self._locks()
        self.probing = lookup.integer and len(tokens) >= PROBE_KEYS
        self.look = [self._probe()] if self.probing else self.looks()

    def _probe(self) -> bytes:
        """Whether there is any tombstone between the least key and the greatest."""
        lookup = self.lookup
        return (
            f"SELECT 1 FROM {lookup.tombstones} WHERE {lookup.columns}"
            f" BETWEEN {min(self._keys)} AND {max(self._keys)} LIMIT 1 {FOR_SHARE_NOWAIT}"
        ).encode()

    def looks(self) -> list[bytes]:
        """The tombstones of just these keys."""
        return self._lists(in_order(self._keys), self.lookup.tombstones, FOR_SHARE_NOWAIT)

    def _locks(self) -> list[bytes]:
        lookup = self.lookup
        ordered = in_order(self.bases)
        ranges = _ranges(ordered) if lookup.integer and ordered else []
        if not ranges or len(ranges) * RANGE_KEYS > len(ordered):
            return self._lists(ordered, lookup.table, FOR_UPDATE_NOWAIT)
        return [
            f"SELECT {lookup.select},_mesh_ts,_mesh_origin FROM {lookup.table}"
            f" WHERE {lookup.columns} BETWEEN {low} AND {high} LIMIT {high - low + 1}"
            f" {FOR_UPDATE_NOWAIT}".encode()
            for low, high in ranges
        ]

    def _lists(self, ordered: Sequence, source: str, lock: str) -> list[bytes]:
        lookup = self.lookup
        head = f"SELECT {lookup.select},_mesh_ts,_mesh_origin FROM {source} WHERE "
        keys = [self._keys[token] for token in ordered]
        step = limits.LOCK_KEYS
        return [
            f"{head}{lookup.where(keys[start : start + step])} {lock}".encode()
            for start in range(0, len(keys), step)
        ]

    def require_bases(self, answers: Iterable[Answer]) -> None:
        """Replan unless just the known rows are there, each at its base."""
        token = self.lookup.row_token
        found = {token(row): row[-2:] for answer in answers for row in answer.rows}
        if found != self.bases:
            raise Replan(f"{self.touched.table.title}: rows that are not at their base")

    def require_no_tombstone(self, answers: Iterable[Answer]) -> None:
        """Replan when a tombstone that was found needs a plan."""
        for row in (row for answer in answers for row in answer.rows):
            key = self._keys[self.lookup.row_token(row)]
            if not self.touched.tolerates(key, row[-2:]):
                raise Replan(f"{self.touched.table.title}: a tombstone stands beside a row")


def _ranges(ordered: Sequence[int]) -> list[tuple[int, int]]:
    """Distinct ascending integers as ranges without holes."""
    if ordered[-1] - ordered[0] + 1 == len(ordered):
        return [(ordered[0], ordered[-1])]
    breaks = [place for place, (one, after) in enumerate(pairwise(ordered), 1) if after - one != 1]
    return [
        (ordered[start], ordered[stop - 1])
        for start, stop in zip([0, *breaks], [*breaks, len(ordered)])
    ]
