"""The watcher: takes changes of the topology file that may change while the node runs."""

import asyncio
import logging
from pathlib import Path

from meshnode.actors.kernel import Actor
from meshnode.errors import Refused
from meshnode.topology import Topology, load
from meshnode.topology_changes import changes

log = logging.getLogger("meshnode")

LOOK_SECONDS = 1.0


class View:
    """The topology that holds at this moment."""

    def __init__(self, now: Topology) -> None:
        self.now = now


class Watcher(Actor):
    """Reads the file again when it changes; what may not change is refused, with the reason."""

    def __init__(self, topology: Topology, path: Path | None) -> None:
        super().__init__("watcher")
        self.view = View(topology)
        self.path = path

    async def run(self) -> None:
        """Look at the file every second."""
        self.running()
        if self.path is None:
            await asyncio.Event().wait()
            return
        seen = self._stamp()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            stamp = self._stamp()
            if stamp != seen:
                seen = stamp
                self._take()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat() if self.path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size) if status else None

    def _take(self) -> None:
        try:
            new = load(str(self.path))
        except Refused as error:
            self._refuse(error.what)
            return
        found = changes(self.view.now, new)
        if found.refused:
            self._refuse("; ".join(found.refused))
            return
        self.view.now = new
        self.running()
        for change in found.live:
            log.info("topology: %s", change)

    def _refuse(self, why: str) -> None:
        log.error("the changed topology file is not used: %s", why)
        self.state.set(
            "halted", f"the changed topology file is not used: {why}",
            "put it right; a changed set of regions needs a restart of all nodes",
        )  # fmt: skip
