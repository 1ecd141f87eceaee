"""The node process of one region of a lab: start, stop, kill, find again.

Like a server of the lab it is a pid file and a log in a folder, so that any
later command finds it; it is told from a stranger with the same process id by
its command line.
"""

import asyncio
import signal
import sys
from pathlib import Path

from meshnode.errors import Refused, Retry
from meshnode.lab import files, processes

STOP_SECONDS = 20.0
"""A node drains within this; then it is killed."""


class Node(processes.Found):
    """``meshnode run`` for ``region`` with the file ``topology``; its files lie in ``folder``."""

    def __init__(self, region: str, topology: Path, folder: Path) -> None:
        self.region = region
        self.topology = topology
        self.folder = folder

    @property
    def log(self) -> Path:
        """What the node prints; each start appends."""
        return self.folder / f"{self.region}.log"

    def start(self, die_with_parent: bool = False) -> None:
        """Start the process if it does not run; returns before it is ready."""
        if self.running:
            return
        if not self.topology.exists():
            raise Refused(f"{self.topology} is missing", "take the lab down and start another")
        child = processes.spawn(
            [sys.executable, "-m", "meshnode.cli", *self._arguments],
            output=self.log,
            folder=self.folder,
            die_with_parent=die_with_parent,
        )
        files.write_private(self._pid_file, f"{child}\n")

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Ask the node to drain and end; kill it after ``seconds``.  Whether it ended by itself."""
        if self._end(signal.SIGTERM, seconds):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End the process as a crash does, and wait until it has ended."""
        if not self._end(signal.SIGKILL, 30.0):
            raise Retry(f"the killed node of {self.region} has not ended within 30 s")

    async def stop_async(self) -> bool:
        """``stop`` in a thread."""
        return await asyncio.to_thread(self.stop)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of the log; empty where there is none."""
        return files.last_lines(self.log, lines)

    @property
    def _arguments(self) -> list[str]:
        return ["run", "--region", self.region, "--topology", str(self.topology)]

    @property
    def _marker(self) -> str:
        return "\0".join(self._arguments)

    @property
    def _pid_file(self) -> Path:
        return self.folder / f"{self.region}.pid"
