"""The lab's demo on the running Compose lab: load, a cut, a heal, and the judges.

The acts and the judges are those of ``meshnode lab demo``; here the servers are containers
and the network is toxiproxy's.  Ends with ``meshnode verify`` as an operator would run it.
Exit code 0: everything was applied everywhere, and all regions are identical.
"""

import argparse
import asyncio
import subprocess
import sys
import time

import links
import servers

from meshnode.errors import MeshError
from meshnode.lab import demo, rounds
from meshnode.lab.cluster import to_stderr
from meshnode.topology import Topology

READY_SECONDS = 180.0


class Stage:
    """What the demo asks of a lab, on servers that are somewhere else."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.names = [region.name for region in topology.regions]

    def server(self, name: str) -> servers.Server:
        """The MySQL of the region called ``name``."""
        return servers.server(self.topology.region(name))

    def isolate(self, names: list[str]) -> None:
        """Cut these regions off from Kafka, and so from everybody."""
        links.cut(names)

    def heal(self) -> None:
        """Give all links back."""
        links.heal(self.names)


async def play(seconds: float, seed: int) -> demo.Summary:
    """Run the demo; the links are whole again at its end, whatever happens."""
    began = time.monotonic()
    stage = Stage(servers.topology())
    stage.heal()
    links.latency(stage.names)
    to_stderr("waiting until every region hears every other")
    before = await rounds.beats(stage.topology)
    heard = await rounds.first_round(stage.topology, before, READY_SECONDS)
    summary = demo.Summary(regions=len(stage.names), wait_reasons=heard.reasons)
    summary.seconds_up = time.monotonic() - began
    if heard.complete:
        try:
            await demo.act(stage, summary, seconds, seed, to_stderr)
        finally:
            stage.heal()
    summary.seconds_total = time.monotonic() - began
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of load (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (default 1)")
    args = parser.parse_args()
    summary = asyncio.run(play(args.seconds, args.seed))
    print(summary, flush=True)
    # An application's orphans of foreign keys are a finding of `verify`, not a difference.
    verify = subprocess.run(["meshnode", "verify"], check=False).returncode
    print(f"meshnode verify: exit code {verify}")
    good = summary.converged and (verify == 0 or summary.orphans > 0)
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MeshError as error:
        sys.exit(f"demo: {error}")
