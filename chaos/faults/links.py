"""Faults of the network between the regions: cuts, latency, slow links.

The links are those of the streams: what a region publishes on its way to another one.  Each
fault keeps its own set of cut links, and a link is cut while any fault wants it, so that cuts
may overlap and heal one after the other.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.lab.wan import write_cuts, write_latency, write_rates

Link = tuple[str, str]

_cut: WeakKeyDictionary[Mesh, Counter[Link]] = WeakKeyDictionary()
_slow: WeakKeyDictionary[Mesh, dict[str, dict[Link, float]]] = WeakKeyDictionary()


def both(pairs: Iterable[Link]) -> list[Link]:
    """Both directions of each pair."""
    return [link for a, b in pairs for link in ((a, b), (b, a))]


@asynccontextmanager
async def cut(mesh: Mesh, links: list[Link], swizzle: float = 0.0) -> AsyncIterator[None]:
    """``swizzle``: seconds between healing one link and the next, in another order."""
    cuts = _cut.setdefault(mesh, Counter())

    def change(some: Iterable[Link], by: int) -> None:
        for link in some:
            cuts[link] += by
        write_cuts(mesh.layout.control, [link for link, count in cuts.items() if count > 0])

    change(links, 1)
    # By where they lead to, so that each region is heard again before it hears.
    left = sorted(links, key=lambda link: link[::-1])
    try:
        yield
        while swizzle and len(left) > 1:
            change([left.pop()], -1)
            await asyncio.sleep(swizzle)
    finally:
        change(left, -1)


def links_of(fault: Fault, names: Sequence[str]) -> list[Link]:
    """The links (from, to) that a fault of this module hurts; ``names`` are all regions."""
    if fault.kind in ("cut.one-way", "link.latency", "link.slow"):
        a, b = fault.target
        return [(a, b)]
    if fault.kind == "cut.pair":
        a, b = fault.target
        return both([(a, b)])
    if fault.kind == "cut.isolate":
        outside = [name for name in names if name not in fault.target]
        return both((a, b) for a in fault.target for b in outside)
    if fault.kind == "cut.ring":
        order = list(fault.target)
        kept = set(zip(order, order[1:] + order[:1], strict=True))
        return [(a, b) for a in order for b in order if a != b and (a, b) not in kept]
    raise ValueError(f"{fault.kind} is no fault of links")


@kind("cut.pair")
async def cut_pair(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Both directions between two regions."""
    async with cut(mesh, links_of(fault, mesh.names), fault.number("swizzle")):
        yield


@kind("cut.one-way")
async def cut_one_way(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """What the first region publishes does not reach the second; the other way is whole."""
    async with cut(mesh, links_of(fault, mesh.names)):
        yield


@kind("cut.isolate")
async def isolate(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Some regions are cut off from all others (one, or a half), both ways."""
    async with cut(mesh, links_of(fault, mesh.names), fault.number("swizzle")):
        yield


@kind("cut.ring")
async def ring(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Each region is heard by the next one only."""
    async with cut(mesh, links_of(fault, mesh.names), fault.number("swizzle")):
        yield


@asynccontextmanager
async def _numbers(mesh: Mesh, name: str, values: dict[Link, float]) -> AsyncIterator[None]:
    write = {"latency": write_latency, "rate": write_rates}[name]
    held = _slow.setdefault(mesh, {}).setdefault(name, {})
    held.update(values)
    write(mesh.layout.control, held)
    try:
        yield
    finally:
        for link in values:
            held.pop(link, None)
        write(mesh.layout.control, held)


@kind("link.latency")
async def latency(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A one-way latency of ``ms`` milliseconds on one link."""
    a, b = fault.target
    async with _numbers(mesh, "latency", {(a, b): fault.number("ms", 200)}):
        yield


@kind("link.slow")
async def slow(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A link that carries ``rate`` bytes a second only."""
    a, b = fault.target
    async with _numbers(mesh, "rate", {(a, b): fault.number("rate", 20_000)}):
        yield
