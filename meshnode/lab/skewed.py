"""A MySQL server whose clock is set while it runs, by libfaketime (Debian: ``faketime``).

The monotonic clock is left alone: a server whose wall clock is stepped still waits as long
as it means to.
"""

import dataclasses
from pathlib import Path

from meshnode.errors import Refused
from meshnode.lab.servers import Server

LIBRARY = "*/faketime/libfaketimeMT.so.1"

UUID_MICROSECONDS = (
    "(CONV(CONCAT(SUBSTR(u, 16, 3), SUBSTR(u, 10, 4), SUBSTR(u, 1, 8)), 16, 10)"
    " - 122192928000000000) DIV 10"
)
CLOCK = f"SELECT CAST({UUID_MICROSECONDS} AS UNSIGNED) FROM (SELECT UUID() AS u) AS now"
"""The clock of the triggers, microseconds since 1970: the time inside ``UUID()``."""


class Clock:
    """The clock of one server; ``step`` says how many seconds it is ahead of the true time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.step(0)

    def step(self, seconds: float) -> None:
        """Be so far ahead of the true time; within a second the server has noticed."""
        part = self.file.with_suffix(".part")
        part.write_text(f"{seconds:+.6f}\n")
        part.rename(self.file)  # never half of it

    def drives(self, server: Server) -> None:
        """Let the server live by this clock from its next start on; it must have run before."""
        found = sorted(Path("/usr/lib").glob(LIBRARY))
        if not found:
            raise Refused("libfaketime is missing", "apt-get install faketime (make packages)")
        settings = (
            f"LD_PRELOAD={found[0]}",
            f"FAKETIME_TIMESTAMP_FILE={self.file}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            # With the "fix" timed waits on the monotonic clock end at once, and a start takes
            # a minute of spinning.
            "FAKETIME_FORCE_MONOTONIC_FIX=0",
        )
        argv = ("/usr/bin/env", *settings, *server.mysqld.argv)
        server.mysqld = dataclasses.replace(server.mysqld, argv=argv)
