"""What a plain workload costs in extra work: nothing.

Clients in both regions write at full speed, each to keys of its own: inserts,
updates, deletes, ``REPLACE``, ``INSERT ... ON DUPLICATE KEY UPDATE``, deletes and key
changes that cascade through a foreign key, transactions of several statements, and keys
that come back right after their delete.  Nobody writes a key of another client,
so nothing may conflict, and every stamp that the triggers gave must stand: no
lift, nothing held back, nothing overtaken, no late tombstone, nothing parked.

    python -m bench.plain [--seconds S] [--clients N]

prints one JSON object with the counters of both nodes; exit code 1 if one that
must be 0 is not, or the regions differ.
"""

import argparse
import asyncio
import json
import random
import threading
import time
from collections import Counter
from typing import Any

from bench.pair import NAMES, SCHEMA, Server, machine, pair_of, progress

MUST_BE_ZERO = (
    "lifts", "held", "overtaken", "conflicts", "late_tombstones", "parked", "replans",
)  # fmt: skip
RETRIED = frozenset({1213, 1205})
TABLES = (
    f"CREATE TABLE {SCHEMA}.item (client INT, n INT, amount INT, note VARCHAR(100),"
    " at DATETIME(6), PRIMARY KEY (client, n))",
    f"CREATE TABLE {SCHEMA}.word (word VARCHAR(60) PRIMARY KEY, seen INT)",
    f"CREATE TABLE {SCHEMA}.parent (id BIGINT PRIMARY KEY, name VARCHAR(50))",
    f"CREATE TABLE {SCHEMA}.child (id BIGINT PRIMARY KEY, parent BIGINT NOT NULL, doc JSON,"
    f" FOREIGN KEY (parent) REFERENCES {SCHEMA}.parent (id)"
    " ON DELETE CASCADE ON UPDATE CASCADE)",
)
KEYS = 40


class Client:
    """One connection with keys of its own; ``number`` is unique in the mesh."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._number = number
        self._random = random.Random(number)
        self._next = number * 10_000_000
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self, deadline: float) -> None:
        """Write until the deadline (monotonic seconds)."""
        try:
            with self._server.connect(database=SCHEMA) as sql, sql.cursor() as cursor:
                while time.monotonic() < deadline:
                    kind = self._random.choice(tuple(KINDS))
                    self._transaction(cursor, kind)
        except BaseException as error:
            self.failure = error

    def _transaction(self, cursor: Any, kind: str) -> None:
        statements = KINDS[kind](self)
        while True:
            try:
                cursor.execute("START TRANSACTION")
                for statement in statements:
                    cursor.execute(statement)
                cursor.execute("COMMIT")
            except Exception as error:
                if error.args and error.args[0] in RETRIED:
                    cursor.execute("ROLLBACK")
                    self.done["retried"] += 1
                    continue
                raise
            self.done[kind] += 1
            return

    def _key(self) -> str:
        return f"{self._number}, {self._random.randrange(KEYS)}"

    def _where(self) -> str:
        return f"client = {self._number} AND n = {self._random.randrange(KEYS)}"

    def _values(self) -> str:
        return f"{self._key()}, {self._random.randrange(1000)}, 'some text', NOW(6)"

    def _word(self) -> str:
        return f"'Wort {self._number} {self._random.choice('abcdefghij')}'"

    def insert_once(self) -> list[str]:
        return [f"INSERT IGNORE INTO item VALUES ({self._values()})"]

    def update(self) -> list[str]:
        return [f"UPDATE item SET amount = amount + 1, at = NOW(6) WHERE {self._where()}"]

    def delete(self) -> list[str]:
        return [f"DELETE FROM item WHERE {self._where()}"]

    def replace(self) -> list[str]:
        return [f"REPLACE INTO item VALUES ({self._values()})"]

    def replace_many(self) -> list[str]:
        many = ", ".join(
            f"({self._number}, {n}, 1, 'many', NOW(6))" for n in self._random.sample(range(KEYS), 8)
        )
        return [f"REPLACE INTO item VALUES {many}"]

    def on_duplicate(self) -> list[str]:
        return [
            f"INSERT INTO word VALUES ({self._word()}, 1) ON DUPLICATE KEY UPDATE seen = seen + 1"
        ]

    def delete_and_insert(self) -> list[str]:
        key = self._key()
        client, n = key.split(", ")
        return [
            f"DELETE FROM item WHERE client = {client} AND n = {n}",
            f"INSERT INTO item VALUES ({key}, 7, 'again', NOW(6))",
        ]

    def word_delete(self) -> list[str]:
        return [f"DELETE FROM word WHERE word = {self._word()}"]

    def family(self) -> list[str]:
        self._next += 1
        parent, first = self._next, self._next * 10
        return [
            f"INSERT INTO parent VALUES ({parent}, 'family')",
            *(
                f"INSERT INTO child VALUES ({first + at}, {parent}, JSON_OBJECT('n', {at}))"
                for at in range(3)
            ),
        ]

    def cascade_delete(self) -> list[str]:
        return [f"DELETE FROM parent WHERE id = {self._old()}"]

    def cascade_update(self) -> list[str]:
        old = self._old()
        self._next += 1
        return [f"UPDATE parent SET id = {self._next} WHERE id = {old}"]

    def _old(self) -> int:
        lowest = self._number * 10_000_000
        return self._random.randint(max(lowest, self._next - 20), max(lowest, self._next))


KINDS = {
    name: getattr(Client, name)
    for name in (
        "insert_once", "update", "delete", "replace", "replace_many", "on_duplicate",
        "delete_and_insert", "word_delete", "family", "cascade_delete", "cascade_update",
    )
}  # fmt: skip


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    with pair_of(options={"enable_cascade_triggers": True}, folder=args.dir) as pair:
        await pair.start_servers()
        await pair.install(*TABLES)
        pair.start_nodes()
        pair.settle()
        before = pair.counts()
        progress(f"writing for {args.seconds:g} s")
        clients = [
            Client(server, at * 100 + number + 1)
            for at, server in enumerate(pair.servers)
            for number in range(args.clients)
        ]
        deadline = time.monotonic() + args.seconds
        threads = [threading.Thread(target=each.run, args=(deadline,)) for each in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients:
            if client.failure is not None:
                raise client.failure
        begun = time.monotonic()
        pair.settle()
        settled = time.monotonic() - begun
        counts = pair.counts()
        states = [pair.states(at) for at in (0, 1)]
        tables = {
            name: pair.checksums(f"{SCHEMA}.{name}") for name in ("item", "word", "parent", "child")
        }
        pair.stop_nodes()
        written = sum((client.done for client in clients), Counter())
        found = {
            name: sum(counts[each].get(name, 0) - before[each].get(name, 0) for each in NAMES)
            for name in MUST_BE_ZERO
        }
        return {
            "benchmark": "plain",
            **machine(pair),
            "seconds": args.seconds,
            "clients_in_each_region": args.clients,
            "transactions": dict(sorted(written.items())),
            "settle_seconds": round(settled, 2),
            "must_be_zero": found,
            "counts": counts,
            "states": states,
            "identical": all(len(set(each)) == 1 for each in tables.values()),
        }


def main() -> int:
    """Run and print; 1 when something was mended or the regions differ."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.plain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S")
    parser.add_argument("--clients", type=int, default=4, metavar="N", help="in each region")
    parser.add_argument("--dir", default=None, help="where the servers' files go for the time")
    found = asyncio.run(run(parser.parse_args()))
    print(json.dumps(found, indent=1))
    return 0 if found["identical"] and not any(found["must_be_zero"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
