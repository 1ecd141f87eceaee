"""What a look at the mesh means: converged or not, why, since when, and what to do.

Facts in, verdict out; nothing here asks a server.  A mesh is *not converged* when
something stands that will not go away by letting it run, or when nobody can
tell: a parked row, a skipped transaction, a halted actor, a paused peer, a region or
a stream that is silent, tombstones that cannot be collected.  What runs but should be
looked at (a topology that differs, an actor that retries) is a warning.
"""

import time
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from meshnode import limits
from meshnode.topology import Topology

OPEN_SECONDS = (limits.FRONTIER_OPEN_TX_US + limits.FRONTIER_SLACK_US) / 1e6
"""Age of a frontier while a transaction stays open, a backup's for example; it moves on."""

TABLES_NAMED = 5
"""Tables that are named in one finding; the rest is counted."""

STANDING = frozenset({"halted", "failed", "fenced"})
"""States of an actor that does not do its work and will not without help."""


class ActorStatus(Struct):
    """An actor as its node describes it; ``since`` in seconds since 1970."""

    name: str
    state: str
    reason: str = ""
    remedy: str = ""
    since: float = 0.0
    restarts: int = 0


class Letters(Struct):
    """Dead letters that are not closed."""

    open: int = 0
    replay: int = 0
    skipped: int = 0


class RegionStatus(Struct):
    """One region as its own server and node tell it; times in microseconds since 1970.

    ``beat`` and ``wall_us`` are number and time of its newest heartbeat.
    ``error`` is set when the region could not be asked; then only name, id and address hold.
    ``rates`` are counts per second and may be empty.  ``unreplicated`` are tables that the
    topology names and ``init`` has not taken in, ``unnamed`` those that are replicated although it
    does not name them; ``unsettled`` counts, by table, the keys that it
    refused or found locked.  ``retention`` is how long the bus keeps a record (seconds; None: it
    does not forget by age), ``retention_left`` what of it is left of each peer's unread stream, by
    the peer's id.
    """

    name: str
    id: int
    mysql: str
    error: str | None = None
    remedy: str = ""
    now_us: int = 0
    wall_us: int = 0
    beat: int = 0
    frontier_us: int = 0
    epoch: int = 0
    published_seq: int = 0
    gc_limit: int = 0
    node: str = ""
    digest: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    letters: Letters = field(default_factory=Letters)
    mend: int = 0
    unreplicated: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    unsettled: dict[str, int] = field(default_factory=dict)
    retention: float | None = None
    retention_left: dict[int, float] = field(default_factory=dict)
    actors: list[ActorStatus] = field(default_factory=list)

    @property
    def beat_age(self) -> float | None:
        """Seconds since the node's last heartbeat; None without one."""
        return (self.now_us - self.wall_us) / 1e6 if self.wall_us else None


class Paused(Struct):
    """An operator holds a stream; ``since`` in seconds since 1970."""

    since: float
    reason: str = ""


class PairStatus(Struct):
    """How far ``region`` has applied the stream of ``origin``.

    ``lag`` in seconds (None: nothing heard yet), ``behind`` in items and ``beats`` in heartbeats
    not yet applied (None: unknown), ``heard_us`` and ``heard_beat`` time and number of the newest
    heartbeat that is, ``frontier_us`` the promise of the origin that is applied here, ``commit_us``
    the commit time of the newest item applied.  ``paused`` is set while an operator holds it.
    """

    origin: str
    region: str
    seq: int | None = None
    lag: float | None = None
    behind: int | None = None
    beats: int | None = None
    heard_us: int = 0
    heard_beat: int = 0
    frontier_us: int = 0
    commit_us: int = 0
    now_us: int = 0
    paused: Paused | None = None


class Finding(Struct):
    """Something about a region that an operator should know."""

    region: str
    what: str
    remedy: str = ""


class Status(Struct):
    """The mesh at one moment; ``at`` in seconds since 1970."""

    mesh: str
    digest: str
    at: float
    converged: bool
    problems: list[Finding]
    warnings: list[Finding]
    regions: list[RegionStatus]
    pairs: list[PairStatus]


def judge(
    topology: Topology, regions: Sequence[RegionStatus], pairs: Sequence[PairStatus]
) -> Status:
    """Put facts and verdict together; regions in the order of the topology."""
    problems: list[Finding] = []
    warnings: list[Finding] = []
    pulse = topology.limits.heartbeat_seconds
    for region in regions:
        problems += _region_problems(region, pulse)
        if region.error is None:
            warnings += _region_warnings(region, topology.digest)
            warnings += _retention(region, topology)
    # A region that is silent says nothing new to anybody: naming it once is enough.
    heard = {region.name for region in regions if _is_heard(region, pulse)}
    problems += [
        finding
        for pair in pairs
        if pair.paused is not None or (pair.region in heard and pair.origin in heard)
        for finding in _pair_problems(pair, pulse)
    ]
    problems += _unsettled(regions)
    warnings += _unreplicated(regions)
    warnings += _unnamed(regions)
    problems += gc_held(regions, pairs, pulse)
    return Status(
        mesh=topology.mesh,
        digest=topology.digest,
        at=time.time(),
        converged=not problems,
        problems=problems,
        warnings=warnings,
        regions=list(regions),
        pairs=list(pairs),
    )


def _unsettled(regions: Sequence[RegionStatus]) -> list[Finding]:
    """Rows that differ since before the mesh, one finding a table: all regions say the same."""
    keys: dict[str, int] = {}
    places: dict[str, list[str]] = {}
    for region in regions:
        for table, count in region.unsettled.items():
            keys[table] = max(keys.get(table, 0), count)
            places.setdefault(table, []).append(region.name)
    return [
        Finding(
            ", ".join(places[table]),
            f"{count} keys of {table} were left as they are by `meshnode init`: refused, because"
            " rows without a version differ, locked by clients, or of a region that was behind",
            "run `meshnode init --all` again, which names them (--seed-from says whose rows count)",
        )
        for table, count in keys.items()
    ]


def _unreplicated(regions: Sequence[RegionStatus]) -> list[Finding]:
    """A warning: what is replicated converges without them."""
    return _about_tables(
        {region.name: region.unreplicated for region in regions},
        "tables that the topology names are not replicated",
        "run `meshnode init --all`, or exclude them in the topology",
    )


def _unnamed(regions: Sequence[RegionStatus]) -> list[Finding]:
    """A warning: they are equal as long as nobody writes to them; then appliers halt."""
    return _about_tables(
        {region.name: region.unnamed for region in regions},
        "tables are replicated that the topology does not name",
        "take them out with `meshnode init --all --retire` (docs/OPERATING.md,"
        " 'Taking a table out'), or name them again",
    )


def _about_tables(tables: Mapping[str, Sequence[str]], what: str, remedy: str) -> list[Finding]:
    """One finding for all ``tables``, which are given by region."""
    every = sorted({table for names in tables.values() for table in names})
    if not every:
        return []
    more = f" and {len(every) - TABLES_NAMED} more" if len(every) > TABLES_NAMED else ""
    return [
        Finding(
            ", ".join(region for region, names in tables.items() if names),
            f"{len(every)} {what}: {', '.join(every[:TABLES_NAMED])}{more}",
            remedy,
        )
    ]


def _is_heard(region: RegionStatus, pulse: float) -> bool:
    age = region.beat_age
    return region.error is None and age is not None and age <= limits.silent_seconds(pulse)


def _region_problems(region: RegionStatus, pulse: float) -> list[Finding]:
    name = region.name
    if region.error is not None:
        return [Finding(name, f"unreachable: {region.error}", region.remedy)]
    found = []
    age = region.beat_age
    if age is None:
        found.append(
            Finding(
                name,
                "no heartbeat yet",
                f"start its node (meshnode run --region {name}); if it runs, see its log",
            )
        )
    elif age > limits.silent_seconds(pulse):
        found.append(
            Finding(
                name,
                f"no heartbeat for {age:.0f} s (since {moment(region.wall_us)})",
                f"start its node (meshnode run --region {name}) or look at its log",
            )
        )
    letters = region.letters
    if letters.open + letters.replay:
        found.append(
            Finding(
                name,
                f"{letters.open + letters.replay} parked rows (open dead letters)",
                f"see `meshnode dead-letters list --region {name}`, remove the cause, replay them",
            )
        )
    if letters.skipped:
        found.append(
            Finding(
                name,
                f"{letters.skipped} skipped transactions",
                "make the regions alike by hand and run `meshnode verify`, which closes them",
            )
        )
    for actor in region.actors:
        if actor.state in STANDING:
            since = f" since {moment(int(actor.since * 1e6))}" if actor.since else ""
            found.append(
                Finding(name, f"{actor.name} {actor.state}{since}: {actor.reason}", actor.remedy)
            )
    return found


def _region_warnings(region: RegionStatus, digest: str) -> list[Finding]:
    found = []
    if region.digest and region.digest != digest:
        found.append(
            Finding(
                region.name,
                f"its node runs by another topology (its digest {region.digest[:8]},"
                f" here {digest[:8]})",
                "give every node the same topology file",
            )
        )
    for actor in region.actors:
        if actor.state in ("retrying", "waiting"):
            found.append(
                Finding(region.name, f"{actor.name} {actor.state}: {actor.reason}", actor.remedy)
            )
    if region.mend:
        found.append(
            Finding(
                region.name,
                f"{region.mend} rows wait to be mended (locked by clients)",
                "end the client transactions that hold them for long",
            )
        )
    return found


def _retention(region: RegionStatus, topology: Topology) -> list[Finding]:
    """Peers whose stream is lost here in less than half of the time that the bus keeps it."""
    names = {each.id: each.name for each in topology.regions}
    return [
        Finding(
            region.name,
            f"the bus forgets what is unread of {names[origin]} in {left / 3600:.1f} h"
            f" (it keeps records for {region.retention / 3600:g} h)",
            f"bring the actor `applier {names[origin]}` in {region.name} back to work, or raise the"
            " retention of that topic (docs/OPERATING.md, 'Kafka')",
        )
        for origin, left in sorted(region.retention_left.items())
        if region.retention is not None and left < region.retention / 2 and origin in names
    ]


def _pair_problems(pair: PairStatus, pulse: float) -> list[Finding]:
    """``pulse``: seconds between two heartbeats, whose numbers go by no clock."""
    if pair.paused is not None:
        because = f": {pair.paused.reason}" if pair.paused.reason else ""
        since = moment(int(pair.paused.since * 1e6))
        return [
            Finding(
                pair.region,
                f"{pair.origin} is paused by an operator since {since}{because}",
                f"meshnode resume {pair.origin} --region {pair.region}",
            )
        ]
    clocks = ""
    silent = limits.silent_seconds(pulse)
    if pair.lag is None:
        what = f"nothing heard of {pair.origin} yet"
    elif pair.lag > silent:
        what = f"nothing heard of {pair.origin} for {pair.lag:.0f} s"
    elif pair.beats is not None and pair.beats > silent / pulse:
        what = (
            f"{pair.beats} heartbeats of {pair.origin} are not applied, although the lag is"
            f" {pair.lag:.0f} s"
        )
        clocks = "; the clocks of the two differ, or one was set"
    else:
        return []
    return [
        Finding(
            pair.region,
            what,
            f"see the actors `applier {pair.origin}` in {pair.region} and `tailer` in"
            f" {pair.origin}, and the link between them{clocks}",
        )
    ]


def gc_held(
    regions: Sequence[RegionStatus], pairs: Sequence[PairStatus], pulse: float
) -> list[Finding]:
    """Who holds back the collection of tombstones, where, and since when.

    A region drops a tombstone when its stamp is below the frontier that it has applied of every
    other member, so the member with the oldest frontier holds all of them back.  One finding
    for each such member.
    """
    held: dict[str, list[PairStatus]] = {}
    for region in regions:
        own = [pair for pair in pairs if pair.region == region.name and pair.frontier_us]
        if own:
            oldest = min(own, key=lambda pair: pair.frontier_us)
            age = (oldest.now_us - oldest.frontier_us) / 1e6
            if age > OPEN_SECONDS + limits.silent_seconds(pulse):
                held.setdefault(oldest.origin, []).append(oldest)
    return [_holder(origin, where) for origin, where in held.items()]


def _holder(origin: str, where: Sequence[PairStatus]) -> Finding:
    worst = min(where, key=lambda pair: pair.frontier_us)
    places = ", ".join(pair.region for pair in where)
    age = (worst.now_us - worst.frontier_us) / 1e6
    return Finding(
        origin,
        f"holds back the collection of tombstones in {places}"
        f" since {moment(worst.frontier_us)} ({age:.0f} s)",
        f"bring {origin} or its link back, end its oldest open transaction, or replay its rows"
        f" that are parked in {places}",
    )


def moment(microseconds: int) -> str:
    """A time (microseconds since 1970, any stamp) as operators read it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(microseconds // 1_000_000))
