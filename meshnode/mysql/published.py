"""Whether a server's log still has what was published last, without reading on."""

from meshnode.core.gtid import GtidSet
from meshnode.core.ledger import Published
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.control import Login
from meshnode.mysql.maps import TableMaps
from meshnode.mysql.notices import Notices
from meshnode.mysql.stream import open_stream
from meshnode.topology import Region


async def require_published(
    region: Region, login: Login, passed: GtidSet, newest: Published
) -> None:
    """Read the log behind ``passed`` without ``newest``, up to ``newest``.

    Raises `LostCommits` where another transaction has its number, and what the stream raises.
    """
    notices = Notices(region.name, region.id)
    assembler = Assembler(TableMaps((), {}), notices, lambda: 0, newest=newest)
    stream = await open_stream(region, login, passed.subtract(GtidSet(newest.tx_id)))
    try:
        while assembler.newest is not None:
            for _ in assembler.feed(await stream.read(1)):
                """What comes before it is not asked for."""
    finally:
        stream.close()
