"""A region's server with its clients: open transactions, triggers that stamp, a binlog.

A statement takes its locks and its stamps when it is made, as a trigger does
under the row lock; the commit may come much later.  Without triggers a delete
leaves no tombstone and a write no stamp: a cascade, or a trigger that is gone.
"""

from dataclasses import dataclass, field

from meshnode.core.change import Mended
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE

from .journal import Journal
from .model import Data, Locks, Logged, image


@dataclass
class Client:
    """An open transaction: what it did so far, uncommitted."""

    began: int
    triggers: bool
    logged: Logged
    rows: dict[int, tuple[Stamp, int] | None] = field(default_factory=dict)
    tombs: dict[int, Stamp] = field(default_factory=dict)
    made: list[tuple[int, int]] = field(default_factory=list)
    deleted: list[tuple[int, Stamp]] = field(default_factory=list)


class Database:
    """What survives a crash of the node."""

    def __init__(self, number: int, journal: Journal) -> None:
        self.number = number
        self.journal = journal
        self.now = 0
        self.skew = 0
        self.data = Data()
        self.locks = Locks()
        self.clients: list[Client] = []
        self.binlog: list[Logged] = []
        self.notes: dict[int, tuple[tuple[bytes, int, int] | None, Mended]] = {}
        self.unburied: dict[int, Stamp] = {}

    @property
    def clock(self) -> int:
        return self.now + self.skew

    def begin(self, actions: list[tuple[str, int]], triggers: bool, in_parts: bool) -> None:
        """A client's statements: each takes locks and stamps now, the commit comes later."""
        client = Client(self.clock, triggers, Logged(in_parts=in_parts))
        for what, key in actions:
            if key in self.locks.rows and key not in client.rows:
                continue
            row = client.rows.get(key, self.data.rows.get(key))
            if what == "put":
                self._put(client, key, row, triggers)
            elif row is not None:
                self._delete(client, key, row, triggers)
        if client.logged.statements:
            self.locks.rows |= client.rows.keys()
            self.locks.tombs |= client.tombs.keys()
            self.clients.append(client)

    def _put(self, client: Client, key: int, row, triggers: bool) -> None:
        value = self.journal.new_value()
        client.made.append((key, value))
        if row is None:
            new = (Stamp(self.clock, self.number) if triggers else ZERO, value)
            client.logged.statements.append((WRITE, image(key, new), []))
        else:
            stamp = Stamp(max(self.clock, row[0].ts + 1), self.number) if triggers else row[0]
            new = (stamp, value)
            client.logged.statements.append((UPDATE, image(key, row) + image(key, new), []))
        client.rows[key] = new

    def _delete(self, client: Client, key: int, row, triggers: bool) -> None:
        tombs = []
        if triggers and (key not in self.locks.tombs or key in client.tombs):
            known = client.tombs.get(key, self.data.tombs.get(key, ZERO))
            stamp = Stamp(max(self.clock, row[0].ts + 1), self.number)
            if stamp > known:
                client.tombs[key] = stamp
                tombs.append((key, stamp))
            client.deleted.append((key, stamp))
        client.deleted.append((key, Stamp(row[0].ts + 1, self.number)))
        client.logged.statements.append((DELETE, image(key, row), tombs))
        client.rows[key] = None

    def commit(self, client: Client) -> None:
        self.clients.remove(client)
        for key, row in client.rows.items():
            self.locks.rows.discard(key)
            if row is None:
                self.data.rows.pop(key, None)
            else:
                self.data.rows[key] = row
        for key, stamp in client.tombs.items():
            self.locks.tombs.discard(key)
            self.data.tombs[key] = max(stamp, self.data.tombs.get(key, ZERO))
        self.binlog.append(client.logged)
        self.journal.committed(self.number, client)

    def rollback(self, client: Client) -> None:
        self.clients.remove(client)
        self.locks.rows -= client.rows.keys()
        self.locks.tombs -= client.tombs.keys()
