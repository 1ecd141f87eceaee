"""Log lines of a node: one line per record on stderr, ``key=value`` after the time.

One line per record whatever it holds, so that every collector can take it: line
breaks (a traceback has them) are written as ``\\n``.
"""

import json
import logging
import sys
import time

LEVELS = ("debug", "info", "warning", "error")


class LineFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000000Z level=info region=tokyo logger=meshnode message="..."``."""

    def __init__(self, region: str) -> None:
        super().__init__()
        self._region = region

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        micros = int(record.created % 1 * 1_000_000)
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        return (
            f"{seconds}.{micros:06d}Z level={record.levelname.lower()} region={self._region}"
            f" logger={record.name} message={json.dumps(message, ensure_ascii=False)}"
        )


def start(region: str, level: str) -> None:
    """Send the log of this process to stderr from ``level`` (one of ``LEVELS``) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(region))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
