"""What every session of the store port is, over one pinned MySQL session."""

from meshnode.errors import Halt
from meshnode.mysql import bookkeeping
from meshnode.mysql.session import Session, names_no_table
from meshnode.store.values import Pause


class StoreSession:
    """A session of the port; ``session`` is the connection that it speaks over."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def server(self) -> str:
        return self.session.server

    @property
    def closed(self) -> bool:
        return self.session.closed

    async def keep_alive(self) -> None:
        await self.session.keep_alive()

    def close(self) -> None:
        self.session.close()

    async def pauses(self) -> dict[int, Pause]:
        """What ``meshnode.paused`` says; Halt where an older install has no such table."""
        try:
            rows = await self.session.query(bookkeeping.PAUSED)
        except Halt as error:
            if names_no_table(error):
                raise Halt(
                    f"{self.session.server} has no table meshnode.paused",
                    "run `meshnode init` for this region: it adds what is missing, also under load",
                ) from error
            raise
        return {origin: Pause(since / 1e6, str(reason)) for origin, since, reason in rows}
