"""A status as tables for a terminal."""

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from meshnode.ops.verdict import ActorStatus, Finding, PairStatus, RegionStatus, Status, moment

_QUIET = "-"


def render(status: Status) -> RenderableType:
    """The verdict, a table of regions, a table of lags, and what is wrong with which remedy."""
    return Group(_tables(status), *_findings(status))


def show(status: Status, console: Console) -> None:
    """Print it; where no terminal reads, each finding stays on one line, however long."""
    console.print(_tables(status))
    for finding in _findings(status):
        console.print(finding, soft_wrap=not console.is_terminal)


def _tables(status: Status) -> RenderableType:
    return Group(_verdict(status), _regions(status), _lags(status))


def _findings(status: Status) -> list[Text]:
    return [_finding("!", "bold red", finding) for finding in status.problems] + [
        _finding("~", "yellow", finding) for finding in status.warnings
    ]


def _verdict(status: Status) -> Text:
    word, style = ("converged", "bold green") if status.converged else ("not converged", "bold red")
    return Text.assemble(
        f"mesh {status.mesh}, {len(status.regions)} regions, {moment(int(status.at * 1e6))}: ",
        (word, style),
    )


HEADINGS = ("beat", "out/s", "in/s", "conflicts", "lifts", "parked", "skipped", "mend")
"""Short, so that a terminal of 80 columns shows all: ``beat`` in seconds since the last heartbeat,
``out`` and ``in`` are rows published and applied."""


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _regions(status: Status) -> Table:
    table = _table()
    table.add_column("region", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(" actors")
    for region in status.regions:
        table.add_row(*_region(region))
    return table


def _region(region: RegionStatus) -> list[str]:
    if region.error is not None:
        return [escape(region.name), *[_QUIET] * len(HEADINGS), " [red]out of reach[/]"]
    age = region.beat_age
    letters = region.letters
    busy = [actor for actor in region.actors if actor.state != "running"]
    return [
        escape(region.name),
        _QUIET if age is None else f"{age:.1f}",
        _rate(region, "published_rows"),
        _rate(region, "applied_rows"),
        str(region.counts.get("conflicts", 0)),
        str(region.counts.get("lifts", 0)),
        str(letters.open + letters.replay),
        str(letters.skipped),
        str(region.mend),
        " " + (escape(", ".join(map(_actor, busy))) or ("run" if region.actors else _QUIET)),
    ]


def _actor(actor: ActorStatus) -> str:
    return f"{actor.name} {actor.state}"


def _rate(region: RegionStatus, name: str) -> str:
    rate = region.rates.get(name)
    return _QUIET if rate is None else f"{rate:,.0f}"


def _lags(status: Status) -> Table:
    """One row for each region, one column for each origin: seconds behind."""
    table = _table()
    table.add_column("lag s of", no_wrap=True)
    names = [region.name for region in status.regions]
    for name in names:
        table.add_column(escape(name), justify="right", min_width=5, overflow="fold")
    pairs = {(pair.region, pair.origin): pair for pair in status.pairs}
    for region in names:
        cells = [_lag(pairs.get((region, origin))) for origin in names]
        table.add_row(f"at {escape(region)}", *cells)
    return table


def _lag(pair: PairStatus | None) -> str:
    if pair is None:
        return ""
    return _QUIET if pair.lag is None else f"{pair.lag:.1f}"


def _finding(mark: str, style: str, finding: Finding) -> Text:
    text = Text.assemble((f"{mark} {finding.region}: ", style), finding.what)
    if finding.remedy:
        text.append(f"\n    remedy: {finding.remedy}", "dim")
    return text
