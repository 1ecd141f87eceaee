"""A TCP proxy before a MySQL server that can lose what the server answers to a COMMIT.

Theory of operation.  The proxy forwards bytes both ways and follows the packets of the
client: four bytes of header, then the command.  The log-in packet names the program
(``meshnode applier two``), by which a test says whose COMMITs it means.  What becomes of one
is a ``Fate``: the answer is read from the server and thrown away; or the COMMIT itself never
arrives, and the server's side stays open, so that the old transaction still holds its locks
when its owner is back (a zombie); or the connection breaks while the COMMIT is under way, and
chance decides.  In each case the client sees the same: a connection that ended without an answer.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum

HEADER = 4
BEGIN, COMMIT = b"\x03BEGIN", b"\x03COMMIT"
SHOWN = 80
"""Bytes of a statement that are enough to know it."""
SENT = 4096
CHUNK = 65536


class Fate(StrEnum):
    """What becomes of a COMMIT."""

    PASSES = "passes"
    ANSWER_LOST = "the answer is lost"
    ZOMBIE = "the COMMIT is lost, the old session stays"
    CUT = "the connection breaks while it is under way"


@dataclass
class Proxy:
    """Forwards to ``host:port_behind``; ``decide(program, sent)`` gives the fate of each COMMIT.

    ``sent`` has the beginnings of the statements since BEGIN, one after the other.

    It has the fields of a server, so that a mesh can be made of proxies.  ``met`` counts
    the fates that were not ``PASSES``, by program.
    """

    host: str
    port_behind: int
    user: str
    password: str
    decide: Callable[[str, bytes], Fate] = lambda program, sent: Fate.PASSES
    port: int = 0
    met: Counter[tuple[str, Fate]] = field(default_factory=Counter)
    _clients: dict[asyncio.StreamWriter, str] = field(default_factory=dict)
    _zombies: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: set[asyncio.Task] = field(default_factory=set)

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One client's connection, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            server, commands = await asyncio.open_connection(self.host, self.port_behind)
        except OSError:
            answers.close()
            self._tasks.discard(task)
            return
        back = asyncio.create_task(self._copy(server, answers))
        try:
            await self._commands(client, commands, server, answers, back)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the connection is over, or the proxy: ending quietly is all there is to do
        finally:
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await back
            answers.close()
            self._clients.pop(answers, None)
            if commands not in self._zombies:
                commands.close()
            self._tasks.discard(task)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()

    async def _commands(
        self,
        client: asyncio.StreamReader,
        commands: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        answers: asyncio.StreamWriter,
        back: asyncio.Task,
    ) -> None:
        """Follow the client packet by packet; the first one says who it is."""
        program, sent = None, b""
        while True:
            header = await client.readexactly(HEADER)
            body = await client.readexactly(int.from_bytes(header[:3], "little"))
            if program is None:
                program = self._clients[answers] = _program(body)
            elif body == BEGIN:
                sent = b""
            elif body == COMMIT and (fate := self.decide(program, sent)) is not Fate.PASSES:
                self.met[program, fate] += 1
                if fate is Fate.ZOMBIE:
                    self._zombies.append(commands)
                    return
                if fate is Fate.ANSWER_LOST:
                    back.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await back
                commands.write(header + body)
                await commands.drain()
                if fate is Fate.ANSWER_LOST:
                    await server.readexactly(HEADER)
                return
            sent = (sent + body[:SHOWN])[-SENT:]
            commands.write(header + body)
            await commands.drain()

    def drop(self, program: str) -> None:
        """End the connections of a program."""
        for answers, name in list(self._clients.items()):
            if name == program:
                answers.transport.abort()

    def bury(self) -> None:
        """End the sessions of all zombies, as a server does when it notices at last."""
        for zombie in self._zombies:
            zombie.close()
        self._zombies.clear()

    async def close(self) -> None:
        """End all connections."""
        self.bury()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _program(login: bytes) -> str:
    """The connection attribute ``program_name`` of a log-in packet; empty if it has none."""
    place = login.find(b"program_name")
    if place < 0:
        return ""
    place += len(b"program_name")
    return login[place + 1 : place + 1 + login[place]].decode()


@contextlib.asynccontextmanager
async def proxied(server) -> AsyncIterator[Proxy]:
    """A proxy before ``server``."""
    proxy = Proxy(server.host, server.port, server.user, server.password)
    listener = await asyncio.start_server(proxy.serve, server.host, 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.close()
