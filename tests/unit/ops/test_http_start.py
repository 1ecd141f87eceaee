"""The ops port of ``meshnode run`` before there is a mesh: it answers at once, or it is refused."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

SECONDS = 60.0

TOPOLOGY = """
mesh = "pair"
[replicate]
tables = ["app.*"]
[bus]
kind = "file"
dir = "bus"
[accounts]
tail = {{ user = "t", password_env = "HTTP_START_TEST" }}
apply = {{ user = "a", password_env = "HTTP_START_TEST" }}
admin = {{ user = "x", password_env = "HTTP_START_TEST" }}
[[region]]
id = 1
name = "east"
mysql = {{ host = "127.0.0.1", port = 1 }}
ops = {{ port = {port} }}
[[region]]
id = 2
name = "west"
mysql = {{ host = "127.0.0.1", port = 2 }}
"""


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A socket that listens and says nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def run_node(folder: Path, port: int) -> subprocess.Popen:
    """``meshnode run`` of a region whose MySQL is not there."""
    file = folder / "mesh.toml"
    file.write_text(TOPOLOGY.format(port=port))
    return subprocess.Popen(
        [sys.executable, "-m", "meshnode.cli", "run", "--region", "east", "--topology", file],
        stderr=subprocess.PIPE,
        env={**os.environ, "HTTP_START_TEST": "set"},
    )


def test_a_port_that_is_taken_ends_the_start(tmp_path: Path, taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    process = run_node(tmp_path, port)
    _, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    told = error.decode()
    assert f"meshnode: the ops port 127.0.0.1:{port} of region east is taken" in told
    assert "\n  remedy: end that process, or give `ops` of this region another" in told
    assert "Traceback" not in told


def test_it_answers_while_the_node_waits_for_its_mysql(
    tmp_path: Path, taken: socket.socket
) -> None:
    port = taken.getsockname()[1]
    taken.close()
    process = run_node(tmp_path, port)
    try:
        reasons = ""
        deadline = time.monotonic() + SECONDS
        while "no connection to the MySQL of region east" not in reasons:
            assert process.poll() is None
            assert time.monotonic() < deadline, reasons
            reasons = readiness(port)
        assert reasons.startswith("the region is not claimed yet: tailer waiting: ")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=20) as answer:
            assert answer.status == 200
    finally:
        process.kill()
        process.communicate()


def readiness(port: int) -> str:
    """The reasons of a 503; '' while nobody listens."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20).close()
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return error.read().decode()
    except OSError:
        return ""
    raise AssertionError("ready without a MySQL")
