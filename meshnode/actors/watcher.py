"""The watcher: takes changes of the topology file that may change while the node runs.

Most settings are read where they are used, so a new topology in the :class:`View` is all
they need.  What the node is built of cannot change under its actors: the watcher has
the node of the new topology made (``follow``), which is refused unless that one could
start, and takes this one's place.  Nothing of such a file holds before.  A refusal may be
about something that passes (a server that does not answer yet), so it is tried again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from meshnode.actors.kernel import Actor
from meshnode.errors import MeshError, Refused
from meshnode.topology import Topology, load
from meshnode.topology_changes import changes, rebuilt

log = logging.getLogger("meshnode")

LOOK_SECONDS = 1.0

AGAIN_SECONDS = 5.0
"""A file that was not taken is tried again after this long, changed or not."""

Follow = Callable[[Topology, str], Awaitable[None]]
"""Has a topology's node made and put in this one's place, for a reason.  Errors: why it cannot."""


class View:
    """The topology that holds at this moment."""

    def __init__(self, now: Topology) -> None:
        self.now = now


class Watcher(Actor):
    """Reads the file again when it changes; what may not change is refused, with the reason."""

    def __init__(self, topology: Topology, path: Path | None, region: str, follow: Follow) -> None:
        super().__init__("watcher")
        self.view = View(topology)
        self.path = path
        self.region = region
        self.follow = follow
        # Not what stands there now: the file may have changed since it was read.
        self._seen: tuple[int, int] | None = (0, 0)
        self._again = float("inf")
        self._followed = False

    async def run(self) -> None:
        """Look at the file every second."""
        self.running()
        if self.path is None:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Take the file if it has changed, or if it is time to try again."""
        now, stamp = asyncio.get_running_loop().time(), self._stamp()
        if self.path is None or self._followed or (stamp == self._seen and now < self._again):
            return
        self._seen, self._again = stamp, now + AGAIN_SECONDS
        if await self._take():
            self._again = float("inf")

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat() if self.path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size) if status else None

    async def _take(self) -> bool:
        """Take the file over; whether it is settled what becomes of it."""
        try:
            new = load(str(self.path))
        except Refused as error:
            self._refuse(error.what, "put it right")
            return True
        found = changes(self.view.now, new)
        if found.refused:
            self._refuse("; ".join(found.refused), "put it right")
            return True
        parts = rebuilt(self.view.now, new, self.region)
        if parts and not await self._give_way(new, ", ".join(parts)):
            return False
        if not parts:
            self.view.now = new
            self.running()
        for change in found.live:
            log.info("topology: %s", change)
        return True

    async def _give_way(self, new: Topology, parts: str) -> bool:
        """Have the node of ``new`` take this one's place; False if it could not start."""
        if self.state.state != "halted":
            self.state.set("running", f"topology changed ({parts}): looks whether it can start")
        reason = f"topology changed ({parts}): starting again with it"
        try:
            await self.follow(new, reason)
        except MeshError as error:
            self._refuse(error.what, error.remedy or "put it right; it is tried again")
            return False
        self._followed = True
        self.state.set("starting", reason)
        log.warning("%s", reason)
        return True

    def _refuse(self, why: str, remedy: str) -> None:
        reason = f"the changed topology file is not used: {why}"
        if (self.state.state, self.state.reason) != ("halted", reason):
            log.error("%s; remedy: %s", reason, remedy)
        self.state.set("halted", reason, remedy)
