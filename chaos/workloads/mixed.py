"""W6: SQL of every kind: what an application does, and what is hard on a replicator.

Three of four transactions are those of the lab's application (:mod:`meshnode.lab.operations`):
cascades, REPLACE, keys that change, spellings of one key.  The others work on ``mixed``: rows
that swap keys, savepoints rolled back, a stored function that writes, many rows at once.
"""

from chaos.workloads.base import Client, Connect, Workload
from meshnode.errors import Busy, Retry
from meshnode.lab.operations import Generator, hot_rows
from meshnode.mysql.control import Control

KEYS = 30
OWN_SHARE = 0.3
HIGHEST_N = 200
TRIES = 20


class Mixed(Workload):
    name = "W6"
    about = "random SQL: key changes, swaps, cascades, functions, savepoints"
    tables = (
        "CREATE TABLE chaos.mixed (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL,"
        " n INT NOT NULL DEFAULT 0)",
        "CREATE FUNCTION chaos.touch (k INT, word VARCHAR(60)) RETURNS INT MODIFIES SQL DATA BEGIN"
        " UPDATE chaos.mixed SET n = 1, v = word WHERE id = k;"
        " UPDATE chaos.mixed SET n = 2 WHERE id = k; RETURN 1; END",
    )
    pace = 0.08

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._generators = {
            client.name: Generator(f"{client.draw.random()}", client.id) for client in self.clients
        }

    async def prepare(self, connect: Connect) -> None:
        for region in self.regions:
            async with await connect(region) as control:
                for statement in hot_rows():
                    # What the regions before have written arrives meanwhile.
                    await _insist(control, statement)

    async def write(self, client: Client, control: Control) -> None:
        token = client.token()
        if client.draw.random() < OWN_SHARE:
            statements = self._own(client, token)
        else:
            statements = self._generators[client.name].next()[1]
        await control.execute("START TRANSACTION")
        for statement in statements:
            # A literal % is no parameter's place when there are no parameters.
            await control.execute(statement)
        await self.commit(client, control, token, None)

    def _own(self, client: Client, token: str) -> list[str]:
        draw = client.draw
        a, b = draw.sample(range(KEYS), 2)
        n = draw.randrange(HIGHEST_N)
        spare = 1000 + client.id * 10 + client.number
        upsert = (
            "INSERT INTO chaos.mixed (id, v, n) VALUES"
            f" ({a}, '{token}', {n}), ({b}, '{token}', {n})"
            " ON DUPLICATE KEY UPDATE v = VALUES(v), n = VALUES(n)"
        )
        return draw.choice(
            (
                [upsert],
                [upsert],
                [f"REPLACE INTO chaos.mixed (id, v, n) VALUES ({a}, '{token}', {n})"],
                [f"DELETE FROM chaos.mixed WHERE id IN ({a}, {b})"],
                [
                    f"DELETE FROM chaos.mixed WHERE id = {spare}",
                    f"UPDATE chaos.mixed SET id = {spare} WHERE id = {a}",
                    f"UPDATE chaos.mixed SET id = {a} WHERE id = {b}",
                    f"UPDATE chaos.mixed SET id = {b} WHERE id = {spare}",
                ],
                [
                    f"UPDATE chaos.mixed SET v = '{token}' WHERE id = {a}",
                    "SAVEPOINT here",
                    f"DELETE FROM chaos.mixed WHERE id = {a}",
                    f"INSERT IGNORE INTO chaos.mixed (id, v, n) VALUES ({b}, 'undone', 0)",
                    "ROLLBACK TO SAVEPOINT here",
                    f"UPDATE chaos.mixed SET n = {n} WHERE id = {b}",
                ],
                [f"DO chaos.touch({a}, '{token}')"],
                [f"UPDATE chaos.mixed SET n = n + 1 WHERE id BETWEEN {min(a, b)} AND {max(a, b)}"],
            )
        )


async def _insist(control: Control, statement: str) -> None:
    """Run a statement of its own transaction until it meets no lock."""
    for attempt in range(TRIES):
        try:
            await control.execute(statement)
            return
        except (Busy, Retry):
            if attempt == TRIES - 1:
                raise
