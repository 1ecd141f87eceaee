"""The MySQL server program: finding it, and its freshly initialised data directory.

Theory of operation.  A program named by the user comes first, then the
``mysqld`` on PATH, then the one in the cache folder, which is fetched there
if need be.  What is found is asked for its version and folders; nothing is
guessed from its path.  The fetched program is started through the dynamic
loader that was fetched with it.

``--initialize`` takes seconds, so it is run once for each version and its
result kept as a template; a server's data directory is a copy.
"""

import functools
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshnode.errors import Refused
from meshnode.lab.cache import build_once, cache_folder
from meshnode.lab.fetch import fetch_mysql, fetch_mysql8

ASK_DEADLINE_SECONDS = 60
INITIALISE_DEADLINE_SECONDS = 300

# 'root'@'%' is what a TCP login meets: without name resolution an address
# never matches 'localhost'.
TEMPLATE_STATEMENTS = (
    "CREATE USER 'root'@'%' IDENTIFIED BY '';",
    "GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;",
)


@dataclass(frozen=True)
class Mysqld:
    """One installed server program.

    ``argv`` is what comes before the first option (loader and library path
    where needed, then the program); ``client_argv`` the same for the ``mysql``
    client, None where there is none; ``version`` as the program prints it,
    such as ``9.7.4-2``.
    """

    argv: tuple[str, ...]
    client_argv: tuple[str, ...] | None
    basedir: Path
    messages: Path
    plugins: Path
    version: str

    def to_fields(self) -> dict[str, Any]:
        """The description as JSON takes it."""
        return {
            "argv": self.argv,
            "client_argv": self.client_argv,
            "basedir": str(self.basedir),
            "messages": str(self.messages),
            "plugins": str(self.plugins),
            "version": self.version,
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Mysqld":
        """The inverse of ``to_fields``, after a way through JSON."""
        return cls(
            tuple(fields["argv"]),
            tuple(fields["client_argv"]) if fields["client_argv"] else None,
            Path(fields["basedir"]),
            Path(fields["messages"]),
            Path(fields["plugins"]),
            fields["version"],
        )

    def arguments(self) -> list[str]:
        """The beginning of every command line: program, no option files, its own folders."""
        return [
            *self.argv,
            "--no-defaults",
            f"--basedir={self.basedir}",
            f"--lc-messages-dir={self.messages}",
            f"--plugin-dir={self.plugins}",
            # mysqld refuses to run as root unless told so.
            *(["--user=root"] if os.geteuid() == 0 else []),
        ]


def find_mysqld(explicit: str | None = None) -> Mysqld:
    """The server program to use; see the order above.

    ``explicit`` (else the environment's ``MESHNODE_MYSQLD``) is the path of a
    ``mysqld`` or of a folder of unpacked packages with ``usr/sbin/mysqld``.
    Raises ``Refused`` where it is no working MySQL server, or none is found
    and none can be fetched.  Blocks; a fetch takes about 15 s and 66 MB.
    """
    named = explicit or os.environ.get("MESHNODE_MYSQLD")
    if named:
        return _named(named)
    installed = shutil.which("mysqld")
    if installed:
        return installed_mysqld(Path(installed))
    return unpacked_mysqld(fetch_mysql())


def _named(named: str) -> Mysqld:
    path = Path(named).expanduser().absolute()
    if (path / "usr/sbin/mysqld").is_file():
        return unpacked_mysqld(path)
    if not path.is_file() or not os.access(path, os.X_OK):
        raise Refused(
            f"the MySQL server named, {path}, is no program",
            "name the mysqld program itself in MESHNODE_MYSQLD, or leave it unset to fetch one",
        )
    return installed_mysqld(path)


def installed_mysqld(program: Path) -> Mysqld:
    """Describe the ``mysqld`` at the absolute path ``program``, which runs on its own."""
    beside = program.with_name("mysql")
    client = str(beside) if beside.is_file() else shutil.which("mysql")
    return _described((str(program),), (client,) if client else None)


def unpacked_mysqld(root: Path) -> Mysqld:
    """Describe the server of a folder of unpacked packages, run through the folder's loader."""
    loader, libraries = _loader(root)
    run = (loader, "--library-path", libraries)
    return _described((*run, str(root / "usr/sbin/mysqld")), (*run, str(root / "usr/bin/mysql")))


def find_mysql8() -> Mysqld:
    """MySQL 8.0.15, fetched the first time; for tests against an old server.

    Its client is that of the newer MySQL.  Raises ``Refused`` like ``fetch_mysql8``.
    """
    modern, old = fetch_mysql(), fetch_mysql8()
    loader, libraries = _loader(modern)
    own = f"{old / 'lib'}:{libraries}"
    return _described(
        (loader, "--library-path", own, str(old / "bin/mysqld")),
        (loader, "--library-path", libraries, str(modern / "usr/bin/mysql")),
    )


def _loader(root: Path) -> tuple[str, str]:
    """The dynamic loader of a folder of unpacked packages, and the folder of its libraries."""
    loaders = sorted(root.glob("usr/lib/*/ld-linux-*.so.*"))
    if not loaders:
        raise Refused(
            f"the unpacked MySQL in {root} has no dynamic loader in usr/lib",
            f"delete {root}, so that it is fetched again",
        )
    return str(loaders[0]), str(loaders[0].parent)


@functools.cache
def _described(argv: tuple[str, ...], client_argv: tuple[str, ...] | None) -> Mysqld:
    version = re.search(r"\bVer (\S+)", _ask(argv, "--no-defaults", "--version"))
    if version is None or _release(version[1]) < (8, 0, 0) or "MariaDB" in version[1]:
        raise Refused(
            f"{argv[-1]} is no MySQL server of version 8.0 or later",
            "name one in MESHNODE_MYSQLD, or take this one off PATH to have one fetched",
        )
    shown = _ask(argv, "--no-defaults", "--verbose", "--help")
    folders: dict[str, Path] = {}
    for name in ("basedir", "lc-messages-dir", "plugin-dir"):
        value = re.search(rf"^{name}\s+(\S.*?)\s*$", shown, re.MULTILINE)
        if value is None:
            raise Refused(f"{argv[-1]} --verbose --help does not tell its {name}")
        folders[name] = Path(value[1])
    return Mysqld(
        argv,
        client_argv,
        folders["basedir"],
        folders["lc-messages-dir"],
        folders["plugin-dir"],
        version[1],
    )


def _ask(argv: tuple[str, ...], *options: str) -> str:
    try:
        done = subprocess.run(
            [*argv, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_DEADLINE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(
            f"the MySQL server {argv[-1]} does not run: {error}",
            "name a working one in MESHNODE_MYSQLD",
        ) from error
    if done.returncode != 0:
        raise Refused(
            f"{argv[-1]} {' '.join(options)} failed (exit {done.returncode}): "
            + done.stderr.strip()[-800:],
            "name a working one in MESHNODE_MYSQLD",
        )
    return done.stdout


def _release(version: str) -> tuple[int, int, int]:
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else (0, 0, 0)


def data_template(mysqld: Mysqld) -> Path:
    """The cached data directory as ``--initialize`` leaves it, built the first time (about 5 s).

    It holds ``root@localhost`` and ``root@%`` with empty passwords and no
    ``auto.cnf``.  Never start a server on it; copy it (``copy_template``).
    """
    # Builds of one version by different packagers may differ; so do our statements over time.
    key = "\0".join([mysqld.version, *mysqld.argv, *TEMPLATE_STATEMENTS])
    name = f"{mysqld.version}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def build(folder: Path) -> None:
        data = folder / "data"
        statements = folder / "init.sql"
        statements.write_text("\n".join(TEMPLATE_STATEMENTS) + "\n")
        log = folder / "initialise.log"
        command = [
            *mysqld.arguments(),
            "--initialize-insecure",
            f"--datadir={data}",
            f"--init-file={statements}",
            f"--log-error={log}",
            f"--tmpdir={folder}",
            "--secure-file-priv=NULL",
            "--mysqlx=OFF",
            # A small log makes small copies; a server enlarges it as it starts.
            "--loose-innodb-redo-log-capacity=8M",
        ]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=INITIALISE_DEADLINE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(
                f"{mysqld.argv[-1]} --initialize-insecure did not end within "
                f"{INITIALISE_DEADLINE_SECONDS} s",
                "is the disk of the cache folder full or overloaded?",
            ) from error
        if done.returncode != 0:
            said = log.read_text(errors="replace") if log.exists() else ""
            said += done.stderr.decode(errors="replace")
            raise Refused(
                f"{mysqld.argv[-1]} --initialize-insecure failed (exit {done.returncode}):\n"
                + "\n".join(said.splitlines()[-12:])
            )
        (data / "auto.cnf").unlink(missing_ok=True)

    return build_once(cache_folder() / "templates" / name, build) / "data"


def copy_template(mysqld: Mysqld, target: Path) -> None:
    """Make ``target`` (absent as yet) a fresh data directory; whole once it exists."""
    source = data_template(mysqld)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    copied = subprocess.run(
        ["cp", "--archive", "--reflink=auto", str(source), str(partial)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if copied.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise Refused(
            f"the data directory {target} could not be made: {copied.stderr.strip()}",
            "free some disk space (each server starts with about 100 MB)",
        )
    partial.rename(target)
