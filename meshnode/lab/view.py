"""What a lab shows: the status of its mesh, once or live."""

import asyncio
import sys

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from meshnode.commands.arguments import PLAIN_WIDTH, print_json
from meshnode.lab.cluster import Cluster
from meshnode.lab.wan import read_cuts
from meshnode.ops import status as mesh_status
from meshnode.ops import status_view

REFRESH_SECONDS = 1.0


async def watch(lab: Cluster) -> None:
    """Show regions and lags on the terminal until the lab is gone, or until cancelled."""
    console = Console(stderr=not sys.stdout.isatty())
    hint = Text(
        f"lab in {lab.directory}; Ctrl-C takes it down.  From another terminal: "
        "meshnode lab load, lab cut A B, lab heal, lab kill-node R, lab check",
        "dim",
    )
    async with mesh_status.Lookout(lab.topology) as lookout:
        with Live(hint, console=console, screen=False, auto_refresh=False) as live:
            while lab.layout.is_there:
                seen = await lookout.look()
                cuts = sorted(f"{a} -> {b}" for a, b in read_cuts(lab.layout.control))
                links = Text(f"cut: {', '.join(cuts)}", "red") if cuts else Text("all links are up")
                live.update(Group(status_view.render(seen), links, hint), refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


async def status(lab: Cluster, as_json: bool) -> int:
    """Print the status with rates; exit code 1 when the mesh is not converged."""
    seen = await mesh_status.look_twice(lab.topology)
    if as_json:
        print_json(mesh_status.as_json(seen))
    else:
        console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        status_view.show(seen, console)
        for name in lab.names:
            node, server = lab.node(name).pid, lab.server(name).pid
            console.print(
                f"{name}: node {f'pid {node}' if node else 'down'}, "
                f"MySQL {f'pid {server}' if server else 'down'}",
                highlight=False,
            )
        for a, b in sorted(read_cuts(lab.layout.control)):
            console.print(f"cut: {a} -> {b}", highlight=False)
    return 0 if seen.converged else 1
