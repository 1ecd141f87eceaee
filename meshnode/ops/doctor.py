"""``meshnode doctor``: is a region fit to run, and what must be done if not.

Everything a check needs is read once into a :class:`~meshnode.ops.checks.Context`; then
each registered check answers for itself.  A region that cannot be reached or entered
is a finding too, named ``connection`` or ``login``, and ends the examination of that region,
also where it goes away in the middle.
Some faults lie between regions (two on one server, colliding numbers,
definitions that differ); :func:`examine_mesh` looks at all regions and finds those.

``meshnode run`` refuses to start on a finding of level ``refuse``.
"""

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack

from meshnode import accounts
from meshnode.errors import MeshError, Refused, Retry
from meshnode.mysql import catalog
from meshnode.mysql.control import Control, connect
from meshnode.mysql.schema import MESH_SCHEMA, quoted_table, tombstone_name
from meshnode.ops import (
    doctor_accounts,
    doctor_alike,
    doctor_bus,
    doctor_history,
    doctor_ops,
    doctor_server,
    doctor_tables,
    install_steps,
)
from meshnode.ops.checks import REGISTRY, Check, Context, Finding, Level, TriggerRow
from meshnode.ops.doctor_history import history
from meshnode.topology import ROLES, Region, Topology

__all__ = ["Finding", "Level", "examine", "examine_mesh", "history", "list_checks", "refusals"]

_CHECK_MODULES = (
    doctor_server,
    doctor_accounts,
    doctor_tables,
    doctor_ops,
    doctor_bus,
    doctor_history,
)
"""Importing them registers their checks."""

MESH_CHECKS = {
    "same-server": "no two regions are one server",
    "auto-increment-offsets": "regions that number rows step alike and start apart",
    "shapes": "replicated tables fit each other in all regions",
    "generated-columns": "generated columns are generated alike in all regions",
    "everywhere": "a table that is replicated in one region is in all of them",
}
"""Checks that look at all regions together, and what they look at."""


def list_checks() -> dict[str, str]:
    """Every check by name, with one line about it."""
    about = {"connection": "the server answers", "login": "the three accounts can log in"}
    about |= {name: check.about for name, check in REGISTRY.items()}
    return about | MESH_CHECKS


def refusals(findings: Sequence[Finding]) -> list[Finding]:
    """Those that forbid a start."""
    return [finding for finding in findings if finding.level is Level.REFUSE]


async def examine(topology: Topology, region: str, *, lab: bool = False) -> list[Finding]:
    """Run every check on one region; a check without fault gives one finding of level ok.

    With ``lab`` missing durability and an almighty account are warnings.
    """
    async with AsyncExitStack() as stack:
        findings, _ = await _examine(stack, topology, topology.region(region), lab)
        return findings


async def examine_mesh(topology: Topology, *, lab: bool = False) -> list[Finding]:
    """Run every check on every region, and those that compare regions."""
    findings: list[Finding] = []
    contexts: list[Context] = []
    async with AsyncExitStack() as stack:
        for region in topology.regions:
            found, context = await _examine(stack, topology, region, lab)
            findings += found
            if context is not None:
                contexts.append(context)
        between = [
            *_same_server(contexts),
            *_offsets(contexts),
            *doctor_alike.shapes(contexts),
            *doctor_alike.generated(contexts),
            *doctor_alike.everywhere(contexts),
        ]
        found_names = {finding.check for finding in between}
        findings += between
        findings += [
            Finding(name, Level.OK, "all regions", "", about)
            for name, about in MESH_CHECKS.items()
            if name not in found_names
        ]
    return findings


async def _examine(
    stack: AsyncExitStack, topology: Topology, region: Region, lab: bool
) -> tuple[list[Finding], Context | None]:
    findings: list[Finding] = []
    grants: dict[str, list[str]] = {}
    control: Control | None = None
    for role in ROLES:
        try:
            login = accounts.secrets(topology, region.name, role)
            session = await stack.enter_async_context(await connect(region, login))
            grants[role] = [row[0] for row in await session.rows("SHOW GRANTS")]
        except MeshError as error:
            name = "login" if isinstance(error, Refused) else "connection"
            findings.append(
                Finding(
                    name, Level.REFUSE, region.name, f"account {role}", error.what, error.remedy
                )
            )
            continue
        control = session if role == "admin" else control
    if control is None:
        return findings, None
    asked = "server"
    try:
        context = await read_context(topology, region, control, lab=lab)
        context.grants = grants
        for check in REGISTRY.values():
            asked = check.name
            findings += await _answers(check, context)
    except Retry as error:
        # No answer is no word on what was asked: it has gone away, say.
        lost = Finding("connection", Level.REFUSE, region.name, asked, error.what, error.remedy)
        return [*findings, lost], None
    return findings, context


async def _answers(check: Check, context: Context) -> list[Finding]:
    try:
        found = await check.function(context)
    except Retry:
        raise
    except MeshError as error:
        found = [context.finding(check.name, Level.REFUSE, "", error.what, error.remedy)]
    return found or [context.finding(check.name, Level.OK, "", check.about)]


async def read_context(
    topology: Topology, region: Region, control: Control, *, lab: bool = False
) -> Context:
    """Read what the checks look at; ``control`` is a session as ``admin``."""
    variables = dict(await control.rows("SHOW GLOBAL VARIABLES"))
    number = re.match(r"(\d+)\.(\d+)", variables["version"])
    assert number is not None
    context = Context(
        topology=topology,
        region=region,
        control=control,
        variables=variables,
        version=tuple(map(int, number.groups())),
        lab=lab,
    )
    for table, column in await control.rows(
        "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s"
        " ORDER BY TABLE_NAME, ORDINAL_POSITION",
        (MESH_SCHEMA,),
    ):
        context.bookkeeping[table] = (*context.bookkeeping.get(table, ()), column)
    if "tables" in context.bookkeeping:
        context.active = {
            (row[0], row[1])
            for row in await control.rows(
                f"SELECT schema_name, table_name FROM {quoted_table(MESH_SCHEMA, 'tables')}"
                " WHERE state = 'active'"
            )
        }
    for name in await catalog.base_tables(control):
        if not topology.matches(*name):
            continue
        found = await catalog.read(control, *name)
        if found is None:
            continue
        context.tables[name] = found
        if name in context.active:
            context.tombstones[name] = await catalog.read(
                control, MESH_SCHEMA, tombstone_name(*name)
            )
        context.triggers[name] = [
            TriggerRow(row[0], row[1], row[2], row[4], frozenset(row[5].split(",")), row[6])
            for row in await control.rows(install_steps.TRIGGERS, name)
        ]
    return context


def _same_server(contexts: list[Context]) -> list[Finding]:
    found, seen = [], {}
    for context in contexts:
        uuid = context.variables["server_uuid"]
        if uuid in seen:
            found.append(
                context.finding(
                    "same-server",
                    Level.REFUSE,
                    "server_uuid",
                    f"{uuid} is the server of region {seen[uuid]} too",
                    "give each region a server of its own; delete auto.cnf in a copied data folder",
                )
            )
        seen.setdefault(uuid, context.region.name)
    return found


def _offsets(contexts: list[Context]) -> list[Finding]:
    numbering = [
        context
        for context in contexts
        if any("auto_increment" in table.defaults for table in context.tables.values())
    ]
    found, seen = [], {}
    for context in numbering:
        step = int(context.variables["auto_increment_increment"])
        start = int(context.variables["auto_increment_offset"])
        first = int(numbering[0].variables["auto_increment_increment"])
        # Above the step the server does not heed an offset.
        slot = (start if start <= step else 1) % step
        if step != first:
            what = f"auto_increment_increment is {step}, in {numbering[0].region.name} {first}"
        elif slot in seen:
            what = f"auto_increment_offset {start} collides with region {seen[slot]}"
        else:
            seen[slot] = context.region.name
            continue
        found.append(
            context.finding(
                "auto-increment-offsets",
                Level.REFUSE,
                "auto_increment_offset",
                f"{what}: two regions would give one number to different rows",
                "one increment in all regions, not below their number, and an offset of its own "
                "from 1 to it in each (SET PERSIST)",
            )
        )
    return found
