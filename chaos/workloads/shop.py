"""W9: what lag is measured with: YCSB-A on skewed keys, and orders of several rows.

Half of the transactions read a row, a third update one, the rest write an order with its lines
and take from the stock, as TPC-C does.
"""

from chaos.workloads.base import Client, Connect, Workload
from meshnode.mysql.control import Control

RECORDS = 300
SKEW = 2.0
LINES = 5


class Shop(Workload):
    name = "W9"
    about = "YCSB-A and orders, for lag"
    tables = (
        "CREATE TABLE chaos.records (id INT PRIMARY KEY, f0 VARCHAR(100), f1 VARCHAR(100),"
        " f2 VARCHAR(100), f3 VARCHAR(100))",
        "CREATE TABLE chaos.purchases (region INT NOT NULL, writer INT NOT NULL, n INT NOT NULL,"
        " line INT NOT NULL, record INT NOT NULL, amount INT NOT NULL,"
        " PRIMARY KEY (region, writer, n, line))",
    )
    pace = 0.03

    async def prepare(self, connect: Connect) -> None:
        values = ",".join(f"({number}, 'a', 'b', 'c', 'd')" for number in range(RECORDS))
        async with await connect(self.regions[0]) as control:
            await control.execute(f"INSERT INTO chaos.records VALUES {values}")

    async def write(self, client: Client, control: Control) -> None:
        draw = client.draw
        key = int(RECORDS * draw.random() ** SKEW)
        kind = draw.random()
        if kind < 0.5:
            await control.rows("SELECT * FROM chaos.records WHERE id = %s", (key,))
            return
        token = client.token()
        await control.execute("START TRANSACTION")
        if kind < 0.83:
            await control.execute(
                f"UPDATE chaos.records SET f{draw.randrange(4)} = %s WHERE id = %s",
                (token * 4, key),
            )
        else:
            lines = ",".join(
                f"({client.id}, {client.number}, {client.count}, {line},"
                f" {draw.randrange(RECORDS)}, {draw.randint(1, 9)})"
                for line in range(LINES)
            )
            await control.execute(f"INSERT INTO chaos.purchases VALUES {lines}")
            await control.execute("UPDATE chaos.records SET f0 = %s WHERE id = %s", (token, key))
        await self.commit(client, control, token, None)
