"""Rules between the keys of a topology file.

Theory of operation.  Types and ranges are checked before; :func:`check` gets what
could be read (``INVALID`` in place of what could not) and looks at what a single
key cannot show: counts, duplicates, exactly-one-of, and which limits must fit
into which.  Ids and names are compared in the raw tables, so that a wrong port
in a region does not hide that its id is taken.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from meshnode import table_patterns, topology_bus_rules
from meshnode.strict_toml import INVALID, Problem, join, shown

if TYPE_CHECKING:
    from meshnode.topology import Accounts, AccountSource, Limits, Region

_ROLES = ("tail", "apply", "admin")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERY_MACHINE = _LOOPBACK | {"0.0.0.0", "::"}


def check(parts: Mapping[str, Any], data: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong between the fields of a Topology; ``data`` is the raw document."""
    regions = [
        (f"region[{n}]", region)
        for n, region in enumerate(_readable(parts["regions"], ()))
        if region is not INVALID
    ]
    problems = [*_counts(data), *_duplicate_regions(data), *_duplicate_addresses(regions)]
    for key, region in regions:
        problems += _mysql(key, region)
        problems += _accounts(f"{key}.accounts", region.accounts)
    common = parts["accounts"]
    if common is not INVALID:
        problems += _accounts("accounts", common)
        problems += _roles(common, regions)
    replicate = data.get("replicate")
    if isinstance(replicate, dict):
        problems += _patterns("replicate.tables", replicate.get("tables"))
        problems += _patterns("replicate.exclude", replicate.get("exclude"))
    for n, policy in enumerate(_readable(parts["policies"], ())):
        if policy is not INVALID:
            problems += _policy(f"policy[{n}]", policy, data)
    if parts["limits"] is not INVALID:
        problems += _limits(parts["limits"])
    if parts["bus"] is not INVALID:
        problems += topology_bus_rules.check(parts["bus"], regions)
    return problems


def with_region_names(problems: list[Problem], data: Mapping[str, Any]) -> list[Problem]:
    """Add the region's name to each problem inside ``region[n]``: an index says little."""
    regions = data.get("region")
    named = []
    for problem in problems:
        found = re.match(r"region\[(\d+)\]", problem.key)
        region = regions[int(found[1])] if found else None
        name = region.get("name") if isinstance(region, dict) else None
        if isinstance(name, str) and name.isprintable() and not problem.key.endswith("].name"):
            what = f"(region {shown('name', name)}) {problem.what}"
            problem = Problem(problem.key, what, problem.remedy, problem.value)
        named.append(problem)
    return named


def _readable(value: Any, otherwise: Any) -> Any:
    return otherwise if value is INVALID else value


def _raw_regions(data: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    regions = data.get("region", [])
    if not isinstance(regions, list):
        return []
    return [(f"region[{n}]", one) for n, one in enumerate(regions) if isinstance(one, dict)]


def _counts(data: Mapping[str, Any]) -> Iterator[Problem]:
    regions = data.get("region", [])
    if not isinstance(regions, list):
        return
    if len(regions) < 2:
        had = "no region" if not regions else "one region"
        yield Problem(
            "region",
            f"a mesh needs at least two regions, this file has {had}",
            "add a [[region]] with id, name and mysql for each",
        )
    if len(regions) > 255:
        yield Problem(
            "region",
            f"a mesh has at most 255 regions, this file has {len(regions)}",
            "ids are 1 to 255: split the mesh",
        )


def _duplicate_regions(data: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("id", "name"):
        values = [
            (f"{key}.{name}", region[name])
            for key, region in _raw_regions(data)
            if isinstance(region.get(name), int | str)
        ]
        remedy = f"give every region its own {name}"
        yield from _duplicates([(key, value, shown(name, value)) for key, value in values], remedy)


def _duplicate_addresses(regions: list[tuple[str, "Region"]]) -> Iterator[Problem]:
    mysql = [
        (f"{key}.mysql", region.mysql.socket or _place(region.mysql), str(region.mysql))
        for key, region in regions
        if region.mysql.socket or region.mysql.host
    ]
    yield from _duplicates(mysql, "two regions never share a MySQL server: correct one address")
    # Loopback and "any" addresses are alike on every machine; they clash on one and the same.
    ops = [
        (f"{key}.ops", _place(region.ops), str(region.ops))
        for key, region in regions
        if region.ops and (region.ops.host not in _EVERY_MACHINE or _on_this_machine(region))
    ]
    yield from _duplicates(ops, "each node listens on its own address: correct one of them")


def _on_this_machine(region: "Region") -> bool:
    return region.mysql.socket is not None or region.mysql.host in _LOOPBACK


def _place(address: Any) -> tuple[str, int]:
    host = address.host.lower().rstrip(".")
    return ("localhost" if host in _LOOPBACK else host, address.port)


def _duplicates(values: list[tuple[str, Any, str]], remedy: str) -> Iterator[Problem]:
    first: dict[Any, str] = {}
    for key, value, text in values:
        if value in first:
            yield Problem(key, f"is the same as {first[value]}", remedy, text)
        else:
            first[value] = key


def _mysql(key: str, region: "Region") -> Iterator[Problem]:
    mysql = region.mysql
    key = f"{key}.mysql"
    if mysql.host is not None and mysql.socket is not None:
        yield Problem(key, "names both a host and a socket", "keep the one that nodes shall use")
    if mysql.host is None and mysql.socket is None:
        yield Problem(key, "names no server", 'add host = "..." (and port), or socket = "..."')
    if mysql.socket is not None and mysql.tls is not None:
        yield Problem(f"{key}.tls", "a socket has no TLS", "delete tls, or use host and port")
    if mysql.tls is not None and mysql.tls.ca is not None and mysql.tls.verify == "none":
        yield Problem(
            f"{key}.tls.ca", 'is not looked at with verify = "none"', 'use verify = "identity"'
        )
    yield from _host(f"{key}.host", mysql.host)
    if region.ops is not None:
        ops = f"{key.removesuffix('.mysql')}.ops"
        yield from _host(f"{ops}.host", region.ops.host)
        if region.ops.token_env is not None and region.ops.token_file is not None:
            yield Problem(ops, "has two sources for its token", "keep token_env or token_file")


def _host(key: str, host: str | None) -> Iterator[Problem]:
    if host is None or ":" not in host:
        return
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        remedy = "write the host alone and the port under the key port"
        yield Problem(key, "is neither a host name nor an IP address", remedy, shown(key, host))


def _accounts(key: str, accounts: "Accounts") -> Iterator[Problem]:
    for role in _ROLES:
        source: AccountSource | None = accounts.source(role)
        if source is not None:
            yield from topology_bus_rules.password_source(f"{key}.{role}", source)


def _roles(common: "Accounts", regions: list[tuple[str, "Region"]]) -> Iterator[Problem]:
    said: set[tuple[str, str]] = set()
    for role in _ROLES:
        lacking = [region.name for _, region in regions if not _source(common, region, role)]
        if lacking:
            yield Problem(
                f"accounts.{role}",
                f"is missing for {', '.join(lacking)}",
                f'add {role} = {{ user = "...", password_env = "..." }} under [accounts]',
            )
    for key, region in regions:
        users: dict[str, str] = {}
        for role in _ROLES:
            source = _source(common, region, role)
            if source is None:
                continue
            other = users.setdefault(source.user, role)
            own = region.accounts.source(role) or region.accounts.source(other)
            holder = f"{key}.accounts" if own else "accounts"
            if other != role and (holder, role) not in said:
                said.add((holder, role))
                yield Problem(
                    f"{holder}.{role}.user",
                    f"is the user of {other} too; a starting node ends every other session of"
                    " its accounts, and each role has its own grants",
                    "give each of tail, apply and admin its own MySQL user",
                    shown("user", source.user),
                )


def _source(common: "Accounts", region: "Region", role: str) -> "AccountSource | None":
    return region.accounts.source(role) or common.source(role)


def _patterns(key: str, patterns: Any) -> Iterator[Problem]:
    """Look at raw patterns; what is no array or no text is on the list of problems already."""
    if not isinstance(patterns, list | tuple):
        return
    if not patterns and not key.endswith(".exclude"):
        yield Problem(key, "names no table", 'write for example ["shop.*"]')
    valid = []
    for n, pattern in enumerate(patterns):
        if not isinstance(pattern, str):
            continue
        where = f"{key}[{n}]"
        try:
            table_patterns.parse(pattern)
        except ValueError:
            yield Problem(
                where,
                "is not of the form schema.table",
                'write "schema.table" or "schema.*"; a name with a dot or space goes in backticks',
                shown(where, pattern),
            )
            continue
        valid.append((where, pattern, shown(where, pattern)))
        if table_patterns.names_only_unreplicated(pattern):
            yield Problem(
                where,
                "names a schema that is never replicated",
                "delete the entry: MySQL's own schemas and meshnode belong to each region",
                shown(where, pattern),
            )
    yield from _duplicates(valid, "delete the second entry")


def _policy(key: str, policy: Any, data: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _patterns(f"{key}.tables", policy.tables)
    names = {region.get("name") for _, region in _raw_regions(data) if _has_text_name(region)}
    for name, bias in policy.bias_us.items():
        if name not in names:
            remedy = f"name one of: {', '.join(sorted(names))}"
            yield Problem(join(f"{key}.bias_us", name), "is no region", remedy, str(bias))
    if policy.kind == "lww" and policy.bias_us:
        remedy = "delete it; only region-priority has a bias"
        yield Problem(f"{key}.bias_us", 'has no meaning with kind = "lww"', remedy)
    if policy.kind == "region-priority":
        if not policy.bias_us:
            remedy = "write for example { tokyo = 500000 } (microseconds)"
            yield Problem(f"{key}.bias_us", "is missing", remedy)
        yield Problem(
            f"{key}.kind",
            "is not implemented in this release: only lww (the last writer wins) is",
            'write kind = "lww", or delete the policy',
            '"region-priority"',
        )


def _has_text_name(region: dict[str, Any]) -> bool:
    return isinstance(region.get("name"), str)


def _limits(limits: "Limits") -> Iterator[Problem]:
    for small, large in (("frame_target_bytes", "part_bytes"), ("part_bytes", "batch_bytes")):
        low, high = getattr(limits, small), getattr(limits, large)
        if low > high:
            yield Problem(
                f"limits.{small}",
                f"is above limits.{large} = {high}",
                f"lower {small} or raise {large} (a default counts as well)",
                str(low),
            )
