"""Faults of processes: killed as by a crash, or frozen."""

import asyncio
import signal
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault

DRAIN_SECONDS = 240.0


@kind("node.kill")
async def kill_node(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """SIGKILL of a node; started again at the end."""
    (region,) = fault.target
    async with mesh.holding(f"node:{region}"):
        await mesh.kill_node(region)
        yield
        mesh.start_node(region)


@kind("node.restart")
async def restart_node(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A node is asked to end (SIGTERM), as for an upgrade; another process starts at the end."""
    (region,) = fault.target
    async with mesh.holding(f"node:{region}"):
        node = mesh.node(region)
        mesh.expected_ends.add(node.pid or 0)
        if not await asyncio.to_thread(node.stop, DRAIN_SECONDS):
            mesh.journal.find("I14", f"the node of {region} does not end when it is asked to")
        yield
        mesh.start_node(region)


@kind("node.stop")
async def stop_node(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """SIGSTOP of a node; SIGCONT at the end."""
    (region,) = fault.target
    async with mesh.holding(f"node:{region}"):
        mesh.signal_node(region, signal.SIGSTOP)
        try:
            yield
        finally:
            mesh.signal_node(region, signal.SIGCONT)


@kind("mysql.kill")
async def kill_mysql(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """SIGKILL of a MySQL server; started again at the end."""
    (region,) = fault.target
    async with mesh.holding(f"server:{region}"):
        await mesh.servers[region].kill_async()
        yield
        await mesh.servers[region].start_async()


@kind("mysql.stop")
async def stop_mysql(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """SIGSTOP of a MySQL server: connections stay open and nothing answers."""
    (region,) = fault.target
    async with mesh.holding(f"server:{region}"):
        mesh.servers[region].pause()
        try:
            yield
        finally:
            mesh.servers[region].resume()


@kind("region.kill")
async def kill_region(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """SIGKILL of a region's server and node at once, as when its machine dies."""
    (region,) = fault.target
    async with mesh.holding(f"node:{region}", f"server:{region}"):
        await asyncio.gather(mesh.kill_node(region), mesh.servers[region].kill_async())
        yield
        await mesh.servers[region].start_async()
        mesh.start_node(region)


@kind("broker.kill")
async def kill_broker(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """SIGKILL of Kafka; started again at the end."""
    async with mesh.holding("broker"):
        brokers = mesh.cluster.brokers.named(None)
        for broker in brokers:
            await broker.kill_async()
        yield
        for broker in brokers:
            broker.die_with_parent = True
            await broker.start_async()


@kind("broker.stop")
async def stop_broker(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """SIGSTOP of Kafka: connections stay open and nothing answers."""
    async with mesh.holding("broker"):
        brokers = mesh.cluster.brokers.named(None)
        for broker in brokers:
            await asyncio.to_thread(broker.pause)
        try:
            yield
        finally:
            for broker in brokers:
                broker.resume()
