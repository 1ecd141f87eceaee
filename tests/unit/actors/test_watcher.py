"""What the watcher does with a file that changes: takes it, has the node built anew, refuses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnode.actors import watcher as watching
from meshnode.actors.watcher import Watcher
from meshnode.errors import Refused
from meshnode.topology import Topology, load

TEXT = """
mesh = "two"
[replicate]
tables = ["shop.*"]
[bus]
kind = "file"
dir = "bus"
[accounts]
tail = { user = "t", password_env = "T" }
apply = { user = "a", password_env = "A" }
admin = { user = "d", password_env = "D" }
[[region]]
id = 1
name = "east"
mysql = { host = "127.0.0.1", port = 3311 }
[[region]]
id = 2
name = "west"
mysql = { host = "127.0.0.1", port = 3312 }
"""
NOT_USED = "the changed topology file is not used: "


class Site:
    """A watcher of east, its file, and the nodes that it wants to have built."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "mesh.toml"
        self.file.write_text(TEXT)
        self.old = load(self.file)
        self.asked: list[tuple[Topology, str]] = []
        self.refusal: Exception | None = None
        self.watcher = Watcher(self.old, self.file, "east", self.follow)
        self.watcher.running()

    async def follow(self, topology: Topology, reason: str) -> None:
        self.asked.append((topology, reason))
        if self.refusal is not None:
            raise self.refusal

    async def change(self, *pairs: tuple[str, str]) -> None:
        """Change the text of the beginning, and look."""
        text = TEXT
        for old, new in pairs:
            assert text.count(old) == 1
            text = text.replace(old, new)
        self.file.write_text(text)
        await self.watcher.look()

    @property
    def shown(self) -> tuple[str, str]:
        return self.watcher.state.state, self.watcher.state.reason


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path)


async def test_what_is_read_live_is_taken_and_nothing_is_built(site: Site) -> None:
    limits = "[limits]\nheartbeat_seconds = 3\n[accounts]"
    await site.change(("shop.*", "shop.orders"), ("[accounts]", limits), ("3312", "3313"))
    now = site.watcher.view.now
    assert now.replicate.tables == ("shop.orders",)
    assert now.limits.heartbeat_seconds == 3
    assert now.regions[1].mysql.port == 3313
    assert site.asked == []
    assert site.shown == ("running", "")


async def test_a_node_is_built_of_what_cannot_change_under_it(site: Site) -> None:
    """And before that one takes over, nothing of the file holds."""
    await site.change(("shop.*", "shop.orders"), ("3311", "3314"))
    ((topology, reason),) = site.asked
    assert topology.regions[0].mysql.port == 3314
    assert reason == "topology changed (region.east.mysql): starting again with it"
    assert site.watcher.view.now is site.old
    assert site.shown == ("starting", reason)
    # It is on its way: the file has nothing more to say to this node.
    await site.change(("3311", "3315"))
    assert len(site.asked) == 1


async def test_a_node_that_could_not_start_is_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 0)
    site.refusal = Refused("nobody listens at 3314", "start it")
    await site.change(("3311", "3314"))
    assert site.shown == ("halted", NOT_USED + "nobody listens at 3314")
    assert site.watcher.state.remedy == "start it"
    assert site.watcher.view.now is site.old
    since = site.watcher.state.since
    await site.watcher.look()
    assert len(site.asked) == 2
    assert site.watcher.state.since == since, "it stands halted since the first try"
    site.refusal = None
    await site.watcher.look()
    assert site.shown[0] == "starting"
    assert len(site.asked) == 3


async def test_it_is_not_tried_at_every_look(site: Site) -> None:
    site.refusal = Refused("nobody listens at 3314")
    await site.change(("3311", "3314"))
    await site.watcher.look()
    assert len(site.asked) == 1


async def test_a_file_that_is_put_back_is_what_holds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 0)
    site.refusal = Refused("nobody listens at 3314")
    await site.change(("3311", "3314"))
    await site.change()
    assert site.shown == ("running", "")
    await site.watcher.look()
    assert len(site.asked) == 1, "there is nothing left to try"


@pytest.mark.parametrize(
    "old,new,words",
    [
        ('dir = "bus"', 'dir = "other"', "bus.dir: "),
        ("id = 2", "id = 3", "region.west: id 2 -> id 3"),
        ("[[region]]\nid = 1", "nonsense = 1\n[[region]]\nid = 1", "nonsense"),
    ],
)
async def test_what_is_refused_is_not_tried(site: Site, old: str, new: str, words: str) -> None:
    await site.change((old, new), ("3311", "3314"))
    state, reason = site.shown
    assert state == "halted"
    assert reason.startswith(NOT_USED) and words in reason
    assert site.asked == []
    assert site.watcher.view.now is site.old


async def test_a_change_before_the_first_look_is_seen(tmp_path: Path) -> None:
    """A start may wait for its MySQL for hours between reading the file and the first look."""
    file = tmp_path / "mesh.toml"
    file.write_text(TEXT)
    old = load(file)
    file.write_text(TEXT.replace("shop.*", "shop.orders"))
    asked: list[str] = []

    async def follow(topology: Topology, reason: str) -> None:
        asked.append(reason)

    watcher = Watcher(old, file, "east", follow)
    await watcher.look()
    assert watcher.view.now.replicate.tables == ("shop.orders",)
    assert asked == []
