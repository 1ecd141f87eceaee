"""A real Prometheus for a test, configured with the file that is shipped."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from meshnode.lab.processes import free_port

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
INTERVAL = "interval: 1s"
PATIENCE_SECONDS = 90.0


class Series(NamedTuple):
    """Labels and present value of one series."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """Asks the server at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **options: str) -> Any:
        """The ``data`` of an answer of the HTTP API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(options)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{url}: {error.read().decode()}") from error
        assert told["status"] == "success"
        return told["data"]

    def query(self, expr: str) -> list[Series]:
        """What ``expr`` is at this moment: its series, or one without labels for a scalar."""
        data = self.ask("query", query=expr)
        if data["resultType"] == "scalar":
            return [Series({}, float(data["result"][1]))]
        return [Series(each["metric"], float(each["value"][1])) for each in data["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health, state and alerts."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def ready(self) -> bool:
        """Whether the server answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False


def eventually(holds: Callable[[], Any], missing: Callable[[], object]) -> None:
    """Wait until ``holds``; what is ``missing`` stands in the failure."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, missing()
        time.sleep(0.2)


@contextlib.contextmanager
def prometheus(folder: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    """The shipped configuration at work on ``targets``, every second."""
    place = folder / "prometheus"
    shutil.copytree(SHIPPED, place)
    config = (place / "prometheus.yml").read_text()
    assert config.count("interval: 15s") == 2
    (place / "prometheus.yml").write_text(config.replace("interval: 15s", INTERVAL))
    (place / "targets" / "meshnode.yml").write_text(json.dumps([{"targets": list(targets)}]))
    port = free_port()
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={place / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
        )
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        eventually(
            lambda: process.poll() is None and server.ready(),
            lambda: f"Prometheus does not start: {log.read_text()[-2000:]}",
        )
        yield server
    finally:
        process.terminate()
        process.wait(30)
