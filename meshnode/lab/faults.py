"""``meshnode lab cut``, ``heal``, ``kill-node`` and their like: a lab's troubles, by hand."""

import argparse
import asyncio
import sys
from collections.abc import Callable

from meshnode.commands.arguments import Handler
from meshnode.errors import Refused
from meshnode.lab import layout
from meshnode.lab.cluster import Cluster

DONE = "exit codes: 0 done, 1 refused or failed"

AddCommand = Callable[[str, Handler, str, str], argparse.ArgumentParser]


def add_parsers(add: AddCommand) -> None:
    """Add the commands through ``add(name, handler, summary, description)``."""
    cut = add("cut", _cut, "cut the links between two regions", _about("cut tokyo sydney"))
    cut.add_argument("a", metavar="A", help="a region")
    cut.add_argument("b", metavar="B", help="another region")
    cut.add_argument("--one-way", action="store_true", help="only what A sends to B")
    heal = add(
        "heal",
        _heal,
        "heal the links between two regions, or all",
        _about("heal", "heal tokyo sydney"),
    )
    heal.add_argument("pair", nargs="*", metavar="REGION", help="two regions (default: all links)")
    for name, function, summary in (
        ("stop-node", _stop_node, "drain and end the node of a region"),
        ("start-node", _start_node, "start the node of a region"),
        ("kill-node", _kill_node, "end the node of a region as a crash does"),
        ("kill-mysql", _kill_mysql, "end the server of a region as a crash does"),
        ("start-mysql", _start_mysql, "start the server of a region"),
    ):
        add(name, function, summary, _about(f"{name} tokyo")).add_argument(
            "region", metavar="REGION", help="whose"
        )
    for name, function, summary in (
        ("kill-broker", _kill_broker, "end Kafka as a crash does"),
        ("start-broker", _start_broker, "start Kafka"),
        ("pause-broker", _pause_broker, "freeze Kafka: connections stay open, nothing answers"),
        ("resume-broker", _resume_broker, "let a frozen Kafka go on"),
    ):
        add(name, function, summary, _about(name, f"{name} tokyo")).add_argument(
            "broker", metavar="REGION", nargs="?",
            help="a region with its own Kafka (default: all)",
        )  # fmt: skip


def _about(*examples: str) -> str:
    lines = [f"  meshnode lab {example}" for example in examples]
    return "\n".join([*lines, "", DONE])


def lab_of(args: argparse.Namespace) -> Cluster:
    """The lab that the command line means."""
    return Cluster(args.dir or layout.last_directory())


async def _cut(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    a, b = lab.place(args.a).name, lab.place(args.b).name
    if a == b:
        raise Refused(f"{a} has no link to itself", "name two regions")
    lab.cut([(a, b)] if args.one_way else [(a, b), (b, a)])
    return 0


async def _heal(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    if len(args.pair) not in (0, 2):
        raise Refused(f"heal takes no region or two, not {len(args.pair)}", "name both or none")
    a, b = ([lab.place(named).name for named in args.pair] + [None, None])[:2]
    lab.heal([(a, b), (b, a)] if args.pair else None)
    return 0


async def _stop_node(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    region = lab.place(args.region).name
    if await lab.node(region).stop_async():
        return 0
    print(f"the node of {region} did not drain in time and was killed", file=sys.stderr)
    return 1


async def _start_node(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    lab.node(lab.place(args.region).name).start()
    return 0


async def _kill_node(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    await asyncio.to_thread(lab.node(lab.place(args.region).name).kill)
    return 0


async def _kill_mysql(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    await lab.server(lab.place(args.region).name).kill_async()
    return 0


async def _start_mysql(args: argparse.Namespace) -> int:
    lab = lab_of(args)
    await lab.server(lab.place(args.region).name).start_async()
    return 0


async def _kill_broker(args: argparse.Namespace) -> int:
    for broker in lab_of(args).brokers.named(args.broker):
        await broker.kill_async()
    return 0


async def _start_broker(args: argparse.Namespace) -> int:
    for broker in lab_of(args).brokers.named(args.broker):
        await broker.start_async()
    return 0


async def _pause_broker(args: argparse.Namespace) -> int:
    for broker in lab_of(args).brokers.named(args.broker):
        broker.pause()
    return 0


async def _resume_broker(args: argparse.Namespace) -> int:
    for broker in lab_of(args).brokers.named(args.broker):
        broker.resume()
    return 0
