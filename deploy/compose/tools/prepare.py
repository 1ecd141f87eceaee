"""What an operator does before ``meshnode init``: accounts and the application's tables.

Makes in each region's MySQL the mesh's three accounts, with the passwords of the
environment, and the lab's tables.  What is there already stays, so it may run at each start.
"""

import asyncio
import sys

import servers

from meshnode import accounts
from meshnode.errors import MeshError
from meshnode.lab import schema
from meshnode.mysql.control import Control, connect_to
from meshnode.ops import grants
from meshnode.topology import ROLES, Region, Topology


async def prepare(topology: Topology, region: Region) -> None:
    """Make accounts and tables in one region."""
    logins = {role: accounts.secrets(topology, region.name, role) for role in ROLES}
    async with await connect_to(region.mysql, servers.root(), server=region.name) as control:
        # What a region is given before the mesh comes is no change to be replicated.
        await control.execute("SET SESSION sql_log_bin = 0")
        await grants.create_accounts(control, logins, [schema.SCHEMA])
        await control.execute("SET SESSION sql_log_bin = 1")
        await _tables(control)
    print(f"{region.name}: accounts and tables are there", flush=True)


async def _tables(control: Control) -> None:
    database, *_ = schema.statements()
    if not await control.row(
        "SELECT 1 FROM information_schema.schemata WHERE schema_name = %s", (schema.SCHEMA,)
    ):
        await control.execute(database)
    found = await control.rows(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s",
        (schema.SCHEMA,),
    )
    there = {name for (name,) in found}
    for name, statement in schema.TABLES.items():
        if name not in there:
            await control.execute(statement)


async def main() -> None:
    topology = servers.topology()
    await asyncio.gather(*(prepare(topology, region) for region in topology.regions))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except MeshError as error:
        sys.exit(f"prepare: {error}")
