"""How much one fetch of a topic asks for: as much as its link carries in time.

An answer that does not come whole in time is lost whole, and a fetch that is made again as it was
may fail for ever.  So the next one asks for half.  At the least size one batch alone may be too
much, because a broker always hands out the first one whole: from there on a fetch is given twice
the time instead.  One that comes in a quarter of its time takes a step back, if it came full: a
short answer does not show what the link carries.
"""

import asyncio

from meshnode.bus import kafka_link
from meshnode.errors import Retry
from meshnode.limits import KIB, MIB

FETCH_BYTES = 4 * MIB
"""One fetch returns so much (compressed) at the most; a longer message comes alone."""

LEAST_BYTES = 64 * KIB

_HALVINGS = (FETCH_BYTES // LEAST_BYTES).bit_length() - 1
_DOUBLINGS = kafka_link.MOST_PATIENCE.bit_length() - 1


class FetchSize:
    """What the fetches of one topic have shown of its link.

    ``step``: how many times the size is halved and then, when it is the least, the time doubled.
    """

    def __init__(self) -> None:
        self.step = 0

    async def fetch(self, link: kafka_link.Link, offset: int, max_wait: float) -> tuple[int, bytes]:
        """As `Link.fetch`, of the size and with the time that the link needs."""
        size = FETCH_BYTES >> min(self.step, _HALVINGS)
        patience = 1 << max(self.step - _HALVINGS, 0)
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            code, batches = await link.fetch(offset, size, max_wait, patience)
        except Retry:
            self.step = min(self.step + 1, _HALVINGS + _DOUBLINGS)
            raise
        quick = 4 * (clock() - began) <= patience * kafka_link.REQUEST_SECONDS
        if quick and (patience > 1 or 2 * len(batches) >= size):
            self.step = max(self.step - 1, 0)
        return code, batches
