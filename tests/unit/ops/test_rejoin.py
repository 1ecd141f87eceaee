"""What a region that comes back is refused for, where no server is needed to see it."""

from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshnode.errors import Refused, Retry
from meshnode.mysql import catalog
from meshnode.ops import install, rejoin


async def test_a_table_that_is_dropped_meanwhile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object) -> None:
        """No such table."""

    monkeypatch.setattr(catalog, "read", gone)
    with pytest.raises(Refused, match=r"one: table app\.t was dropped"):
        await rejoin._copy_tombstones(SimpleNamespace(server="one"), [], "app", "t")


class Bus:
    """What is found when the bus is asked for a topic."""

    def __init__(self, found: bool | Exception) -> None:
        self.found = found

    async def inspect(self, region: str) -> bool:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def close(self) -> None:
        pass


AWAY = Retry("Kafka at k:1 cannot be used")
UNFIT = Refused("topic shop.two keeps its records for a day")


@pytest.mark.parametrize(
    ("found", "heard", "refused"),
    [
        (False, True, None),
        (True, True, "its topic is still there"),
        (True, False, "its topic is still there"),
        # If it is there, the others read it again: they have forgotten how far they were.
        (AWAY, True, r"cannot be found out whether its topic is gone: Kafka at k:1"),
        (UNFIT, True, r"cannot be found out whether its topic is gone: topic shop\.two"),
        (AWAY, False, None),
    ],
)
async def test_what_a_region_had_published_must_be_gone_for_certain(
    monkeypatch: pytest.MonkeyPatch, found: bool | Exception, heard: bool, refused: str | None
) -> None:
    sites: Any = [
        SimpleNamespace(name=name, control=name, region=SimpleNamespace(id=number))
        for number, name in enumerate(("one", "two"), 1)
    ]
    forgotten: list[str] = []
    told: list[str] = []

    async def standing(control: str) -> rejoin.Standing:
        return rejoin.Standing(control == "one", False, control == "one")

    async def has_heard(control: str, origin: int) -> bool:
        return heard and (control, origin) == ("one", 2)

    async def forget(sites: object, empty: list, run: object) -> None:
        forgotten.extend(site.name for site in empty)

    monkeypatch.setattr(rejoin, "standing", standing)
    monkeypatch.setattr(rejoin, "_has_heard", has_heard)
    monkeypatch.setattr(rejoin, "_forget", forget)
    monkeypatch.setattr(install, "bare_bus", lambda topology: Bus(found))

    async def rejoined() -> None:
        has_topic = partial(install._has_topic, cast(Any, None))
        run = cast(Any, None)
        await rejoin.rejoin(sites, [], "one", has_topic, run, told.append, dry_run=True)

    if refused is None:
        await rejoined()
        assert forgotten == ["two"]
        assert any("see that it has no topic yet" in line for line in told) == (found is AWAY)
    else:
        with pytest.raises(Refused, match=refused):
            await rejoined()
        assert not forgotten
