"""Places in the node where a test may let it die, stall or fail; nothing in production.

``fault("applier.commit")`` is an empty function unless ``MESHNODE_FAULTS`` names a file when
the process starts.  That file (JSON) says which points are armed:

    {"seed": 7, "points": {"applier.commit": {"chance": 0.05, "action": "kill"}}}

Actions: ``kill`` ends the process as SIGKILL does, ``stall`` stands still for ``seconds`` with
the whole event loop, ``fail`` raises a ``Retry``.  The file is read again when it has changed.
Before it acts, a point appends a line to the file with ``.fired`` behind its name, so that who
armed it can tell its own deaths from others.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from meshnode.errors import Retry

VARIABLE = "MESHNODE_FAULTS"

POINTS = {
    "publisher.append": "a frame is made, and not given to the bus yet",
    "publisher.appended": "the bus has acknowledged a frame, and nobody knows it yet",
    "heart.tail": "a beat and the newest acknowledged frame are written, and not committed",
    "takeover.raised": "the epoch is raised and committed, and not claimed",
    "takeover.claimed": "the claim stands in the topic, and its end is not read yet",
    "applier.fenced": "the position is moved, and no row is locked yet",
    "applier.locked": "the rows are locked and read, and nothing is written",
    "applier.commit": "everything is written and looked at, and not committed",
    "applier.commit.sent": "the COMMIT is on the wire, and not answered",
    "applier.committed": "the COMMIT is answered, and nobody knows it yet",
    "straight.written": "a batch is written the straight way, and not committed",
    "straight.commit.sent": "the COMMIT of such a batch is on the wire, and not answered",
    "straight.committed": "the COMMIT of such a batch is answered, and nobody knows it yet",
    "straight.part": "a part of a huge transaction is written, and others are to follow",
    "mending.lift": "rows are lifted, and not committed",
    "mending.lifted": "lifts are committed, and their frame is not appended",
    "gardener.drop": "the limit of the tombstones to be dropped is noted, and they are there",
}
"""Every point, and what is true there."""


class Armed:
    """The points armed in the file ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = 0
        self._points: dict[str, dict[str, Any]] = {}
        self._random = random.Random()

    def __call__(self, point: str) -> None:
        """Act, if ``point`` is armed and its turn has come."""
        self._look()
        armed = self._points.get(point)
        if armed is None or self._random.random() >= armed["chance"]:
            return
        action = armed.get("action", "kill")
        with open(self._path + ".fired", "a") as fired:
            line = {"pid": os.getpid(), "point": point, "action": action, "at": time.time()}
            fired.write(json.dumps(line) + "\n")
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "stall":
            time.sleep(armed.get("seconds", 1.0))
        elif action == "fail":
            raise Retry(f"fault point {point}")
        else:
            raise ValueError(f"{self._path}: no action {action!r}")

    def _look(self) -> None:
        changed = os.stat(self._path).st_mtime_ns
        if changed == self._seen:
            return
        with open(self._path) as file:
            said = json.load(file)
        unknown = said["points"].keys() - POINTS.keys()
        if unknown:
            raise ValueError(f"{self._path}: no fault points {sorted(unknown)}")
        self._random.seed(f"{said.get('seed', 0)} {os.getpid()}")
        self._points, self._seen = said["points"], changed

    async def sending(self, point: str, answer: Awaitable[Any]) -> Any:
        """Act when the request behind ``answer`` has left and nothing has come back."""
        task = asyncio.ensure_future(answer)
        # The task runs until it waits: the request is with the kernel then.
        await asyncio.sleep(0)
        try:
            self(point)
        except Retry:
            task.cancel()
            await asyncio.wait([task])
            raise
        return await task


def _nothing(point: str) -> None:
    """Production: no point is armed."""


def _as_it_is(point: str, answer: Awaitable[Any]) -> Awaitable[Any]:
    """Production: the request is awaited as if this were not here."""
    return answer


Fault = Callable[[str], None]
Sending = Callable[[str, Awaitable[Any]], Awaitable[Any]]


def bound(path: str | None) -> tuple[Fault, Sending]:
    """What ``fault`` and ``sending`` are when the environment names ``path``, or nothing."""
    if not path:
        return _nothing, _as_it_is
    armed = Armed(path)
    return armed, armed.sending


fault, sending = bound(os.environ.get(VARIABLE))
