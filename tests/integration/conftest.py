"""Fixtures with real MySQL servers.

``servers`` lends shared, cleaned servers: do not kill them or restart them
with other options.  ``throwaway`` makes a server of the test's own, for
anything rough.  Both give running ``meshnode.lab.servers.Server`` objects
with root's password ``server_pool.PASSWORD``.
"""

import asyncio
import atexit
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import stream_carrier
from server_pool import ServerPool

from meshnode.actors import gardener
from meshnode.lab.servers import Mysqld, Server, find_mysqld

Lend = Callable[[int], Awaitable[list[Server]]]
Make = Callable[..., Awaitable[Server]]


def pytest_configure(config: pytest.Config) -> None:
    stream_carrier.kind = config.getoption("--bus")


@pytest.fixture(scope="session")
def mysqld() -> Mysqld:
    """The server program, fetched if there is none."""
    return find_mysqld()


@pytest.fixture(scope="session")
def server_pool(mysqld: Mysqld) -> Iterator[ServerPool]:
    pool = ServerPool(mysqld)
    atexit.register(pool.close)  # an interrupted session may skip the line after the yield
    yield pool
    pool.close()
    atexit.unregister(pool.close)


@pytest.fixture(autouse=True)
def resting_gardeners(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine a round could come while a test still looks at tombstones.

    Of nodes in this process; ``steps.gardening`` makes a round.
    """
    monkeypatch.setattr(gardener, "ROUND_SECONDS", 3600.0)


@pytest.fixture
async def servers(server_pool: ServerPool) -> AsyncIterator[Lend]:
    """``await servers(n)`` gives n shared running servers, as clean as after a first start."""

    async def lend(count: int) -> list[Server]:
        return await asyncio.to_thread(server_pool.take, count)

    yield lend
    server_pool.give_back()


@pytest.fixture
def new_server(server_pool: ServerPool) -> Iterator[Callable[..., Server]]:
    """A blocking ``throwaway``, for tests without a loop; the server is not started."""
    made: list[Server] = []

    def make(*arguments: object, **named: object) -> Server:
        made.append(server_pool.make(*arguments, **named))
        return made[-1]

    yield make
    for server in made:
        server.remove()


@pytest.fixture
async def throwaway(new_server: Callable[..., Server]) -> Make:
    """``await throwaway(options)`` gives a new running server, removed after the test.

    Arguments are those of ``ServerPool.make``; with ``start=False`` it is not started.
    """

    async def make(*arguments: object, start: bool = True, **named: object) -> Server:
        server = new_server(*arguments, **named)
        if start:
            await server.start_async()
        return server

    return make
