"""The small files of a lab server's folder: written whole, private, read from the end."""

import hashlib
import os
import tempfile
from pathlib import Path

from meshnode.errors import Refused

# The kernel's limit for a socket path is 107 bytes.
SOCKET_PATH_BYTES = 100
TAIL_BYTES = 65536


def write_private(path: Path, text: str) -> None:
    """Replace the file whole, readable by its owner only (it may hold a password)."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
    partial.rename(path)


def own_folder(folder: Path) -> None:
    """Make the folder for this user only; raises ``Refused`` if another user owns it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise Refused(f"the folder {folder} belongs to another user", "set TMPDIR to your own")


def size(path: Path) -> int:
    """Bytes of the file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def text_from(path: Path, offset: int) -> str:
    """The file's text from a byte offset on; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def last_lines(path: Path, lines: int) -> str:
    """The last lines of a text file (of its last 64 KiB); empty where there is none."""
    text = text_from(path, max(0, size(path) - TAIL_BYTES))
    return "\n".join(text.splitlines()[-lines:])


def socket_path(folder: Path) -> Path:
    """Where the Unix socket of the server in ``folder`` goes.

    Inside the folder, unless its path is too long for a socket: then in a
    folder of its own below the temporary folder, named after the first.
    """
    path = folder / "mysqld.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"meshnode-{os.getuid()}-{name}" / "mysqld.sock"
