"""Fault points: nothing in production, and all of them where the list says."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode import faultpoints
from meshnode.errors import Retry

PACKAGE = Path(faultpoints.__file__).parent
CALL = re.compile(r'\b(?:fault|sending)\("([a-z.]+)"')


def arm(path: Path, point: str, **how: object) -> None:
    path.write_text(json.dumps({"seed": 1, "points": {point: {"chance": 1.0, **how}}}))


def test_every_point_of_the_list_stands_in_the_code_once() -> None:
    found = [
        name
        for path in PACKAGE.rglob("*.py")
        if path.name != "faultpoints.py"
        for name in CALL.findall(path.read_text())
    ]
    assert sorted(found) == sorted(faultpoints.POINTS)


def test_unarmed_it_is_an_empty_function_and_hands_awaitables_on() -> None:
    fault, sending = faultpoints.bound(None)
    assert fault("applier.commit") is None
    assert not fault.__code__.co_names, "it calls something"
    answer = object()
    assert sending("applier.commit.sent", answer) is answer
    assert faultpoints.fault is fault, "armed in the environment of this test run?"


def test_what_fires_is_written_down_and_can_be_disarmed(tmp_path) -> None:
    path = tmp_path / "points.json"
    arm(path, "heart.tail", action="fail")
    fault, _ = faultpoints.bound(str(path))
    fault("applier.commit")
    with pytest.raises(Retry, match=r"heart\.tail"):
        fault("heart.tail")
    fired = (tmp_path / "points.json.fired").read_text().splitlines()
    assert [json.loads(line)["point"] for line in fired] == ["heart.tail"]
    path.write_text('{"points": {}}')
    fault("heart.tail")


def test_a_point_that_nobody_has_is_refused(tmp_path) -> None:
    arm(tmp_path / "points.json", "no.such.point")
    fault, _ = faultpoints.bound(str(tmp_path / "points.json"))
    with pytest.raises(ValueError, match=r"no\.such\.point"):
        fault("heart.tail")


async def test_sending_acts_between_request_and_answer(tmp_path) -> None:
    arm(tmp_path / "points.json", "applier.commit.sent", action="fail")
    _, sending = faultpoints.bound(str(tmp_path / "points.json"))
    steps: list[str] = []

    async def query() -> None:
        steps.append("sent")
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("given up")

    with pytest.raises(Retry):
        await sending("applier.commit.sent", query())
    assert steps == ["sent", "given up"]


def test_killed_as_by_a_crash(tmp_path) -> None:
    arm(tmp_path / "points.json", "heart.tail")
    script = "from meshnode.faultpoints import fault; fault('gardener.drop'); fault('heart.tail')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            faultpoints.VARIABLE: str(tmp_path / "points.json"),
            "PYTHONPATH": str(PACKAGE.parent),
        },
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
