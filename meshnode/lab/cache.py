"""The cache folder: things that take seconds to build and never change.

Theory of operation.  An entry (an unpacked server, an initialised data
directory) is built in a temporary folder beside its final place and renamed
there when complete, so an entry that exists is whole, whatever was killed.
One advisory lock per entry (``flock``) makes a second process wait for the
first instead of building the same thing; the kernel drops the lock with its
holder, so a crash leaves none behind.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from meshnode.errors import Refused


def cache_folder() -> Path:
    """``MESHNODE_CACHE``, or ``meshnode`` in ``XDG_CACHE_HOME``, else in ``~/.cache``; absolute."""
    own = os.environ.get("MESHNODE_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache").absolute() / "meshnode"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock file ``path`` (created if absent, never deleted); waits for it.

    The file stays: deleting it would let two processes hold "the" lock on two
    different inodes.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Return ``target``, made by ``build(empty_folder)`` if it is not there yet.

    ``build`` fills the folder that it is given, or raises; what it raises is
    passed on and leaves nothing behind.  Raises ``Refused`` where the cache
    folder cannot be written.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(target.name + ".lock")):
            if not target.is_dir():
                _build(target, build)
    except PermissionError as error:
        raise Refused(
            f"the cache folder {target.parent} cannot be written: {error}",
            "set MESHNODE_CACHE to a folder of your own",
        ) from error
    return target


def _build(target: Path, build: Callable[[Path], None]) -> None:
    # We hold the lock, so every partial folder here was left by a killed process.
    for stale in target.parent.glob(f"{target.name}.partial-*"):
        shutil.rmtree(stale, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
    try:
        build(partial)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
