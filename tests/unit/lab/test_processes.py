"""A process is known by its command line, also in its first and its last moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from meshnode.lab import processes

SLEEP = "import time; time.sleep(60)"


def test_a_process_just_started_is_known_at_once(tmp_path: Path):
    for number in range(20):
        pid = processes.spawn(
            [sys.executable, "-c", SLEEP, "--name", f"x{number}"],
            output=tmp_path / "log",
            folder=tmp_path,
            die_with_parent=True,
        )
        try:
            assert processes.lives(pid, f"--name\0x{number}")
            assert not processes.lives(pid, f"--name\0x{number}0")
            assert not processes.lives(pid, f"name\0x{number}")
        finally:
            assert processes.end(pid, SLEEP, signal.SIGKILL, 10)


def test_a_zombie_does_not_live():
    child = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not processes.lives(child.pid, SLEEP)
    finally:
        child.wait()
