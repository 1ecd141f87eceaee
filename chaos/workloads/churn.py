"""W5: insert, delete and insert again on a few keys, from everywhere.

Rows come back under tombstones, meet deletes of other regions on their way, and are replaced
and moved onto each other's keys.  What must be left is what the oracle says.
"""

from chaos.workloads.base import Client, Workload
from meshnode.mysql.control import Control

KEYS = 8


class Churn(Workload):
    name = "W5"
    about = "insert, delete, insert again on 8 keys"
    tables = ("CREATE TABLE chaos.churn (id INT PRIMARY KEY, v VARCHAR(40) NOT NULL)",)
    pace = 0.04

    async def write(self, client: Client, control: Control) -> None:
        token, draw = client.token(), client.draw
        key, other = draw.randrange(KEYS), draw.randrange(KEYS)
        statements = draw.choice(
            (
                (f"INSERT IGNORE INTO chaos.churn VALUES ({key}, '{token}')",),
                (f"DELETE FROM chaos.churn WHERE id = {key}",),
                (f"REPLACE INTO chaos.churn VALUES ({key}, '{token}')",),
                (f"UPDATE chaos.churn SET v = '{token}' WHERE id = {key}",),
                (f"UPDATE IGNORE chaos.churn SET id = {other}, v = '{token}' WHERE id = {key}",),
                (
                    f"DELETE FROM chaos.churn WHERE id = {key}",
                    f"INSERT INTO chaos.churn VALUES ({key}, '{token}')",
                ),
                (
                    f"INSERT IGNORE INTO chaos.churn VALUES ({key}, '{token}')",
                    f"DELETE FROM chaos.churn WHERE id = {key}",
                ),
            )
        )
        await control.execute("START TRANSACTION")
        for statement in statements:
            await control.execute(statement)
        await self.commit(client, control, token, None)
