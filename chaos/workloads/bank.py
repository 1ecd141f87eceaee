"""W4: a bank in each region, read everywhere: a transfer is seen whole or not at all.

Accounts are moved by clients of their own region only, so nothing of a transfer can lose.  A
reader takes both halves of the accounts with two statements in one snapshot.
"""

from typing import ClassVar

from chaos.workloads.base import Client, Connect, Workload, everywhere
from meshnode.mysql.control import Control

ACCOUNTS = 8
EACH = 1000


class Bank(Workload):
    name = "W4"
    about = "a bank per region, read everywhere in snapshots"
    tables = (
        "CREATE TABLE chaos.bank (region INT NOT NULL, account INT NOT NULL,"
        " balance BIGINT NOT NULL, PRIMARY KEY (region, account))",
    )
    reads_wanted = True
    query: ClassVar[str] = "SELECT region, SUM(balance) FROM chaos.bank GROUP BY region"

    async def prepare(self, connect: Connect) -> None:
        for place, region in enumerate(self.regions, 1):
            values = ",".join(f"({place}, {account}, {EACH})" for account in range(ACCOUNTS))
            async with await connect(region) as control:
                await control.execute(f"INSERT INTO chaos.bank VALUES {values}")

    async def write(self, client: Client, control: Control) -> None:
        token = client.token()
        source, target = client.draw.sample(range(ACCOUNTS), 2)
        amount = client.draw.randint(1, 20)
        await control.execute("START TRANSACTION")
        for account, change in ((source, -amount), (target, amount)):
            await control.execute(
                "UPDATE chaos.bank SET balance = balance + %s WHERE region = %s AND account = %s",
                (change, client.id, account),
            )
        await self.commit(client, control, token, None)

    async def look(self, region: str, control: Control) -> None:
        await control.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await control.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        totals: dict[int, int] = {}
        for half in ("<", ">="):
            for bank, total in await control.rows(
                "SELECT region, SUM(balance) FROM chaos.bank"
                f" WHERE account {half} {ACCOUNTS // 2} GROUP BY region"
            ):
                totals[bank] = totals.get(bank, 0) + int(total)
        await control.execute("COMMIT")
        for bank, text in self._wrong(region, totals):
            self.suspect("I6", text, self.regions[bank - 1])

    @staticmethod
    def _wrong(region: str, totals: dict[int, int]) -> list[tuple[int, str]]:
        return [
            (bank, f"{region}: the bank of region {bank} holds {total}")
            for bank, total in totals.items()
            if total != ACCOUNTS * EACH
        ]

    async def judge(self, connect: Connect) -> None:
        for region, rows in (await everywhere(connect, self.regions, self.query)).items():
            for _, text in self._wrong(region, {bank: int(total) for bank, total in rows}):
                self.find("I6", text)
            if len(rows) != len(self.regions):
                self.find("I2", f"{region}: {len(rows)} banks of {len(self.regions)}")
