"""Reading a server's binary log: one raw dump connection, from a GTID set on.

The connection is asyncmy's; the events are read by our own decoder
(:mod:`meshnode.mysql.assemble`), because both Python decoders lose or corrupt
data.  There is no reconnecting here: an error ends the stream, and the
supervisor starts it again from what the topic says was published.
"""

import asyncio
import secrets
import struct
import uuid

from asyncmy import errors as driver
from asyncmy.connection import Connection

from meshnode.core.gtid import GtidSet
from meshnode.errors import Halt, Retry
from meshnode.mysql.control import Login
from meshnode.mysql.packets import Packets
from meshnode.mysql.session import connect_raw, translate
from meshnode.topology import Region

_COM_BINLOG_DUMP_GTID = 0x1E
_BINLOG_THROUGH_GTID = 0x04
_HEARTBEAT_SECONDS = 5
_SILENCE_SECONDS = 3 * _HEARTBEAT_SECONDS
_POSITION_LOST = 1236


class Stream:
    """Packets of the dump, in order; each is a status byte and one whole event."""

    def __init__(self, connection: Connection, packets: Packets, server: str) -> None:
        self._connection = connection
        self._packets = packets
        self.server = server

    @property
    def thread_id(self) -> int:
        return self._connection.thread_id()

    async def read(self, most: int) -> list[bytes]:
        """The next packets, as many as are here, one to ``most``; waits for the first.

        Raises Halt when the server no longer has what comes next, Retry when the
        connection is lost or the server stays silent beyond its heartbeat.
        """
        try:
            return await self._packets.read(_SILENCE_SECONDS, most)
        except asyncio.CancelledError:
            self.close()
            raise
        except (driver.MySQLError, OSError, RuntimeError) as error:
            self.close()
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        code = error.args[0] if error.args else 0
        if code != _POSITION_LOST:
            return translate(error, self.server).error
        text = str(error.args[1])
        if "same" in text and ("server_uuid" in text or "server_id" in text):
            return Retry(f"MySQL of {self.server}: another reader took the dump over: {text}")
        return Halt(
            f"MySQL of {self.server} cannot go on where the stream ended: {text}",
            "docs/OPERATING.md, 'A purged position': the transactions in between are not in the "
            "binary log any more",
        )

    def close(self) -> None:
        """Drop the connection at once."""
        self._connection.close()


async def open_stream(region: Region, login: Login, after: GtidSet) -> Stream:
    """A dump of everything that the server logged and ``after`` does not contain."""
    connection = await connect_raw(region, login, "tailer")
    server = f"{region.name} ({region.mysql})"
    try:
        for statement in (
            "SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'",
            f"SET @source_heartbeat_period = {_HEARTBEAT_SECONDS * 10**9},"
            f" @master_heartbeat_period = {_HEARTBEAT_SECONDS * 10**9}",
            f"SET @replica_uuid = '{uuid.uuid4()}', @slave_uuid = @replica_uuid",
            "SET SESSION net_write_timeout = 600",
        ):
            await connection.query(statement)
        encoded = after.encode()
        reader_id = secrets.randbelow(2**31) + 2**31
        request = struct.pack("<HIIQI", _BINLOG_THROUGH_GTID, reader_id, 0, 4, len(encoded))
        packets = Packets(connection._transport)
        packets.send(bytes((_COM_BINLOG_DUMP_GTID,)) + request + encoded)
    except (driver.MySQLError, OSError, RuntimeError) as error:
        connection.close()
        raise translate(error, server).error from error
    except BaseException:
        connection.close()
        raise
    return Stream(connection, packets, server)
