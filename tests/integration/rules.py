"""Rules of the mesh, switched off on real servers.

A mutant of ``meshnode.core`` that asks nothing of the model is the patch here, too: what the
schedules of a simulation show, one script on real servers shows as well.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

import pytest
from mesh import Mesh
from regions import HOUR_US, now_us
from steps import Paused, converged, run, running

from meshnode.mysql.applying import fence
from meshnode.mysql.control import Control
from meshnode.mysql.mender_session import MenderSession
from meshnode.mysql.resolver_session import ResolverSession
from meshnode.mysql.schema import TriggerRole, tombstone_table, trigger_name
from tests.sim import gate
from tests.sim.mutants import MUTANTS

assert gate.RULES, "its modules fill the registry"

both = pytest.mark.parametrize("rule", ["on", "off"])
"""A test runs with its rule as it is, and must end well; and with it off, and must end wrong."""


@contextmanager
def switched(rule: str, mutant: str) -> Iterator[None]:
    """The rule of ``mutant`` switched ``"off"``, or left as it is."""
    with MUTANTS[mutant].off() if rule == "off" else nullcontext():
        yield


async def values(mesh, key: int = 1) -> list[str | None]:
    """What each region has in column ``v`` of a row of ``app.t``; ``None`` where it has no row."""
    return [await sql.value("SELECT v FROM app.t WHERE id = %s", (key,)) for sql in mesh.sql]


async def ends(mesh, rule: str, well: list[str], wrong: list[str | None]) -> None:
    """On: the same rows everywhere, with ``well`` in column ``v``.  Off: ``wrong`` at key 1."""
    if rule == "on":
        assert [row[1] for row in await converged(mesh)] == well
    else:
        await mesh.settle()
        assert await values(mesh) == wrong


async def drop_triggers(sql, *roles: TriggerRole) -> None:
    """Let clients write past the triggers of ``app.t``."""
    await run(sql, *(f"DROP TRIGGER app.{trigger_name(role, 'app', 't')}" for role in roles))


async def lockable(sql) -> None:
    """Give key 1 of ``app.t`` a tombstone that decides nothing: who locks it holds the key."""
    await sql.execute(f"INSERT INTO {tombstone_table('app', 't')} VALUES (1, 5, 1)")


async def lock(client) -> None:
    """Hold the tombstone of key 1 of ``app.t`` in an open transaction."""
    tombstones = tombstone_table("app", "t")
    await run(client, "BEGIN", f"SELECT * FROM {tombstones} WHERE id = 1 FOR UPDATE")


@asynccontextmanager
async def held_by_a_client(
    servers, folder, *, base: bool
) -> AsyncIterator[tuple[Mesh, Control, Paused]]:
    """A mesh, a client that holds key 1 in the first region, and its resolver, who stands still.

    There no trigger stamps inserts, and none sees deletes.  ``base``: the key has a row, with a
    stamp of an hour ahead.
    """
    async with running(servers, folder) as mesh:
        one, _ = mesh.sql
        await lockable(one)
        await drop_triggers(one, TriggerRole.BEFORE_INSERT, TriggerRole.AFTER_DELETE)
        if base:
            await insert_stamped(one, "base", now_us() + HOUR_US, 1)
        await mesh.settle()
        resolver = Paused(ResolverSession, "definitions", of_region(1))
        async with resolver, await mesh.session(0) as client:
            await resolver.reached()
            await lock(client)
            yield mesh, client, resolver


async def insert_stamped(sql, value: str, ts: int, origin: int) -> None:
    """Insert key 1 of ``app.t`` with a stamp, where no trigger overwrites it."""
    await sql.execute(
        f"INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin) VALUES (1, '{value}', {ts}, {origin})"
    )


def of_region(number: int) -> Callable[..., bool]:
    """Picks the sessions of one region, for `Paused` on a class of sessions."""
    return lambda session, *_: session.own == number


def mender_of(number: int) -> Paused:
    """The mender of a region, which stops when it has begun with a batch.

    It says that its session is alive before it looks at anything.  What is written while it
    stands still it finds afterwards, all at once.
    """
    return Paused(MenderSession, "keep_alive", of_region(number))


class Between:
    """A moment inside a method that a test waits for."""

    async def here(self) -> None:
        """Nothing; a test stops here."""


async def unfenced(session, first) -> bool:
    """``fence`` that takes the row of ``applied`` from wherever and whoever it is."""
    ((seq, epoch),) = await session.query(
        f"SELECT seq, epoch FROM meshnode.applied WHERE origin = {first.origin} FOR UPDATE"
    )
    return await fence(session, first._replace(seq=seq, epoch=epoch))
