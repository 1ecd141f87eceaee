"""What the bookkeeping tables' own rows tell the tailer as they pass in the binlog.

Theory of operation.  The binlog is the one place where a region's events stand in order, so a node
learns from it what must not be learnt too early or too late.  A heartbeat row is an item of the
stream like a transaction: its frontier holds for what follows it there.  The epoch in ``member``
says where the predecessor's part of the log ends.  It counts when the transaction that
raised it has ended, and all that was logged before it was still its predecessor's to publish.
"""

from typing import Any


class Notices:
    """Collects heartbeats and epochs for one region.

    ``epoch`` is the highest epoch of this region that the stream has shown: a
    higher one than the node's own means that another process has taken over.
    ``definitions`` counts statements that may have changed a replicated table.
    """

    def __init__(self, region: str, region_id: int) -> None:
        self.region = region
        self.region_id = region_id
        self.epoch = 0
        self.definitions = 0
        self._pending = 0

    def heartbeat(self, row: dict[str, Any]) -> tuple[int, int, int, str] | None:
        """``beat, wall_us, frontier, body`` of this region's own heartbeat row."""
        if row["region"] != self.region_id:
            return None
        return row["beat"], row["wall_us"], row["frontier"], str(row["body"])

    def member(self, row: dict[str, Any]) -> None:
        """The member row changed."""
        self._pending = max(self._pending, row["epoch"])

    def transaction_ended(self) -> None:
        """What the transaction said holds now."""
        self.epoch = max(self.epoch, self._pending)
