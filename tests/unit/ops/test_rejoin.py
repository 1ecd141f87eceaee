"""What a region that comes back is refused for, where no server is needed to see it."""

from types import SimpleNamespace

import pytest

from meshnode.errors import Refused
from meshnode.mysql import catalog
from meshnode.ops import rejoin


async def test_a_table_that_is_dropped_meanwhile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object) -> None:
        """No such table."""

    monkeypatch.setattr(catalog, "read", gone)
    with pytest.raises(Refused, match=r"one: table app\.t was dropped"):
        await rejoin._copy_tombstones(SimpleNamespace(server="one"), [], "app", "t")
