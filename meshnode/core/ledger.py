"""Reading a region's stream: which records count, what is new, where parts end.

A frame of a dead process can still land after its successor has read the end of
the topic.  Claims settle whose frames count: a record is void if a claim with a
higher epoch stands anywhere before it.  Both the owner that takes its stream
over and every peer fold the topic with this one function, so all agree on the
numbers.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from meshnode.core.wire import PART, Claim, Frame, Item, Record
from meshnode.errors import Halt


class Published(NamedTuple):
    """A transaction in a topic: its GTID, and when it was first committed (µs since 1970)."""

    tx_id: str
    commit_us: int


@dataclass(slots=True)
class Ledger:
    """How far a stream has been read.

    ``seq`` is the last item that counts; ``epoch`` the highest claim so far.
    ``open_parts`` counts the parts seen of a transaction whose last part has
    not been seen; a claim voids them: their numbers stay used, their content
    is nothing.  ``newest`` is the last whole transaction that was taken, if any was.
    """

    name: str
    incarnation: int
    seq: int = 0
    epoch: int = 0
    open_parts: int = 0
    open_tx: str = ""
    resume: str = ""
    promised: int = 0
    newest: Published | None = None
    voided: list[int] = field(default_factory=list)

    def take(self, record: Record) -> list[Item]:
        """The items of ``record`` that are new, in order; empty for a void record or a claim.

        ``voided`` then lists the seqs of parts that a claim made void.  Raises
        :class:`Halt` on a gap, on another incarnation, and on a frame of an
        epoch that nobody claimed.
        """
        self.voided = []
        if record.incarnation != self.incarnation:
            raise Halt(
                f"the stream of {self.name} was begun anew "
                f"(incarnation {record.incarnation}, expected {self.incarnation})",
                "docs/OPERATING.md, 'A region that must be re-seeded'; after an uninstall the"
                " topics of before must be deleted: 'Removing meshnode'",
            )
        if isinstance(record, Claim):
            return self._claim(record)
        return self._frame(record)

    def _claim(self, claim: Claim) -> list[Item]:
        if claim.epoch > self.epoch:
            self.epoch = claim.epoch
            self.voided = list(range(self.seq - self.open_parts + 1, self.seq + 1))
            self.open_parts = 0
            self.open_tx = ""
        return []

    def _frame(self, frame: Frame) -> list[Item]:
        if frame.epoch < self.epoch:
            return []
        if frame.epoch > self.epoch:
            raise Halt(
                f"the stream of {self.name} has a frame of epoch {frame.epoch}, "
                f"which no claim before it opened (highest: {self.epoch})",
                "records are missing from the topic: compare it with the origin's bus storage",
            )
        fresh: list[Item] = []
        for item in frame.items:
            if item.seq <= self.seq:
                continue
            if item.seq != self.seq + 1:
                raise Halt(
                    f"the stream of {self.name} has a gap: item {item.seq} follows {self.seq}",
                    "records are missing from the topic: compare it with the origin's bus storage",
                )
            self._part(item)
            self.seq = item.seq
            if item.beat is not None:
                self.promised = max(self.promised, item.beat.frontier)
            fresh.append(item)
        self.promised = max(self.promised, frame.promised)
        if fresh:
            # Read again, an old frame says less; and it counts whole transactions only.
            self.resume = frame.resume
            for item in reversed(fresh):
                if item.last:
                    self.newest = Published(item.tx_id, item.commit_us)
                    break
        return fresh

    def _part(self, item: Item) -> None:
        if item.kind != PART:
            if self.open_parts:
                raise Halt(
                    f"the stream of {self.name} leaves transaction {self.open_tx} unfinished "
                    f"at item {item.seq}",
                    "report this: the origin's publisher broke its own order",
                )
            return
        expected_tx = self.open_tx if self.open_parts else item.tx_id
        if item.part != self.open_parts or item.tx_id != expected_tx:
            raise Halt(
                f"the stream of {self.name} has part {item.part} of {item.tx_id} where part "
                f"{self.open_parts} of {expected_tx} is due",
                "report this: the origin's publisher broke its own order",
            )
        self.open_parts = 0 if item.last else item.part + 1
        self.open_tx = "" if item.last else item.tx_id
