"""W2, W3, W7: what only one region writes, so that no conflict excuses a difference.

W2 inserts and never changes: strictly nothing may be lost.  W3 counts up, which a repeated or
forgotten apply would show.  W7 appends numbers, so a reader anywhere and at any moment must see
them without a gap.
"""

from typing import ClassVar

from chaos.workloads.base import Client, Connect, Workload, everywhere
from meshnode.mysql.control import Control

WRITERS = 1000
"""Room for the numbers of one region's writers."""


async def no_conflicts(load: Workload, connect: Connect, table: str) -> None:
    """Nobody wrote over anybody, so nobody may have recorded a conflict.

    Overtaken versions are no conflicts: a node that was started again may record one that was not
    lost (docs/LIMITS.md).
    """
    logged = await everywhere(
        connect,
        load.regions,
        "SELECT kind, COUNT(*) FROM meshnode.conflict_log WHERE schema_name = 'chaos'"
        f" AND table_name = '{table}' AND kind <> 'overtaken' GROUP BY kind",
    )
    for region, rows in logged.items():
        if rows:
            load.find("I4", f"{region}: conflicts on {table}, which has one writer: {rows}")


class Facts(Workload):
    """W2."""

    name = "W2"
    about = "insert-only set: strict zero loss"
    tables = (
        "CREATE TABLE chaos.facts (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        " token VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, filler CHAR(40))",
    )
    rows: ClassVar[int] = 3

    async def write(self, client: Client, control: Control) -> None:
        token = client.token()
        values = ",".join(f"('{token}.{row}', 'x')" for row in range(self.rows))
        await control.execute("START TRANSACTION")
        await control.execute(f"INSERT INTO chaos.facts (token, filler) VALUES {values}")
        await self.commit(client, control, token, None)

    async def judge(self, connect: Connect) -> None:
        known: set[str] = set()
        acknowledged: set[str] = set()
        for client in self.clients:
            acknowledged |= client.acknowledged.keys()
            known |= client.acknowledged.keys() | client.unsure.keys()
        everything = await everywhere(connect, self.regions, "SELECT token FROM chaos.facts")
        for region, rows in everything.items():
            words = [word for (word,) in rows]
            whole: dict[str, int] = {}
            for word in words:
                token = word.rpartition(".")[0]
                whole[token] = whole.get(token, 0) + 1
            if missing := acknowledged - whole.keys():
                self.find("I2", f"{region}: answered but not there: {sorted(missing)[:5]}")
            if torn := [token for token, count in whole.items() if count != self.rows]:
                self.find("I6", f"{region}: transactions by half: {sorted(torn)[:5]}")
            if len(words) != len(set(words)):
                self.find("I4", f"{region}: {len(words) - len(set(words))} rows twice")
            if strange := whole.keys() - known:
                self.find("I4", f"{region}: rows that nobody wrote: {sorted(strange)[:5]}")
        await no_conflicts(self, connect, "facts")


class Counters(Workload):
    """W3."""

    name = "W3"
    about = "counters of one region each: not idempotent"
    tables = ("CREATE TABLE chaos.counters (id INT PRIMARY KEY, n BIGINT NOT NULL)",)
    reads_wanted = True

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.seen: dict[tuple[str, int], int] = {}

    @staticmethod
    def _key(client: Client) -> int:
        return client.id * WRITERS + client.number

    async def write(self, client: Client, control: Control) -> None:
        token = client.token()
        await control.execute("START TRANSACTION")
        await control.execute(
            "INSERT INTO chaos.counters VALUES (%s, 1) ON DUPLICATE KEY UPDATE n = n + 1",
            (self._key(client),),
        )
        await self.commit(client, control, token, None)

    async def look(self, region: str, control: Control) -> None:
        for key, n in await control.rows("SELECT id, n FROM chaos.counters"):
            before = self.seen.get((region, key), 0)
            if n < before:
                self.find("I5", f"{region}: counter {key} fell from {before} to {n}")
            self.seen[region, key] = n

    async def judge(self, connect: Connect) -> None:
        everything = await everywhere(connect, self.regions, "SELECT id, n FROM chaos.counters")
        for region, rows in everything.items():
            counted = dict(rows)
            for client in self.clients:
                least = len(client.acknowledged)
                most = least + len(client.unsure)
                n = counted.get(self._key(client), 0)
                if not least <= n <= most:
                    check = "I2" if n < least else "I4"
                    self.find(check, f"{region}: {client.name} counts {n}, not {least} to {most}")
        await no_conflicts(self, connect, "counters")


class Sequences(Workload):
    """W7."""

    name = "W7"
    about = "sequence append per region: every reader sees a prefix"
    tables = (
        "CREATE TABLE chaos.sequences (writer INT NOT NULL, n BIGINT NOT NULL,"
        " PRIMARY KEY (writer, n))",
    )
    reads_wanted = True
    query: ClassVar[str] = "SELECT writer, COUNT(*), MAX(n) FROM chaos.sequences GROUP BY writer"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.at: dict[str, int] = {}

    @staticmethod
    def _writer(client: Client) -> int:
        return client.id * WRITERS + client.number

    async def write(self, client: Client, control: Control) -> None:
        writer = self._writer(client)
        if client.fresh:
            # The transaction before may have happened: only the server knows.
            self.at[client.name] = await control.value(
                "SELECT COALESCE(MAX(n), 0) FROM chaos.sequences WHERE writer = %s", (writer,)
            )
        n = self.at[client.name] + 1
        await control.execute("START TRANSACTION")
        await control.execute("INSERT INTO chaos.sequences VALUES (%s, %s)", (writer, n))
        await self.commit(client, control, str(n), None)
        self.at[client.name] = n

    async def look(self, region: str, control: Control) -> None:
        for writer, text in self._gaps(region, await control.rows(self.query)):
            self.suspect("I5", text, self.regions[writer // WRITERS - 1])

    @staticmethod
    def _gaps(region: str, rows: list[tuple]) -> list[tuple[int, str]]:
        return [
            (writer, f"{region}: of {last} numbers of {writer} {count} are there")
            for writer, count, last in rows
            if count != last
        ]

    async def judge(self, connect: Connect) -> None:
        for region, rows in (await everywhere(connect, self.regions, self.query)).items():
            for _, text in self._gaps(region, rows):
                self.find("I5", text)
            last = {writer: n for writer, _, n in rows}
            for client in self.clients:
                most = max(map(int, client.acknowledged), default=0)
                if last.get(self._writer(client), 0) < most:
                    self.find("I2", f"{region}: {client.name} was answered {most}, it has {last}")
        await no_conflicts(self, connect, "sequences")
