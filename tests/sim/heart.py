"""The heart, which promises, and the gardener, which relies on promises."""

from meshnode.core.frontier import frontier, gc_limit
from meshnode.core.wire import Beat

from .actor import Actor
from .clockwork import Steps
from .database import APPLIED, HEARTBEAT, LETTERS, MEMBER, Deadlock, Killed, Locked


class Periodic(Actor):
    """An actor that does something now and then, and seldom when nobody writes any more."""

    def pause(self, mean: int) -> int:
        if self.region.resting:
            mean = max(mean, 1_500_000)
        return 1 + int((0.5 + self.rng.random()) * mean)


class Heart(Periodic):
    """Writes the heartbeat through the server, so that it takes its place in the binlog."""

    def run(self) -> Steps:
        yield from self.node.until_claimed()
        known = self.database.plain(None, HEARTBEAT)
        self.node.promised = max(self.node.promised, known.frontier if known else 0)
        while self.region.beating:
            try:
                if not (yield from self.beat()):
                    self.node.fenced()
                    return
            except (Locked, Deadlock, Killed):
                self.counts["heart started again"] += 1
            yield self.pause(self.region.weather.beat)

    def beat(self) -> Steps:
        """Write one heartbeat; False when the region is not this node's any more."""
        database, node = self.database, self.node
        now = database.clock
        heard = max((each.heard for each in node.appliers.values()), default=0) or None
        promise = frontier(now, self.oldest_open(), heard, node.promised)
        # Raised before the row is written: a lift meanwhile must already clear it.
        node.promised = promise
        tail = node.tail
        if node.slowness:
            yield self.step()
        tx = self.begin("beat")
        try:
            yield from self.take(tx, MEMBER)
            member = database.records[MEMBER]
            if member.epoch != node.epoch:
                database.rollback(tx)
                return node.raising
            database.set(tx, MEMBER, member._replace(tail=tail))
            yield from self.take(tx, HEARTBEAT)
            known = database.records.get(HEARTBEAT)
            beat = Beat(known.beat + 1 if known else 1, now, promise, "")
            database.set(tx, HEARTBEAT, beat)
            tx.logged.beat = beat
            if node.slowness:
                yield self.step()
        except (Locked, Deadlock, Killed):
            database.rollback(tx)
            raise
        yield from self.commit(tx)
        return True

    def oldest_open(self) -> int | None:
        """When the oldest client transaction began, by the server's clock now."""
        began = [tx.began for tx in self.database.open if tx.kind == "client"]
        return min(began) if began else None


class Gardener(Periodic):
    """Drops the tombstones that nobody can need."""

    def run(self) -> Steps:
        yield from self.node.until_claimed()
        while self.region.beating:
            yield self.pause(self.region.weather.collect)
            try:
                yield from self.collect()
            except (Locked, Deadlock, Killed):
                self.counts["gardener started again"] += 1

    def collect(self) -> Steps:
        """One round."""
        database = self.database
        peers = [database.plain(None, APPLIED + peer).frontier for peer in self.region.peers]
        parked = self.parked()
        if self.node.slowness:
            yield self.step()
        limit = gc_limit(peers, self.own_frontier(), parked)
        if not limit:
            return
        if self.node.slowness:
            yield self.step()
        tx = self.begin("gc")
        for record in sorted(each for each in database.records if each < 0):
            stamp = database.plain(tx, record)
            if stamp is None or stamp.ts > limit or not database.acquire(tx, record):
                continue
            stamp = database.records.get(record)
            if stamp is not None and stamp.ts <= limit:
                database.set(tx, record, None)
                self.counts["tombstone collected"] += 1
        if parked:
            self.counts["collected while rows are parked"] += 1
        yield from self.commit(tx)

    def own_frontier(self) -> int:
        """The own promise as it stands in the published stream."""
        return self.node.tail.frontier

    def parked(self) -> list[int]:
        """Times of the rows that wait in the dead letter."""
        letters = (
            self.database.plain(None, record)
            for record in list(self.database.records)
            if record >= LETTERS
        )
        return [
            letter.stamp[0]
            for letter in letters
            if letter is not None and letter.state in ("open", "replay")
        ]
