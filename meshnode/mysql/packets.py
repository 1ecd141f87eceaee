"""MySQL packets of one connection from which only is read: bounded, and many at a time.

The driver puts whatever the socket has into a buffer that grows without bound,
and a server sends a huge transaction faster than anybody can decode it.  So
before the dump is asked for, the connection's transport is given to this
protocol, which stops reading when enough is there.

A busy server sends packets of a hundred bytes, so what is here is handed out
many at a time: one wait, and one step of the event loop, for all of them.
"""

import asyncio
import struct

from asyncmy import errors as driver

READ_AHEAD_BYTES = 1024 * 1024
"""Bytes taken from the socket before what is there has been read."""

_HEAD = 4
"""Before each payload: three bytes of length, one of sequence."""

_LONGEST = 0xFFFFFF
_LOST = 2013
_ERROR, _END = b"\xff", b"\xfe"
_CLOSING = (_ERROR, _END)
_length_at = struct.Struct("<I").unpack_from


class Packets(asyncio.Protocol):
    """The packets that arrive on ``transport``, in order."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._data = b""
        self._at = 0
        self._arrived: list[bytes] = []
        self._unread = 0
        self._wanted = 0
        self._parts: list[bytes] = []
        self._paused = False
        self._lost: str | None = None
        self._news = asyncio.Event()
        transport.set_protocol(self)

    def send(self, payload: bytes) -> None:
        """Send one command packet; its answer is what arrives."""
        self._transport.write(len(payload).to_bytes(3, "little") + b"\0" + payload)

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._unread += len(data)
        if not self._paused and self._unread >= READ_AHEAD_BYTES:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        self._lost = self._lost or "the server closed the connection"
        self._news.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = self._lost or str(error or "the connection was closed")
        self._news.set()

    async def read(self, silence: float, most: int) -> list[bytes]:
        """The next packets' payloads, as many as are here, one to ``most``.

        Waits at most ``silence`` seconds for each piece of the first.  Raises the
        driver's OperationalError for an error packet, a lost connection, and
        silence; what came before it is read first.
        """
        while True:
            found = self._whole(most)
            if found:
                return found
            await self._more(silence)

    def _whole(self, most: int) -> list[bytes]:
        """Packets that are here as a whole, up to ``most``."""
        data, at, size = self._data, self._at, len(self._data)
        found: list[bytes] = []
        self._wanted = _HEAD
        while len(found) < most and at + _HEAD <= size:
            length = _length_at(data, at)[0] & _LONGEST
            start = at + _HEAD
            stop = start + length
            if stop > size:
                self._wanted = stop - at
                break
            # All but one in a million begin with 0 and are no part of a longer one.
            if length == 0 or data[start] or length == _LONGEST or self._parts:
                if found and data[start : start + 1] in _CLOSING and not self._parts:
                    break
                self._advance(stop)
                payload = self._joined(data[start:stop])
                if payload is not None:
                    found.append(payload)
            else:
                found.append(data[start:stop])
            at = stop
        self._advance(at)
        return found

    def _advance(self, at: int) -> None:
        self._unread -= at - self._at
        self._at = at

    def _joined(self, part: bytes) -> bytes | None:
        """The payload that ``part`` ends, or ``None``; raises what the server says in it."""
        if self._parts or len(part) == _LONGEST:
            self._parts.append(part)
            if len(part) == _LONGEST:
                return None
            part = b"".join(self._parts)
            self._parts = []
        if part[:1] == _ERROR:
            code = int.from_bytes(part[1:3], "little")
            raise driver.OperationalError(code, part[9:].decode("utf-8", "replace"))
        if part[:1] == _END and len(part) < 9:
            raise driver.OperationalError(_LOST, "the server ended the dump")
        return part

    async def _more(self, silence: float) -> None:
        """Wait until what :meth:`_whole` wants is here."""
        while self._unread < self._wanted:
            if self._lost is not None:
                raise driver.OperationalError(_LOST, self._lost)
            self._news.clear()
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            try:
                async with asyncio.timeout(silence):
                    await self._news.wait()
            except TimeoutError:
                raise driver.OperationalError(
                    _LOST, f"nothing came within {silence:g} s, not even a heartbeat"
                ) from None
        self._data = b"".join((self._data[self._at :], *self._arrived))
        self._at = 0
        self._arrived.clear()
