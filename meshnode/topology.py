"""The topology file: one TOML text, the same for all nodes, that names the mesh.

Theory of operation.  :func:`load` reads the file into frozen structs in three
steps: ``tomllib`` for the syntax, :class:`meshnode.strict_toml.Reader` for keys,
types and ranges, :mod:`meshnode.topology_rules` for what holds between keys.
Everything that is wrong is reported at once in a :class:`TopologyError`; nothing
is guessed and no unknown key is passed over, because a misspelt limit or table
would otherwise be found in the data.

Relative paths are seen from the folder of the file and are absolute afterwards.
Secrets are never in the file: accounts name an environment variable or a file,
and :mod:`meshnode.accounts` reads it when a connection needs it.

``digest`` travels in heartbeats, so that nodes which read different files say so.
It covers what must be equal everywhere: all but secrets and the paths of one
machine, and not the order of regions and tables.
"""

import hashlib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from meshnode import limits, strict_toml, table_patterns, topology_rules
from meshnode.errors import Refused
from meshnode.strict_toml import Problem, Reader

ROLES = ("tail", "apply", "admin")
Role = Literal["tail", "apply", "admin"]

_NAME = r"\A[a-z0-9][a-z0-9_-]{0,62}\Z"
_NAME_TEXT = "1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit"
_LINE = r"\A[^\x00-\x1f\x7f]+\Z"

Name = Annotated[str, Meta(pattern=_NAME, description=_NAME_TEXT)]
RegionId = Annotated[int, Meta(ge=1, le=255, description="a number from 1 to 255")]
Host = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9:._%-]{1,253}\Z",
        description='a host name or IP address such as "db.example.net"',
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port number from 1 to 65535")]
Socket = Annotated[
    str,
    Meta(
        # The kernel's limit for the name of a Unix socket is 107 bytes.
        pattern=r"\A/[\x21-\x7e]{1,106}\Z",
        description="an absolute path of at most 107 ASCII characters without spaces",
    ),
]
Broker = Annotated[
    str,
    Meta(
        pattern=r"\A(\[[A-Fa-f0-9:.%]+\]|[A-Za-z0-9._-]{1,253}):[1-9][0-9]{0,4}\Z",
        description='a broker as "host:port" such as "kafka-1.example.net:9092"',
    ),
]
Url = Annotated[
    str,
    Meta(
        pattern=r"\Ahttps?://[^\s/@]+(/\S*)?\Z",
        description='an address such as "http://127.0.0.1:4318", without a password in it',
    ),
]
FilePath = Annotated[
    str, Meta(pattern=_LINE, description="a path on one line", extra={"path": True})
]
Variable = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z",
        description='the name of an environment variable such as "MESH_TAIL_PASSWORD"',
    ),
]
User = Annotated[
    str,
    Meta(
        pattern=_LINE,
        max_length=32,
        description="a MySQL user name of 1 to 32 characters on one line",
    ),
]
Pattern = Annotated[
    str,
    Meta(
        max_length=300,
        description='a table by name or glob such as "shop.orders" or "shop.*"',
    ),
]
Bias = Annotated[
    int, Meta(ge=0, le=60_000_000, description="a whole number from 0 to 60000000 (microseconds)")
]


def _whole(low: int, high: int, unit: str) -> Any:
    description = f"a whole number from {low} to {high} ({unit})"
    return Annotated[int, Meta(ge=low, le=high, description=description)]


def _seconds(low: float, high: float, unit: str = "seconds") -> Any:
    return Annotated[
        float, Meta(ge=low, le=high, description=f"a number from {low} to {high} ({unit})")
    ]


class Tls(Struct, frozen=True):
    """TLS towards a server; ``verify`` says how much of its certificate is checked."""

    ca: FilePath | None = None
    verify: Literal["none", "ca", "identity"] = "identity"


class MysqlAddress(Struct, frozen=True):
    """Where a region's MySQL listens: ``host`` (and ``port``), or ``socket``; never both."""

    host: Host | None = None
    port: Port = 3306
    socket: Socket | None = None
    tls: Tls | None = None

    def __str__(self) -> str:
        return self.socket or address_text(self.host or "", self.port)


class OpsAddress(Struct, frozen=True):
    """Where the node of a region serves its operators; what changes state needs the token."""

    port: Port
    host: Host = "127.0.0.1"
    token_env: Variable | None = None
    token_file: FilePath | None = None

    def __str__(self) -> str:
        return address_text(self.host, self.port)


class AccountSource(Struct, frozen=True):
    """A MySQL user and where its password is found: exactly one of the two sources."""

    user: User
    password_env: Variable | None = None
    password_file: FilePath | None = None


class BusAddress(Struct, frozen=True):
    """Where a region's own topic lives, if not where ``[bus]`` says: a folder, or a Kafka.

    ``tls`` and ``sasl`` hold for that Kafka; what is not given is that of ``[bus.kafka]``.
    """

    dir: FilePath | None = None
    bootstrap: tuple[Broker, ...] = ()
    tls: Tls | None = None
    sasl: AccountSource | None = None


class Accounts(Struct, frozen=True):
    """The three accounts of a node in a region's MySQL."""

    tail: AccountSource | None = None
    apply: AccountSource | None = None
    admin: AccountSource | None = None

    def source(self, role: str) -> AccountSource | None:
        """Return the source for ``role`` ("tail", "apply" or "admin"), None if not given."""
        return {"tail": self.tail, "apply": self.apply, "admin": self.admin}[role]


class Region(Struct, frozen=True):
    """One region: ``id`` is part of every stamp it ever made and must never change."""

    id: RegionId
    name: Name
    mysql: MysqlAddress
    ops: OpsAddress | None = None
    bus: BusAddress | None = None
    accounts: Accounts = Accounts()


class Replicate(Struct, frozen=True):
    """Which tables are replicated: any of ``tables`` and none of ``exclude``."""

    tables: tuple[Pattern, ...]
    exclude: tuple[Pattern, ...] = ()


class Policy(Struct, frozen=True):
    """How conflicts on some tables end; ``bias_us`` is microseconds of clock per region name."""

    tables: tuple[Pattern, ...]
    kind: Literal["lww", "region-priority"]
    bias_us: dict[Name, Bias] = field(default_factory=dict)


class Wan(Struct, frozen=True):
    """Latency and cuts between regions, read from ``control`` while nodes run (for a lab)."""

    control: FilePath


class Kafka(Struct, frozen=True):
    """One Kafka for all regions (or those without their own), and what their topics are like.

    ``max_message_bytes`` bounds one message, not one frame: a longer frame goes in several.
    """

    bootstrap: tuple[Broker, ...] = ()
    tls: Tls | None = None
    sasl: AccountSource | None = None
    replication_factor: _whole(1, 100, "replicas") = 3
    min_insync_replicas: _whole(1, 100, "replicas") = 2
    retention_hours: _seconds(0.01, 87_600, "hours") = 168.0
    retention_bytes: _whole(-1, 2**60, "bytes, -1 without limit") = -1
    max_message_bytes: _whole(64 * limits.KIB, 256 * limits.MIB, "bytes") = 4 * limits.MIB
    compression: Literal["zstd", "lz4", "none"] = "zstd"

    @property
    def retention_seconds(self) -> float:
        return self.retention_hours * 3600


class Bus(Struct, frozen=True):
    """The bus: for "file", a folder and how much of each region's log is kept there."""

    kind: Literal["file", "kafka"]
    dir: FilePath | None = None
    kafka: Kafka | None = None
    segment_bytes: _whole(64 * limits.KIB, 4096 * limits.MIB, "bytes") = limits.BUS_SEGMENT_BYTES
    min_age_seconds: _seconds(0, 31_536_000) = limits.BUS_KEEP_SECONDS
    max_bytes: _whole(128 * limits.KIB, 2**50, "bytes") = limits.BUS_MAX_BYTES
    wan: Wan | None = None


class Tracing(Struct, frozen=True):
    """Where spans go (OTLP over HTTP, such as "http://127.0.0.1:4318"), and how many.

    ``ratio`` of all transactions is traced, besides each with a conflict, a parked row or a retry.
    """

    endpoint: Url
    ratio: _seconds(0, 1, "share of all transactions") = 0.01


class Limits(Struct, frozen=True):
    """What ``[limits]`` may change of :mod:`meshnode.limits`, which explains each."""

    batch_rows: _whole(1, 100_000, "rows") = limits.BATCH_ROWS
    batch_bytes: _whole(64 * limits.KIB, 256 * limits.MIB, "bytes") = limits.BATCH_BYTES
    part_bytes: _whole(64 * limits.KIB, 64 * limits.MIB, "bytes") = limits.PART_BYTES
    frame_target_bytes: _whole(4 * limits.KIB, 16 * limits.MIB, "bytes") = limits.FRAME_TARGET_BYTES
    heartbeat_seconds: _seconds(0.1, 60) = limits.HEARTBEAT_SECONDS
    keep_closed_days: _whole(1, 3650, "days") = limits.KEEP_CLOSED_DAYS


class Topology(Struct, frozen=True):
    """The whole mesh, as every node sees it."""

    mesh: Name
    replicate: Replicate
    bus: Bus
    regions: tuple[Region, ...] = field(name="region", default=())
    accounts: Accounts = Accounts()
    limits: Limits = Limits()
    tracing: Tracing | None = None
    policies: tuple[Policy, ...] = field(name="policy", default=())

    def region(self, name: str) -> Region:
        """Return the region called ``name``; Refused, with the names there are, if none is."""
        for region in self.regions:
            if region.name == name:
                return region
        names = ", ".join(region.name for region in self.regions)
        raise Refused(f"mesh {self.mesh!r} has no region {name!r}", f"name one of: {names}")

    def peers(self, name: str) -> tuple[Region, ...]:
        """Return all regions but ``name``, in the order of their ids."""
        own = self.region(name)
        others = (region for region in self.regions if region.id != own.id)
        return tuple(sorted(others, key=lambda region: region.id))

    def matches(self, schema: str, table: str) -> bool:
        """Tell whether the table is replicated; system schemas and ``meshnode`` never are."""
        select = table_patterns.selector(self.replicate.tables, self.replicate.exclude)
        return select(schema, table)

    def policy(self, schema: str, table: str) -> str:
        """Return the kind of the first policy that names the table, else "lww"."""
        for policy in self.policies:
            if table_patterns.selector(policy.tables, ())(schema, table):
                return policy.kind
        return "lww"

    def bus_dir(self, name: str) -> Path:
        """Return the folder that holds the topic of the region ``name`` on the file bus."""
        own = self.region(name).bus
        return Path((own and own.dir) or self.bus.dir or "")

    def kafka_of(self, name: str) -> BusAddress:
        """Return how the Kafka with the topic of the region ``name`` is reached."""
        common, own = self.bus.kafka or Kafka(), self.region(name).bus or BusAddress()
        return BusAddress(
            bootstrap=own.bootstrap or common.bootstrap,
            tls=own.tls or common.tls,
            sasl=own.sasl or common.sasl,
        )

    def account_source(self, name: str, role: Role) -> AccountSource:
        """Return where the account ``role`` of the region ``name`` comes from: its own or all's."""
        source = self.region(name).accounts.source(role) or self.accounts.source(role)
        if source is None:
            raise Refused(
                f"no account accounts.{role} for region {name!r} in mesh {self.mesh!r}",
                f'add {role} = {{ user = "...", password_env = "..." }} under [accounts]',
            )
        return source

    @property
    def digest(self) -> str:
        """Return 32 hex digits, equal on nodes whose files say the same."""
        told = strict_toml.plain(self)
        told.get("bus", {}).pop("dir", None)
        told.get("bus", {}).pop("wan", None)
        told.pop("tracing", None)
        told["region"] = sorted(told.get("region", ()), key=lambda region: region["id"])
        for region in told["region"]:
            region.pop("bus", None)
            region.pop("ops", None)
            region["mysql"].get("tls", {}).pop("ca", None)
        kafka = told.get("bus", {}).get("kafka", {})
        for key in ("bootstrap", "tls", "sasl"):
            kafka.pop(key, None)
        for holder in (told, *told["region"]):
            for source in holder.get("accounts", {}).values():
                source.pop("password_env", None)
                source.pop("password_file", None)
        for patterns in told["replicate"].values():
            patterns.sort()
        text = msgspec.json.encode(told, order="deterministic")
        return hashlib.sha256(text).hexdigest()[:32]


class TopologyError(Refused):
    """A topology file that is not used; ``problems`` holds everything wrong with ``file``."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"topology file {file}: {count}{lines}")
        self.file = file
        self.problems = problems


def address_text(host: str, port: int) -> str:
    """Return ``host:port``, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def load(path: str | os.PathLike[str]) -> Topology:
    """Read and check the topology file; TopologyError holds all that is wrong with it."""
    file = os.fspath(path)
    try:
        text = Path(file).read_bytes().decode("utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        remedy = "name a topology file that this user can read"
        problem = Problem("(file)", f"cannot be read: {error.strerror or error}", remedy)
        raise TopologyError(file, [problem]) from None
    except UnicodeDecodeError as error:
        problem = Problem(
            "(file)", f"byte {error.start} is not UTF-8", "save the file as UTF-8 text"
        )
        raise TopologyError(file, [problem]) from None
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        problem = Problem("(file)", f"is not TOML: {error}", "correct the syntax at that place")
        raise TopologyError(file, [problem]) from None
    reader = Reader(Path(os.path.abspath(file)).parent)
    parts = reader.fields(Topology, data, "")
    problems = reader.problems + topology_rules.check(parts, data)
    problems = topology_rules.with_region_names(problems, data)
    if problems:
        raise TopologyError(file, problems)
    return Topology(**parts)


def render(topology: Topology) -> str:
    """Return the TOML text of a topology; loading it gives an equal one if its paths are absolute.

    Values at their default are left out.
    """
    return strict_toml.render(topology)
