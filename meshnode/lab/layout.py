"""Where everything of a lab lies, and how the lab that was made last is found again.

Theory of operation.  A lab is a folder.  ``lab.json`` says which regions it has;
everything else is found from the folder and a region's name, so that any later
command can take up any lab.  The folder of the newest lab is remembered in the
cache folder: commands without ``--dir`` mean that one.
"""

import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshnode.errors import Refused
from meshnode.lab.cache import cache_folder
from meshnode.lab.files import write_private

REGION_NAMES = (
    "virginia",
    "oregon",
    "saopaulo",
    "dublin",
    "frankfurt",
    "mumbai",
    "tokyo",
    "sydney",
    "singapore",
)
"""Names of the regions, in the order of their ids and of the sites of ``wan.default_latency``."""

FEWEST_REGIONS, MOST_REGIONS = 2, len(REGION_NAMES)


@dataclass(frozen=True, slots=True)
class Place:
    """A region of a lab."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of the lab in ``directory``, which must be absolute; ``at`` makes it so."""

    directory: Path

    @classmethod
    def at(cls, directory: Path) -> "Layout":
        return cls(directory.absolute())

    @property
    def description(self) -> Path:
        return self.directory / "lab.json"

    @property
    def is_there(self) -> bool:
        """Whether nobody has deleted the lab."""
        return self.description.exists()

    @property
    def topology(self) -> Path:
        return self.directory / "topology.toml"

    @property
    def control(self) -> Path:
        """The control file of the network between the regions."""
        return self.directory / "wan.json"

    @property
    def bus(self) -> Path:
        return self.directory / "bus"

    @property
    def nodes(self) -> Path:
        """Logs and pid files of the node processes."""
        return self.directory / "nodes"

    @property
    def brokers(self) -> Path:
        return self.directory / "brokers"

    def server(self, region: str) -> Path:
        return self.directory / "servers" / region

    def secret(self, region: str, role: str) -> Path:
        return self.directory / "secrets" / f"{region}-{role}"

    def make(self, regions: tuple[Place, ...]) -> None:
        """Create the folder with its description; Refused if something is there already."""
        if self.directory.exists() and (
            not self.directory.is_dir() or any(self.directory.iterdir())
        ):
            raise Refused(
                f"{self.directory} is not an empty folder",
                "name another with --dir, or take the lab there down with "
                f"`meshnode lab down --dir {self.directory}`",
            )
        for folder in (self.nodes, self.bus, self.directory / "servers"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.directory / "secrets").mkdir(mode=0o700)
        described = {
            "version": 1,
            "regions": [{"id": place.id, "name": place.name} for place in regions],
        }
        write_private(self.description, json.dumps(described, indent=1) + "\n")

    def regions(self) -> tuple[Place, ...]:
        """The regions of the lab that is here; Refused where there is none."""
        try:
            described: dict[str, Any] = json.loads(self.description.read_text())
            return tuple(Place(each["id"], each["name"]) for each in described["regions"])
        except FileNotFoundError:
            raise Refused(
                f"{self.directory} holds no lab", "start one with `meshnode lab up --dir ...`"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"{self.description} is not what a lab writes: {error!r}",
                "end the processes of that folder by hand and delete it",
            ) from None

    def delete(self) -> None:
        """Remove what a lab writes, and the folder if nothing else is in it."""
        for name in ("servers", "nodes", "bus", "brokers", "secrets"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        for file in (self.topology, self.control, self.description):
            file.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()


def fresh_directory() -> Path:
    """A new empty folder for a lab below the temporary folder."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path(tempfile.mkdtemp(prefix=f"meshnode-lab-{stamp}-")).absolute()


def remember(directory: Path) -> None:
    """Make ``directory`` the lab that commands without ``--dir`` mean."""
    pointer = _pointer()
    pointer.parent.mkdir(parents=True, exist_ok=True)
    write_private(pointer, f"{directory}\n")


def last_directory() -> Path:
    """The folder of the lab made last; Refused where there is none any more."""
    try:
        directory = Path(_pointer().read_text().rstrip("\n"))
    except FileNotFoundError:
        raise Refused("no lab was started yet", "start one with `meshnode lab up`") from None
    if not Layout(directory).is_there:
        raise Refused(
            f"the lab started last, in {directory}, is gone",
            "start one with `meshnode lab up`, or name another with --dir",
        )
    return directory


def _pointer() -> Path:
    return cache_folder() / "last-lab"
