"""``meshnode init`` and ``--uninstall``: what the mesh adds to each region's MySQL.

The order makes it safe under traffic and while nodes run.  In all regions: the
bookkeeping; the tombstone table and the stamp columns; the triggers, BEFORE
before AFTER; the table's row in ``meshnode.tables``, and its date, for which every
region reads the table once (:mod:`meshnode.ops.activation`).  From that row on its
changes are streamed, and because the triggers stood in every region before it, every streamed
change carries a stamp.  What was there before is compared last, and each row
that is not the same everywhere is *lifted*: given a new stamp in the region
with the greatest version, whose node then publishes it (:mod:`meshnode.ops.install_data`).

Each step looks first and does what is missing, so init may be broken off and
run again.  DDL waits a few seconds for its metadata lock, gives way, and tries
again: a long transaction of a client delays init, but init does not stop the
clients behind it.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from meshnode import accounts
from meshnode.buses import bare_bus
from meshnode.core.shape import Unfit
from meshnode.errors import Refused, Retry
from meshnode.mysql import bookkeeping, catalog, control
from meshnode.mysql.schema import digest
from meshnode.ops import activation, install_data, install_steps, rejoin, retirement, table_rules
from meshnode.ops.install_data import RefusedKey
from meshnode.ops.install_steps import Statement
from meshnode.topology import Region, Topology

Report = Callable[[str], None]

SHOWN_CHARACTERS = 100
"""Of a statement that runs; a dry run shows all of it."""

BUS_SECONDS = 20.0
"""How long the bus is waited for that is asked for a topic."""

PATIENCE = 30
"""How often a statement is tried that waits for a client's lock (about 5 seconds each)."""


@dataclass(slots=True)
class InitResult:
    """What init did.

    ``statements`` are ``(region, SQL)`` in their order (in a dry run, those that it would run);
    ``lifted`` counts rows by table, ``overruled`` the rows that lose to a seed, by table and
    region; ``refused`` are keys whose rows differ and about which only
    an operator can decide; ``left`` says in words what is still to do.
    """

    tables: tuple[str, ...] = ()
    statements: list[tuple[str, str]] = field(default_factory=list)
    lifted: dict[str, int] = field(default_factory=dict)
    overruled: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: list[RefusedKey] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return not self.refused and not self.left


@dataclass(slots=True)
class Site:
    """A region with a session as ``admin``."""

    region: Region
    control: control.Control

    @property
    def name(self) -> str:
        return self.region.name


async def init(
    topology: Topology,
    regions: Sequence[str] | None = None,
    *,
    seed_from: str | None = None,
    retire: bool = False,
    dry_run: bool = False,
    report: Report = lambda line: None,
) -> InitResult:
    """Make the topology's tables replicable; ``regions`` None means all of them.

    With some regions only their local part is done; ``result.left`` says so.
    ``retire`` takes out what the topology no longer names (:mod:`meshnode.ops.retirement`).
    Raises Refused, before anything is changed, for tables that cannot be
    replicated or differ between regions, and for a new region of a running mesh
    without a seed; Retry for a region out of reach.
    """
    if seed_from is not None:
        topology.region(seed_from)
    async with AsyncExitStack() as stack:
        sites = await _open(stack, topology, regions)
        tables = await _tables(topology, sites)
        others = await _others(stack, topology, sites, report)
        every = len(sites) == len(topology.regions)
        await rejoin.refuse_unseeded(sites, others, tables, seed_from, every=every)
        result = InitResult(tables=tuple(f"{name[0]}.{name[1]}" for name in tables))
        work = _Work(result, dry_run, report)
        for site in sites:
            await work.run(site, await install_steps.bookkeeping(site.control, topology, site.name))
        if retire:
            await retirement.retire(topology, sites, work.run)
        for name in tables:
            for site in sites:
                await work.run(site, await install_steps.table(site.control, *name))
        if every and seed_from is not None:
            has_topic = partial(_has_topic, topology)
            await rejoin.rejoin(
                sites, tables, seed_from, has_topic, work.run, report, dry_run=dry_run
            )
        if not retire:
            for site in sites:
                await work.run(site, await install_steps.removal_of_strays(site.control))
        for name in tables:
            for site in sites:
                await work.run(
                    site, await install_steps.triggers(site.control, site.region.id, *name)
                )
        dated = {site.name: await activation.dated(site.control) for site in sites}
        for name in tables:
            fresh = [site for site in sites if name not in dated[site.name]]
            for site in sites:
                await work.run(site, await install_steps.activation(site.control, *name))
            await activation.date(sites, fresh, name, work.run, report, dry_run=dry_run)
        result.left += _left(topology, sites, tables, dry_run)
        if every and not dry_run:
            pulse = topology.limits.heartbeat_seconds
            await _compare(sites, tables, seed_from, pulse, result, report)
        return result


async def uninstall(
    topology: Topology,
    regions: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    report: Report = lambda line: None,
) -> InitResult:
    """Take everything out again; rows and ``SHOW CREATE TABLE`` are as before init.

    Raises Refused while a node of the region still runs.
    """
    async with AsyncExitStack() as stack:
        sites = await _open(stack, topology, regions)
        for site in sites:
            await install_steps.refuse_running_node(
                site.control, site.name, topology.limits.heartbeat_seconds
            )
        result = InitResult()
        work = _Work(result, dry_run, report)
        for site in sites:
            await work.run(site, await install_steps.removal(site.control))
        return result


class _Work:
    """Runs statements, or only notes them in a dry run."""

    def __init__(self, result: InitResult, dry_run: bool, report: Report) -> None:
        self._result = result
        self._dry_run = dry_run
        self._report = report

    async def run(self, site: Site, statements: Sequence[Statement]) -> None:
        for statement in statements:
            text = statement.text(site.control)
            self._result.statements.append((site.name, text))
            self._report(f"{site.name}: {text if self._dry_run else _shortened(text)}")
            if not self._dry_run:
                await self._patiently(site, statement)

    async def _patiently(self, site: Site, statement: Statement) -> None:
        for attempt in range(1, PATIENCE + 1):
            try:
                await statement.execute(site.control)
                return
            except Retry as error:
                if attempt == PATIENCE:
                    raise
                self._report(f"{site.name}: waiting ({attempt}): {error}")
                await asyncio.sleep(1)


def _shortened(text: str) -> str:
    """The beginning of a statement: whole triggers would hide what is going on."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 4] + " ..."


async def _open(
    stack: AsyncExitStack, topology: Topology, names: Sequence[str] | None
) -> list[Site]:
    wanted = sorted(
        (region for region in topology.regions if names is None or region.name in names),
        key=lambda region: region.id,
    )
    for name in names or ():
        topology.region(name)
    sites = []
    for region in wanted:
        login = accounts.secrets(topology, region.name, "admin")
        sites.append(
            Site(region, await stack.enter_async_context(await control.connect(region, login)))
        )
    return sites


async def _others(
    stack: AsyncExitStack, topology: Topology, sites: Sequence[Site], report: Report
) -> list[Site]:
    """The other regions, which can tell whether the mesh runs: those that can be asked."""
    if all([(await rejoin.standing(site.control)).active for site in sites]):
        return []
    asked = {site.name for site in sites}
    found = []
    for region in topology.regions:
        if region.name in asked:
            continue
        try:
            found += await _open(stack, topology, [region.name])
        except (Retry, Refused) as error:
            report(f"{region.name}: whether the mesh runs already cannot be asked there: {error}")
    return found


async def _has_topic(topology: Topology, region: str) -> bool:
    """Whether the region's topic exists; Retry or Refused where it cannot be found out."""
    bus = bare_bus(topology)
    try:
        async with asyncio.timeout(BUS_SECONDS):
            return await bus.inspect(region)
    except TimeoutError as error:
        raise Retry(f"the bus has not answered within {BUS_SECONDS:g} s") from error
    finally:
        await bus.close()


async def _tables(topology: Topology, sites: list[Site]) -> list[tuple[str, str]]:
    """The tables to replicate; Refused names every one that cannot be, and why."""
    present: dict[tuple[str, str], dict[str, catalog.Table]] = {}
    for site in sites:
        for name in await catalog.base_tables(site.control):
            if topology.matches(*name):
                found = await catalog.read(site.control, *name)
                if found is not None:
                    present.setdefault(name, {})[site.name] = found
    problems = []
    for name, found in sorted(present.items()):
        absent = [site.name for site in sites if site.name not in found]
        if absent:
            problems.append(
                f"{'.'.join(name)}: is in {', '.join(found)} and missing in {', '.join(absent)}; "
                "create it there with the same definition"
            )
        for region, table in found.items():
            problems += [
                f"{table.name} in {region}: {fault.finding}; {fault.remedy}"
                for fault in table_rules.faults(table)
            ]
        first, *others = found
        for other in others:
            mine = catalog.with_stamps(found[first])
            theirs = catalog.with_stamps(found[other])
            fit, back = catalog.fits(mine, theirs), catalog.fits(theirs, mine)
            if isinstance(fit, Unfit) and isinstance(back, Unfit):
                problems.append(f"{first} and {other} differ: {fit.reason}")
    if problems:
        raise Refused(
            "these tables cannot be replicated:\n  " + "\n  ".join(problems),
            "change them, or exclude them under [replicate] in the topology",
        )
    return sorted(present)


def _left(
    topology: Topology, sites: list[Site], tables: list[tuple[str, str]], dry_run: bool
) -> list[str]:
    left = []
    if not tables:
        patterns = ", ".join(topology.replicate.tables)
        left.append(f"no table matches {patterns}: create the tables, then run init again")
    done = {site.name for site in sites}
    others = [region.name for region in topology.regions if region.name not in done]
    if others:
        left.append(
            f"regions {', '.join(others)}: run init there, then `meshnode init --all` to compare "
            "the tables; until then rows that were there before may differ"
        )
    if dry_run:
        left.append("nothing was changed (dry run)")
    return left


async def _compare(
    sites: list[Site],
    tables: list[tuple[str, str]],
    seed_from: str | None,
    pulse: float,
    result: InitResult,
    report: Report,
) -> None:
    places = [install_data.Place(site.name, site.region.id, site.control, pulse) for site in sites]
    behind = [await rejoin.reads_from_a_snapshot(site.control) for site in sites]
    members = [site.region.id for site in sites]
    removed = [await rejoin.has_read_of_others(site.control, members) for site in sites]
    relied = not any(behind) and not any(removed)
    for name in tables:
        outcome = await install_data.align(
            places, *name, seed_from=seed_from, relies_on_streams=relied, report=report
        )
        for site in sites:
            await _note_unsettled(site, name, outcome.unsettled)
        if outcome.lifted:
            result.lifted[".".join(name)] = outcome.lifted
        if outcome.overruled:
            result.overruled[".".join(name)] = dict(outcome.overruled)
        result.refused += outcome.refused
        more = outcome.refused_count - len(outcome.refused)
        if more:
            result.left.append(f"{'.'.join(name)}: {more} more refused keys")
        if outcome.held:
            result.left.append(
                f"{'.'.join(name)}: {outcome.held} rows were locked by clients; run init again"
            )
        for (holder, other), rows in outcome.behind.items():
            result.left.append(
                f"{'.'.join(name)}: {rows} rows of {holder} may have been deleted in {other}: "
                f"{holder} has not applied all that {other} has, or has parked rows of the table; "
                "run `meshnode init --all` again when it has"
            )


async def _note_unsettled(site: Site, name: tuple[str, str], keys: int) -> None:
    """Leave word for ``meshnode status``: nobody compares whole tables for it."""
    ident = digest(*name)
    if keys:
        await site.control.execute(bookkeeping.UNSETTLE, (ident, *name, keys))
    else:
        await site.control.execute(bookkeeping.SETTLE, (ident,))
