"""A real Jaeger for the session: its all-in-one server, which ``scripts/jaeger`` builds."""

import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaeger import Jaeger

from meshnode.lab import processes
from meshnode.lab.processes import free_port

LISTENERS = (
    "collector.otlp.http", "query.http-server", "admin.http", "collector.otlp.grpc",
    "collector.grpc-server", "collector.http-server", "query.grpc-server",
)  # fmt: skip
START_SECONDS = 60.0


@pytest.fixture(scope="session")
def jaeger() -> Iterator[Jaeger]:
    """A running Jaeger that keeps spans in memory."""
    program = os.environ.get("MESHNODE_JAEGER")
    if not program:
        pytest.skip("no Jaeger: `make test-jaeger` builds it and runs this")
    ports = {name: free_port() for name in LISTENERS}
    with tempfile.TemporaryDirectory(prefix="meshnode-jaeger-") as folder:
        log = Path(folder) / "jaeger.log"
        arguments = [f"--{name}.host-port=127.0.0.1:{port}" for name, port in ports.items()]
        pid = processes.spawn(
            [program, *arguments], output=log, folder=Path(folder), die_with_parent=True
        )
        try:
            wait_for(f"http://127.0.0.1:{ports['admin.http']}/", log)
            yield Jaeger(
                f"http://127.0.0.1:{ports['collector.otlp.http']}",
                f"http://127.0.0.1:{ports['query.http-server']}",
            )
        finally:
            processes.end(pid, arguments[0], 15, 10.0) or processes.end(pid, arguments[0], 9, 10.0)


def wait_for(url: str, log: Path) -> None:
    """Wait until ``url`` answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            assert time.monotonic() < deadline, f"{url}: {error}; {log.read_text()[-2000:]}"
            time.sleep(0.1)
