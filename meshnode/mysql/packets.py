"""MySQL packets of one connection from which only is read: bounded, and without a copy too many.

The driver puts whatever the socket has into a buffer that grows without bound,
and a server sends a huge transaction faster than anybody can decode it.  So
before the dump is asked for, the connection's transport is given to this
protocol, which stops reading when enough is there.
"""

import asyncio

from asyncmy import errors as driver

READ_AHEAD_BYTES = 1024 * 1024
"""Bytes taken from the socket before what is there has been read."""

_LONGEST = 0xFFFFFF
_LOST = 2013
_ERROR, _END = b"\xff", b"\xfe"


class Packets(asyncio.Protocol):
    """The packets that arrive on ``transport``, in order."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._buffer = bytearray()
        self._at = 0
        self._paused = False
        self._lost: str | None = None
        self._arrived = asyncio.Event()
        transport.set_protocol(self)

    def send(self, payload: bytes) -> None:
        """Send one command packet; its answer is what arrives."""
        self._transport.write(len(payload).to_bytes(3, "little") + b"\0" + payload)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._paused and len(self._buffer) - self._at >= READ_AHEAD_BYTES:
            self._paused = True
            self._transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> None:
        self._lost = self._lost or "the server closed the connection"
        self._arrived.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = self._lost or str(error or "the connection was closed")
        self._arrived.set()

    async def read(self, silence: float) -> bytes:
        """The next packet's payload; waits at most ``silence`` seconds for each piece of it.

        Raises the driver's OperationalError for an error packet, a lost
        connection, and silence.
        """
        parts: list[bytes] = []
        while True:
            part = self._take()
            if part is None:
                await self._more(silence)
                continue
            if parts or len(part) == _LONGEST:
                parts.append(part)
                if len(part) == _LONGEST:
                    continue
                part = b"".join(parts)
            if part[:1] == _ERROR:
                code = int.from_bytes(part[1:3], "little")
                raise driver.OperationalError(code, part[9:].decode("utf-8", "replace"))
            if part[:1] == _END and len(part) < 9:
                raise driver.OperationalError(_LOST, "the server ended the dump")
            return part

    def _take(self) -> bytes | None:
        """One packet if it is here as a whole."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 4:
            return None
        stop = at + 4 + (buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16)
        if len(buffer) < stop:
            return None
        self._at = stop
        return bytes(memoryview(buffer)[at + 4 : stop])

    async def _more(self, silence: float) -> None:
        del self._buffer[: self._at]
        self._at = 0
        if self._lost is not None:
            raise driver.OperationalError(_LOST, self._lost)
        self._arrived.clear()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        try:
            async with asyncio.timeout(silence):
                await self._arrived.wait()
        except TimeoutError:
            raise driver.OperationalError(
                _LOST, f"nothing came within {silence:g} s, not even a heartbeat"
            ) from None
