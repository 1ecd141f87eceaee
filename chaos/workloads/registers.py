"""W1: registers that all regions write; every answered write must be accounted for.

Theory of operation.  Each transaction has a token.  It inserts the token into ``tokens``,
which nobody ever changes, and writes one of a few hot rows: it appends the token to the row's
``trail``, or deletes or replaces the row.  So each version of a hot row names all versions that
it was written over, and where a write has gone can be read from what is left: it is in the trail
of the final row, in the trail of an image that some ``conflict_log`` keeps, or in a trail that a
client has deliberately wiped out.  A write that was answered and is in none of them was lost.
"""

from collections import defaultdict

import orjson

from chaos.workloads.base import Client, Connect, Workload, everywhere
from meshnode.mysql.control import Control

HOT_ROWS = 12
DELETES, REPLACES = 0.06, 0.06


class Registers(Workload):
    name = "W1"
    about = "unique-value registers on hot keys, all regions"
    tables = (
        "CREATE TABLE chaos.tokens (token VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin"
        " PRIMARY KEY, region INT NOT NULL)",
        "CREATE TABLE chaos.hot (id INT PRIMARY KEY, trail MEDIUMTEXT NOT NULL, n INT NOT NULL)",
    )

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.wiped: dict[int, set[str]] = defaultdict(set)

    async def write(self, client: Client, control: Control) -> None:
        token, key, kind = client.token(), client.draw.randrange(HOT_ROWS), client.draw.random()
        await control.execute("START TRANSACTION")
        await control.execute(
            "INSERT INTO chaos.tokens (token, region) VALUES (%s, @@server_id)", (token,)
        )
        gone = None
        if kind < DELETES + REPLACES:
            gone = await control.value(
                "SELECT trail FROM chaos.hot WHERE id = %s FOR UPDATE", (key,)
            )
        deletes = gone is not None and kind < DELETES
        if deletes:
            await control.execute("DELETE FROM chaos.hot WHERE id = %s", (key,))
        elif gone is not None:
            await control.execute(
                "REPLACE INTO chaos.hot (id, trail, n) VALUES (%s, %s, 1)", (key, token)
            )
        else:
            # Also where a row was to go and none was there to lock: one that has come since must
            # not be wiped unseen.
            await control.execute(
                "INSERT INTO chaos.hot (id, trail, n) VALUES (%s, %s, 1) ON DUPLICATE KEY UPDATE"
                " trail = CONCAT(trail, ' ', VALUES(trail)), n = n + 1",
                (key, token),
            )
        if gone:
            # Also if the answer is lost: the trail may be gone then.
            self.wiped[key].update(gone.split())
        if deletes:
            self.wiped[key].add(token)
        await self.commit(client, control, token, key)

    async def judge(self, connect: Connect) -> None:
        found: dict[int, set[str]] = defaultdict(set)
        # All regions are identical; the check of convergence says so.
        first = self.regions[:1]
        rows = (await everywhere(connect, first, "SELECT token FROM chaos.tokens"))[first[0]]
        tokens = {row[0] for row in rows}
        for key, trail in (await everywhere(connect, first, "SELECT id, trail FROM chaos.hot"))[
            first[0]
        ]:
            found[key].update(trail.split())
        logged = await everywhere(
            connect,
            self.regions,
            "SELECT loser_image FROM meshnode.conflict_log"
            " WHERE schema_name = 'chaos' AND table_name = 'hot' AND loser_image IS NOT NULL",
        )
        for (image,) in (row for rows in logged.values() for row in rows):
            row = orjson.loads(image)
            found[int(row["id"])].update(row["trail"].split())
        for key, tokens_wiped in self.wiped.items():
            found[key] |= tokens_wiped
        known: set[str] = set()
        for client in self.clients:
            known |= client.acknowledged.keys() | client.unsure.keys()
            missing = client.acknowledged.keys() - tokens
            if missing:
                self.find("I2", f"{client.name}: answered but nowhere: {sorted(missing)[:5]}")
            lost = [token for token, key in client.acknowledged.items() if token not in found[key]]
            if lost:
                self.find("I2", f"{client.name}: lost without a record: {lost[:5]}")
        if strange := tokens - known:
            self.find("I4", f"rows that nobody wrote: {sorted(strange)[:5]}")
