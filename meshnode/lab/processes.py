"""Processes that outlive the command that started them.

Theory of operation.  A lab server is started in a session of its own and
found again by the process id in its pid file.  A process id alone proves
nothing, because the kernel reuses it, so before any signal the process is
pinned by a pidfd, and only then is its command line compared with the marker
that the caller expects (an argument such as ``--datadir=...`` that no other
process has, or several in a row, joined by NUL).  The pidfd cannot come to mean
another process in between.

Servers of a test die with it: the kernel sends SIGKILL when the *thread*
that started them ends, so those are all started by one thread that lives as
long as the interpreter.
"""

import contextlib
import ctypes
import os
import random
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from meshnode.errors import Retry

# Below Linux's range for outgoing connections (32768 and up): a port that is
# free while its server is down must not be taken by somebody's connection.
PORT_RANGE = range(20000, 32000)
PR_SET_PDEATHSIG = 1
EXEC_SECONDS = 1.0
FREEZE_SECONDS = 30.0

_libc = ctypes.CDLL(None, use_errno=True)
_children: list[subprocess.Popen[bytes]] = []
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def spawn(
    argv: Sequence[str],
    *,
    output: Path,
    folder: Path,
    die_with_parent: bool = False,
) -> int:
    """Start ``argv`` in a new session, its output appended to the file ``output``; its pid.

    With ``die_with_parent`` the kernel kills the process when this interpreter ends,
    however it ends.
    """
    parent = os.getpid()

    def bind_to_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above took effect
            os._exit(1)

    def start() -> subprocess.Popen[bytes]:
        with output.open("ab") as sink:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=folder,
                start_new_session=True,
                preexec_fn=bind_to_parent if die_with_parent else None,
            )

    child = _spawner.submit(start).result()
    _children.append(child)
    return child.pid


def _reap() -> None:
    """Take note of children that have ended, or they would stay as zombies."""
    for child in [child for child in _children if child.poll() is not None]:
        with contextlib.suppress(ValueError):  # another thread was faster
            _children.remove(child)


@contextmanager
def pinned(pid: int | None, marker: str) -> Iterator[int | None]:
    """A pidfd of the process ``pid`` if it lives and has the argument ``marker``, else None."""
    if pid is None:
        yield None
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor if _has_argument(pid, marker) else None
    finally:
        os.close(descriptor)
        _reap()


def lives(pid: int | None, marker: str) -> bool:
    """Whether ``pid`` is a living process (no zombie) with the argument ``marker``."""
    with pinned(pid, marker) as process:
        return process is not None


def send(pid: int | None, marker: str, number: signal.Signals) -> bool:
    """Send a signal to ``pid`` if it still is the process marked; whether it was sent."""
    with pinned(pid, marker) as process:
        if process is None:
            return False
        try:
            signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return False
        return True


def end(pid: int | None, marker: str, number: signal.Signals, seconds: float) -> bool:
    """Send a signal and wait until the process has ended; False if it lives on after ``seconds``.

    True as well where the marked process did not exist.
    """
    with pinned(pid, marker) as process:
        if process is None:
            return True
        try:
            signal.pidfd_send_signal(process, number)
        except ProcessLookupError:
            return True
        watch = select.poll()
        watch.register(process, select.POLLIN)
        return bool(watch.poll(seconds * 1000))


class Found:
    """A process that any later command finds again, by a pid file and an argument of its own."""

    @property
    def _pid_file(self) -> Path:
        raise NotImplementedError

    @property
    def _marker(self) -> str:
        """The argument, or several in a row joined by NUL, that no other process has."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process id while the process lives (frozen counts as living), else None."""
        pid = read_pid(self._pid_file)
        return pid if lives(pid, self._marker) else None

    @property
    def running(self) -> bool:
        """Whether the process lives (frozen counts as living)."""
        return self.pid is not None

    def resume(self) -> None:
        """Let a frozen process go on (SIGCONT); nothing if it is not frozen or down."""
        self._send(signal.SIGCONT)

    def _freeze(self) -> bool:
        """SIGSTOP, and wait until it stands still; False if it does not run.

        Its threads are stopped one by one, and until then some of them still answer.
        """
        pid = self.pid
        if not self._send(signal.SIGSTOP):
            return False
        for _ in until(time.monotonic() + FREEZE_SECONDS):
            if self.pid is None or _stands_still(pid):
                return True
        raise Retry(f"process {pid} has not frozen in {FREEZE_SECONDS:g} s")

    def _send(self, number: signal.Signals) -> bool:
        return send(read_pid(self._pid_file), self._marker, number)

    def _end(self, number: signal.Signals, seconds: float) -> bool:
        return end(read_pid(self._pid_file), self._marker, number, seconds)


def _stands_still(pid: int | None) -> bool:
    """Whether every thread of the process is stopped."""
    try:
        threads = [stat.read_bytes() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False  # a thread has just ended
    return all(thread.rpartition(b")")[2].split()[0] in (b"T", b"t") for thread in threads)


def _has_argument(pid: int, marker: str) -> bool:
    deadline = time.monotonic() + EXEC_SECONDS
    while True:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if line or time.monotonic() > deadline or _is_zombie(pid):
                return b"\0" + os.fsencode(marker) + b"\0" in b"\0" + line
        except (FileNotFoundError, ProcessLookupError):
            return False
        # A process that has only just been started has no command line for a moment.
        time.sleep(0.001)


def _is_zombie(pid: int) -> bool:
    # The name before the state may hold anything, parentheses too.
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")


def free_port(host: str = "127.0.0.1", attempts: int = 200) -> int:
    """A TCP port of ``host`` that nobody holds now; somebody may take it before it is used."""
    for _ in range(attempts):
        port = random.choice(PORT_RANGE)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise Retry(f"{attempts} ports of {host} tried between 20000 and 32000, none was free")


def read_pid(path: Path) -> int | None:
    """The process id in the file ``path``; None where there is none."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def until(deadline: float) -> Iterator[None]:
    """Pace a poll loop, 20 ms a round, until the monotonic time ``deadline``."""
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
