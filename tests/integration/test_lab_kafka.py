"""The lab with Kafka brokers: the demo in a mesh shape, and a star's broker by hand."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnode.lab.kafka_jars import why_no_kafka

MESHNODE = (sys.executable, "-m", "meshnode.cli", "lab")

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def needs_kafka() -> None:
    missing = why_no_kafka()
    if missing is not None:
        pytest.skip(missing)


def lab(folder: Path, *arguments: str, code: int = 0) -> str:
    """Run ``meshnode lab`` on a folder; what it printed."""
    done = subprocess.run(
        [*MESHNODE, *arguments, "--dir", str(folder)],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_demo_converges_with_a_broker_in_each_region(mysqld, tmp_path: Path) -> None:
    folder = tmp_path / "l"
    told = lab(folder, "demo", "--bus", "kafka-mesh", "--regions", "3", "--seconds", "5", "--json")
    summary = json.loads(told)
    assert summary["converged"] is True
    assert summary["rows_written"] > 100
    assert summary["checker"]["recorded"] == summary["checker"]["lost_writes"]
    assert not folder.exists()


@pytest.fixture
def star(mysqld, tmp_path: Path) -> Iterator[Path]:
    """Two regions with one broker."""
    folder = tmp_path / "l"
    lab(folder, "up", "--bus", "kafka", "--regions", "2", "--detach", "--json")
    yield folder
    lab(folder, "down")
    assert not folder.exists()


def test_a_lab_whose_broker_is_killed_and_started(star: Path) -> None:
    lab(star, "wait", "--timeout", "120")
    lab(star, "kill-broker")
    waited = lab(star, "wait", "--timeout", "5", code=1)
    assert "waits for" in waited
    lab(star, "start-broker")
    counts = json.loads(lab(star, "load", "--seconds", "3", "--rate", "30", "--json"))
    assert counts["rows"] > 20
    lab(star, "wait", "--timeout", "180")
    assert json.loads(lab(star, "check", "--json"))["good"]
