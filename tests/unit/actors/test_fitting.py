"""When a table is looked at again: after a change of definitions here, or of the topology."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from meshnode.actors.fitting import Fitting
from meshnode.errors import Halt
from meshnode.store.values import Definition


@dataclass(frozen=True)
class Table:
    schema: str
    name: str
    shape: object
    title: str = "app.t"


class Session:
    """Knows every table, and counts how often it was asked."""

    def __init__(self, shape: object) -> None:
        self.shape = shape
        self.asked = 0

    async def definition(self, table: object) -> Definition:
        self.asked += 1
        return Definition(True, self.shape)


def topology(*replicated: str) -> SimpleNamespace:
    return SimpleNamespace(matches=lambda schema, name: f"{schema}.{name}" in replicated)


async def test_a_table_that_the_topology_excludes_is_not_written_from_then_on(monkeypatch) -> None:
    """The remedy must help: the stream waits until the table is named again, or out everywhere."""
    monkeypatch.setattr("meshnode.actors.fitting.fits", lambda theirs, ours, literal: None)
    session, view = Session(object()), SimpleNamespace(now=topology("app.t", "app.u"))
    fitting = Fitting(session, view, SimpleNamespace(definitions=0))
    table = Table("app", "t", session.shape)
    await fitting.require([table])
    await fitting.require([table])
    assert session.asked == 1
    view.now = topology("app.u")
    with pytest.raises(Halt, match="which the topology does not replicate") as halt:
        await fitting.require([table])
    assert "'Taking a table out'" in halt.value.remedy
    view.now = topology("app.t")
    await fitting.require([table])
    assert session.asked == 2
