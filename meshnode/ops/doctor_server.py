"""Checks of the server: its variables, its clock, and whose server it is."""

import time

from meshnode.core.settings import SETTINGS, Setting
from meshnode.mysql import bookkeeping as texts
from meshnode.mysql.memberrow import ANOTHER_SERVER_REMEDY, another_server
from meshnode.mysql.schema import MESH_SCHEMA, quoted_table
from meshnode.ops.checks import REGISTRY, Check, Context, Finding, Level, check

CLOCK_SKEW_US = 500_000
"""A server whose clock is further off than this from this machine's is named."""

PACKET_BYTES = 1 << 30


def _setting_check(setting: Setting) -> None:
    async def function(context: Context) -> list[Finding]:
        # A variable that the server does not have cannot have the wrong value.
        found = context.variables.get(setting.variable, setting.value)
        if setting.fits(found):
            return []
        level = Level.WARN if setting.durable and context.lab else Level.REFUSE
        return [
            context.finding(
                setting.check,
                level,
                setting.variable,
                f"is {found!r}: {setting.why}",
                setting.remedy,
            )
        ]

    REGISTRY[setting.check] = Check(
        setting.check, f"{setting.variable} is {setting.value or 'empty'}", function
    )


for _setting in SETTINGS:
    _setting_check(_setting)


@check("binlog-filter", "no binlog-do-db or binlog-ignore-db")
async def binlog_filter(context: Context) -> list[Finding]:
    words = "BINARY LOG STATUS" if context.version >= (8, 2) else "MASTER STATUS"
    row = await context.control.row(f"SHOW {words}")
    if row is None or not (row[2] or row[3]):
        return []
    return [
        context.finding(
            "binlog-filter",
            Level.REFUSE,
            "binlog-do-db" if row[2] else "binlog-ignore-db",
            f"is {row[2] or row[3]!r}: changes are missing from the binlog",
            "start the server without it",
        )
    ]


@check("max-allowed-packet", "max_allowed_packet is 1 GiB")
async def max_allowed_packet(context: Context) -> list[Finding]:
    size = int(context.variables["max_allowed_packet"])
    if size >= PACKET_BYTES:
        return []
    return [
        context.finding(
            "max-allowed-packet",
            Level.WARN,
            "max_allowed_packet",
            f"is {size}: a row whose event is larger in base64 would be parked",
            f"SET PERSIST max_allowed_packet = {PACKET_BYTES}",
        )
    ]


@check("clock", "the server's clock agrees with this machine's")
async def clock(context: Context) -> list[Finding]:
    before = time.time_ns() // 1000
    server = int(
        await context.control.value("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))")
    )
    after = time.time_ns() // 1000
    # Somewhere between the two lies the moment at which the server looked.
    skew = max(before - server, server - after, 0)
    if skew <= CLOCK_SKEW_US:
        return []
    return [
        context.finding(
            "clock",
            Level.WARN,
            "clock",
            f"is off by {skew / 1e6:.1f} s: between concurrent writes the region ahead wins",
            "synchronise the clocks (NTP)",
        )
    ]


@check("auto-increment", "regions number rows so that they cannot collide")
async def auto_increment(context: Context) -> list[Finding]:
    numbered = [
        table.name
        for table in context.tables.values()
        if any(default.value == "auto_increment" for default in table.defaults)
    ]
    step = int(context.variables["auto_increment_increment"])
    regions = len(context.topology.regions)
    if not numbered or step >= regions:
        return []
    return [
        context.finding(
            "auto-increment",
            Level.REFUSE,
            "auto_increment_increment",
            f"is {step} with {regions} regions: two would give one number to different rows of "
            f"{', '.join(numbered)}",
            f"SET PERSIST auto_increment_increment = {regions} or more, and another "
            "auto_increment_offset in each region",
        )
    ]


@check("bookkeeping", "schema meshnode is complete and belongs to this region")
async def bookkeeping(context: Context) -> list[Finding]:
    found = []
    for table in texts.TABLES:
        present = context.bookkeeping.get(table)
        missing = set(texts.column_names(table)) - set(present or ())
        if missing:
            what = f"lacks {', '.join(sorted(missing))}" if present else "is missing"
            found.append(
                context.finding(
                    "bookkeeping",
                    Level.REFUSE,
                    f"{MESH_SCHEMA}.{table}",
                    what,
                    "run `meshnode init`",
                )
            )
    if found:
        return found
    member = await context.control.row(
        f"SELECT mesh, region FROM {quoted_table(MESH_SCHEMA, 'member')}"
    )
    own = (context.topology.mesh, context.region.id)
    if member != own:
        what = f"is of region {member[1]} of mesh {member[0]!r}" if member else "is empty"
        found.append(
            context.finding(
                "bookkeeping",
                Level.REFUSE,
                f"{MESH_SCHEMA}.member",
                f"{what}, the topology says region {own[1]} of mesh {own[0]!r}",
                "correct the address or id in the topology, or run `meshnode init`",
            )
        )
    rows = await context.control.rows(f"SELECT origin FROM {quoted_table(MESH_SCHEMA, 'applied')}")
    lacking = {peer.id: peer.name for peer in context.topology.peers(context.region.name)}
    for (origin,) in rows:
        lacking.pop(origin, None)
    found += [
        context.finding(
            "bookkeeping",
            Level.REFUSE,
            f"{MESH_SCHEMA}.applied",
            f"has no row for region {name} ({origin})",
            "run `meshnode init`",
        )
        for origin, name in lacking.items()
    ]
    return found


@check("server-uuid", "the server is the one that was installed")
async def server_uuid(context: Context) -> list[Finding]:
    if "server_uuid" not in context.bookkeeping.get("member", ()):
        return []
    known = await context.control.value(
        f"SELECT server_uuid FROM {quoted_table(MESH_SCHEMA, 'member')}"
    )
    own = context.variables["server_uuid"]
    if known is None or known == own:
        return []
    return [
        context.finding(
            "server-uuid",
            Level.REFUSE,
            "server_uuid",
            another_server(own, str(known)),
            ANOTHER_SERVER_REMEDY,
        )
    ]
