"""What a lab gives each region before the mesh comes: topology file, accounts, tables.

Passwords are made up for each region and role and lie in files of the lab's
folder, as a careful operator would have it.
"""

import re
import secrets

import msgspec

from meshnode import accounts, table_patterns
from meshnode.lab import brokers, schema
from meshnode.lab.broker import Broker
from meshnode.lab.files import write_private
from meshnode.lab.layout import Layout, Place
from meshnode.lab.processes import free_port
from meshnode.lab.servers import Server
from meshnode.lab.wan import write_cuts
from meshnode.mysql.control import connect_to
from meshnode.ops import grants
from meshnode.topology import (
    ROLES,
    Accounts,
    AccountSource,
    Bus,
    MysqlAddress,
    OpsAddress,
    Region,
    Replicate,
    Topology,
    Wan,
    load,
    render,
)

ALWAYS_REPLICATED = (f"{schema.SCHEMA}.*", "sbtest.*")
"""The lab's own tables, and those of sysbench."""

AUTO_INCREMENT_STEP = 16
"""Distance between the numbers that one server gives; the offset is the region's id."""

BUS_MAX_BYTES = 4 * 2**30

OPS = "ops"
"""The secret of a region's ops port, beside those of its accounts."""


def write_topology(
    layout: Layout,
    places: tuple[Place, ...],
    servers: dict[str, Server],
    replicate: tuple[str, ...],
    kafka: dict[str, Broker],
) -> Topology:
    """Write secrets, network control file and topology; the topology as a node reads it.

    ``replicate`` holds patterns besides the lab's own tables; without brokers in ``kafka`` the
    bus is a folder.  Raises TopologyError for a bad one.
    """
    for place in places:
        for role in (*ROLES, OPS):
            write_private(layout.secret(place.name, role), secrets.token_hex(16) + "\n")
    write_cuts(layout.control, ())
    topology = Topology(
        mesh=f"lab-{len(places)}",
        replicate=Replicate(tables=tuple(dict.fromkeys((*ALWAYS_REPLICATED, *replicate)))),
        bus=msgspec.structs.replace(
            brokers.settings(kafka)
            if kafka
            else Bus(kind="file", dir=str(layout.bus), max_bytes=BUS_MAX_BYTES),
            wan=Wan(control=str(layout.control)),
        ),
        regions=tuple(
            Region(
                id=place.id,
                name=place.name,
                mysql=MysqlAddress(host=Server.host, port=servers[place.name].port),
                ops=OpsAddress(port, token_file=str(layout.secret(place.name, OPS))),
                bus=brokers.address_of(place.name, kafka),
                accounts=Accounts(
                    **{
                        role: AccountSource(
                            user=f"mesh_{role}",
                            password_file=str(layout.secret(place.name, role)),
                        )
                        for role in ROLES
                    }
                ),
            )
            for place, port in zip(places, _ports(len(places)), strict=True)
        ),
    )
    layout.topology.write_text(render(topology))
    return load(layout.topology)


def _ports(count: int) -> list[int]:
    """As many different free ports."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


async def prepare(topology: Topology, region: str, server: Server) -> None:
    """Make the mesh's accounts and the lab's tables on a server without them."""
    places = grant_places(topology.replicate.tables)
    logins = {role: accounts.secrets(topology, region, role) for role in ROLES}
    root = accounts.Account(server.user, server.password)
    async with await connect_to(topology.region(region).mysql, root, server=region) as control:
        # What a region is given before the mesh comes is no change to be replicated.
        await control.execute("SET SESSION sql_log_bin = 0")
        literal = [name for name, glob in places if not glob]
        await grants.create_accounts(control, logins, literal)
        for pattern in [name for name, glob in places if glob]:
            for role, login in logins.items():
                privileges = ", ".join(grants.NEEDS[role].replicated)
                await control.execute(f"GRANT {privileges} ON `{pattern}`.* TO '{login.user}'@'%'")
        await control.execute("SET SESSION sql_log_bin = 1")
        for statement in schema.statements():
            await control.execute(statement)


def grant_places(patterns: tuple[str, ...]) -> list[tuple[str, bool]]:
    """The schema parts of table patterns: a name, or (True) a pattern as GRANT takes it."""
    found: dict[tuple[str, bool], None] = {}
    for pattern in patterns:
        part = re.fullmatch(r"(`(?:[^`]|``)+`|[^`.]+)\..*", pattern, re.DOTALL)
        if part is None or table_patterns.names_only_unreplicated(pattern):
            continue
        name = part[1]
        if name.startswith("`"):
            found[name[1:-1].replace("``", "`"), False] = None
        elif "*" in name or "?" in name:
            escaped = re.sub(r"([\\_%])", r"\\\1", name).replace("?", "_")
            found[re.sub(r"\*+", "%", escaped), True] = None
        else:
            found[name, False] = None
    return list(found)
