"""The ops port: is the node alive, is it ready, what does it count, and hold this peer.

Theory of operation.  The server lives beside the actors, not among them: it answers while
they fail and start again, and it ends with the node.  What it shows is on the board,
so an answer never waits for MySQL or the bus.  Only ``pause`` and ``resume`` go to MySQL,
on a connection of their own; they need the token, and without a configured token they
are not served at all.

``GET /livez``   200 while the event loop turns.
``GET /readyz``  200, or 503 with one reason a line (JSON if asked for).
``GET /metrics`` Prometheus text, or OpenMetrics if asked for.
``GET /status``  JSON of this node (:mod:`meshnode.ops.node_status`).
``POST /peers/{name}/pause``   hold that peer's stream here; body ``{"reason": "..."}`` or none.
``POST /peers/{name}/resume``  let it go on.

An address that is taken is refused, with one exception: the node that this one replaces
may still hold it.  Then the server waits for it beside the start, which fences the other.
"""

import asyncio
import errno
import hmac
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import orjson
from aiohttp import web

from meshnode.accounts import Account, ops_token
from meshnode.errors import MeshError, Refused, Retry
from meshnode.mysql.control import Control, connect
from meshnode.ops import pauses
from meshnode.ops.exposure import REMEDY, open_to_others
from meshnode.ops.metrics import Exposition
from meshnode.ops.node_status import NodeStatus
from meshnode.topology import OpsAddress, Region

log = logging.getLogger("meshnode.ops")

BODY_BYTES = 16 * 1024
KEEP_ALIVE_SECONDS = 15.0
SHUTDOWN_SECONDS = 1.0
ASK_SECONDS = 2.0
BIND_AGAIN_SECONDS = 0.2
DELAY_SECONDS = 0.25
"""How often the event loop's delay is measured."""

Write = Callable[[Control, Region, str], Awaitable[dict]]


class OpsServer:
    """Serves ``node`` at ``address``; ``login`` is the account that writes pauses."""

    def __init__(self, node: NodeStatus, address: OpsAddress, login: Account) -> None:
        self.node = node
        self.address = address
        self.login = login
        self.exposition = Exposition(node)
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """Listen; a second call does nothing.

        Raises Refused for a token that cannot be read, and for an address that cannot be had.
        """
        if self._runner is not None:
            return
        ops_token(self.address, self.node.region.name)
        warning = open_to_others(self.address)
        if warning:
            log.warning("%s; remedy: %s", warning, REMEDY)
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        try:
            await self._runner.setup()
            try:
                await self._listen()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not await self._held_by_this_region():
                    raise self._refusal(error) from error
                log.warning("the ops port %s is held by the node that is replaced", self.address)
                self._tasks.append(asyncio.create_task(self._listen_later()))
            self._tasks.append(asyncio.create_task(self._measure_delay()))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Answer what was asked and listen no more.  Repeatable."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _listen(self) -> None:
        assert self._runner is not None
        site = web.TCPSite(self._runner, self.address.host, self.address.port)
        try:
            await site.start()
        except BaseException:
            with suppress(RuntimeError):
                await site.stop()
            raise
        log.info("the ops port listens on %s", self.address)

    async def _listen_later(self) -> None:
        """Listen as soon as the node that is replaced has ended."""
        while True:
            await asyncio.sleep(BIND_AGAIN_SECONDS)
            try:
                await self._listen()
            except OSError:
                continue
            return

    async def _held_by_this_region(self) -> bool:
        """Whether who listens there is a node of this very region."""
        wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        host = wildcard.get(self.address.host, self.address.host)
        answer = b""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await asyncio.open_connection(host, self.address.port)
                try:
                    writer.write(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    answer = await reader.read(BODY_BYTES)
                finally:
                    writer.close()
        return answer.endswith(self._alive().encode())

    def _refusal(self, error: OSError) -> Refused:
        taken = error.errno == errno.EADDRINUSE
        why = "is taken by another process" if taken else f"cannot be had: {error.strerror}"
        return Refused(
            f"the ops port {self.address} of region {self.node.region.name} {why}",
            "end that process, or give `ops` of this region another host or port"
            if taken
            else "give `ops` of this region a host and port of this machine",
        )

    async def _measure_delay(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + DELAY_SECONDS
            await asyncio.sleep(DELAY_SECONDS)
            self.node.board.loop_delay.observe(max(0.0, loop.time() - due))

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_BYTES, middlewares=[_errors])
        application.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/status", self._status),
                web.post("/peers/{name}/pause", self._pause),
                web.post("/peers/{name}/resume", self._resume),
            ]
        )
        return application

    def _alive(self) -> str:
        return f"meshnode {self.node.view.now.mesh} {self.node.region.name} lives\n"

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text=self._alive())

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = self.node.reasons()
        status = 503 if reasons else 200
        if "json" in request.headers.get("Accept", ""):
            return answer({"ready": not reasons, "reasons": reasons}, status)
        return web.Response(text="\n".join(reasons or ["ready"]) + "\n", status=status)

    async def _metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        taken = self.exposition.take()
        body, content_type = await asyncio.to_thread(self.exposition.text, taken, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, request: web.Request) -> web.Response:
        return answer(self.node.as_json())

    async def _pause(self, request: web.Request) -> web.Response:
        return await self._write(request, pauses.pause)

    async def _resume(self, request: web.Request) -> web.Response:
        async def write(control: Control, peer: Region, reason: str) -> dict:
            return await pauses.resume(control, peer)

        return await self._write(request, write)

    async def _write(self, request: web.Request, write: Write) -> web.Response:
        refused = self._unauthorized(request)
        if refused is not None:
            return refused
        region = self.node.region
        try:
            peer = pauses.peer_of(self.node.view.now, region.name, request.match_info["name"])
        except Refused as error:
            return failure(404, error)
        try:
            reason = _reason(await request.read())
        except Refused as error:
            return failure(400, error)
        # One at a time, so that the last one to read the table is the last to say what it holds.
        async with self._writing, await connect(region, self.login) as control:
            found = await write(control, peer, reason)
            # The appliers see it now, and not only when the census comes round.
            self.node.board.pauses.replace(found)
        pause = found.get(peer.id)
        log.info("peer %s %s by the ops port", peer.name, "paused" if pause else "resumed")
        paused = pause and {"since": pause.since, "reason": pause.reason}
        return answer({"peer": peer.name, "region": region.name, "paused": paused})

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        """The refusal of a request that may not change anything; None if it may."""
        # Read each time: a token that was changed holds from then on.
        token = ops_token(self.address, self.node.region.name)
        if not token:
            return failure(
                403,
                Refused(
                    "this ops port has no token, so it changes nothing",
                    'add token_file = "..." (or token_env) to `ops` of the region, '
                    "or use `meshnode pause` and `meshnode resume`",
                ),
            )
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            refused = failure(401, Refused("a token is needed", "Authorization: Bearer TOKEN"))
            refused.headers["WWW-Authenticate"] = 'Bearer realm="meshnode"'
            return refused
        given_bytes = given.strip().encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given_bytes, token.encode("utf-8", "surrogateescape")):
            return failure(403, Refused("this is not the token", "see `ops` of the region"))
        return None


@web.middleware
async def _errors(request: web.Request, handler: Callable) -> web.StreamResponse:
    """The mesh's errors as answers with what happened and what to do."""
    try:
        return await handler(request)
    except Retry as error:
        return failure(503, error)
    except MeshError as error:
        return failure(500, error)


def _reason(body: bytes) -> str:
    """The reason in a request's body, '' for none; Refused for a body that is something else."""
    if not body.strip():
        return ""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("reason", ""), str):
        raise Refused("the body is no such object", 'send {"reason": "..."} or nothing')
    reason = told.get("reason", "")
    if len(reason) > pauses.REASON_CHARACTERS:
        raise Refused("the reason is too long", f"use {pauses.REASON_CHARACTERS} characters")
    return reason


def answer(value: object, status: int = 200) -> web.Response:
    """``value`` as JSON."""
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/json")


def failure(status: int, error: MeshError) -> web.Response:
    """What happened and what to do."""
    return answer({"error": error.what, "remedy": error.remedy}, status)
