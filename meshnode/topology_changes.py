"""What a new topology changes, and a topology told in words.

Theory of operation.  A running node compares the file it reads with the one it
runs by.  Both are flattened to dotted keys, regions by name and not by place, and
each difference is put in one of two lists.  Live: tables, limits, policies,
addresses, accounts.  Refused: what is built into stamps, topics and bookkeeping,
with the reason; one refused difference means that nothing of the file is taken.

Of what is live, most is read where it is used, at every use.  What a node is built of
(:func:`rebuilt`) it follows by being built anew, inside the same process.
"""

from typing import Any

import msgspec

from meshnode import strict_toml
from meshnode.topology import ROLES, AccountSource, Bus, Kafka, Region, Topology

_REFUSED = {
    "mesh": "it is part of every topic's name and of each region's bookkeeping",
    "bus.kind": "positions of one bus mean nothing on another",
    "bus.dir": "nodes that follow at different moments would lose sight of each other",
}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Changes(msgspec.Struct, frozen=True):
    """Differences, each "key: old -> new"; refused ones go on with the reason and the remedy."""

    live: list[str]
    refused: list[str]


def changes(old: Topology, new: Topology) -> Changes:
    """Compare two topologies; equal ones give two empty lists."""
    live: list[str] = []
    refused = _regions_refused(old, new)
    stay = {region.name for region in old.regions} & {region.name for region in new.regions}
    before, after = _flat(old, stay), _flat(new, stay)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        text = f"{key}: {_told(before.get(key))} -> {_told(after.get(key))}"
        reason = _REFUSED.get("bus.dir" if key.endswith(".bus.dir") else key)
        if reason is None:
            live.append(text)
        else:
            refused.append(
                f"{text}: refused while nodes run: {reason}; remedy: put the old value back,"
                " or stop all nodes first"
            )
    return Changes(live, refused)


def rebuilt(old: Topology, new: Topology, region: str) -> list[str]:
    """What the node of ``region`` is built of and has changed, by key; if empty, it goes on.

    Other regions' servers, ops ports and accounts are nothing that it uses.
    """
    before, after = _built_of(old, region), _built_of(new, region)
    return [key for key in before if before[key] != after[key]]


def _built_of(topology: Topology, region: str) -> dict[str, Any]:
    own = topology.region(region)
    regions = sorted(topology.regions, key=lambda one: one.id)
    return {
        f"region.{region}.mysql": own.mysql,
        f"region.{region}.ops": own.ops,
        "accounts.tail": topology.account_source(region, "tail"),
        "accounts.apply": topology.account_source(region, "apply"),
        "bus": topology.bus,
        **{f"region.{one.name}.bus": one.bus for one in regions},
        "tracing": topology.tracing,
    }


def kafka_moved(old: Topology, new: Topology) -> list[str]:
    """The regions whose topic is reached by other brokers than before."""
    return [
        region.name
        for region in new.regions
        if old.kafka_of(region.name).bootstrap != new.kafka_of(region.name).bootstrap
    ]


def _regions_refused(old: Topology, new: Topology) -> list[str]:
    before = {region.name: region.id for region in old.regions}
    after = {region.name: region.id for region in new.regions}
    reason = (
        "refused: every stamp holds an id, so ids never change, and the set of regions only while"
        " all nodes are stopped; remedy: put the old value back, or see docs/LIMITS.md,"
        " 'What this release does not do'"
    )
    found = []
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            was = f"id {before[name]}" if name in before else "absent"
            now = f"id {after[name]}" if name in after else "absent"
            found.append(f"region.{name}: {was} -> {now}: {reason}")
    return found


def _flat(topology: Topology, names: set[str]) -> dict[str, Any]:
    """Return {dotted key: scalar or list}, the regions ``names`` under their names, without ids."""
    flat: dict[str, Any] = {}
    told = strict_toml.plain(topology)
    # A list of policies is ordered (the first that matches wins), so it is one value.
    flat["policy"] = told.pop("policy", None)
    for region in told.pop("region", []):
        name = region.pop("name")
        region.pop("id")
        if name in names:
            _flatten(f"region.{name}", region, flat)
    _flatten("", told, flat)
    for key in ("replicate.tables", "replicate.exclude"):
        flat[key] = sorted(flat.get(key, []))
    return flat


def _flatten(key: str, table: dict[str, Any], flat: dict[str, Any]) -> None:
    for name, value in table.items():
        inner = strict_toml.join(key, name)
        if isinstance(value, dict):
            _flatten(inner, value, flat)
        else:
            flat[inner] = value


def _told(value: Any) -> str:
    return "(default)" if value is None else str(value)


def describe(topology: Topology) -> str:
    """Return the topology in words, many lines, for ``meshnode topology check``."""
    limits = topology.limits
    bus = topology.bus
    lines = [
        f"mesh {topology.mesh}: {len(topology.regions)} regions, digest {topology.digest}",
        f"replicated  {', '.join(topology.replicate.tables)}",
    ]
    if topology.replicate.exclude:
        lines.append(f"excluded    {', '.join(topology.replicate.exclude)}")
    lines.append("conflicts   lww (the last writer wins) on every table")
    lines.append(_bus_in_words(bus))
    if bus.wan is not None:
        lines.append(f"wan         simulated, controlled by {bus.wan.control}")
    lines.append(
        f"limits      batch {limits.batch_rows} rows / {limits.batch_bytes} bytes,"
        f" part {limits.part_bytes} bytes, frame {limits.frame_target_bytes} bytes,"
        f" heartbeat {limits.heartbeat_seconds:g} s,"
        f" closed records kept {limits.keep_closed_days} days"
    )
    width = max(len(region.name) for region in topology.regions)
    for region in sorted(topology.regions, key=lambda one: one.id):
        ops = region.ops or "none"
        lines.append(
            f"region {region.id:>3}  {region.name:<{width}}  mysql {region.mysql}  ops {ops}"
        )
        for role in ROLES:
            source = topology.account_source(region.name, role)
            lines.append(f"            {role:<5} {source.user}, password from {_source(source)}")
        if region.bus is not None and region.bus.bootstrap:
            lines.append(f"            its own kafka at {', '.join(region.bus.bootstrap)}")
        lines += [f"            note: {note}" for note in _notes(region)]
    return "\n".join(lines) + "\n"


def _bus_in_words(bus: Bus) -> str:
    if bus.kind == "file":
        return (
            f"bus         file in {bus.dir}; segments of {bus.segment_bytes} bytes, kept at least"
            f" {bus.min_age_seconds:g} s, at most {bus.max_bytes} bytes a region"
        )
    kafka = bus.kafka or Kafka()
    limit = "" if kafka.retention_bytes < 0 else f" or {kafka.retention_bytes} bytes"
    return (
        f"bus         kafka at {', '.join(kafka.bootstrap) or 'each region'};"
        f" {kafka.replication_factor} replicas ({kafka.min_insync_replicas} in sync),"
        f" {kafka.compression}, kept {kafka.retention_hours:g} h{limit}"
    )


def _source(source: AccountSource) -> str:
    if source.password_env is not None:
        return f"environment variable {source.password_env}"
    return f"file {source.password_file}"


def _notes(region: Region) -> list[str]:
    notes = []
    mysql = region.mysql
    if mysql.host is not None and mysql.host not in _LOOPBACK:
        if mysql.tls is None:
            notes.append(f"rows travel to {mysql} without TLS (add mysql.tls)")
        elif mysql.tls.verify != "identity":
            notes.append(f'the server {mysql} is not fully verified (verify = "identity")')
    if region.ops is not None and region.ops.host not in _LOOPBACK:
        notes.append(f"the ops port {region.ops} can be reached from other machines")
    return notes
