"""MySQL's own replica, with which benchmarks compare."""

from meshnode.core.gtid import GtidSet
from meshnode.errors import Retry
from meshnode.lab.servers import Server

WAIT_SECONDS = 600.0


class Replica:
    """MySQL's own replica of the first region, with ``workers`` appliers."""

    def __init__(self, server: Server, source: Server, workers: int) -> None:
        self.server = server
        self.workers = workers
        self._source = source

    def attach(self) -> None:
        """Copy the source from its first transaction on, and stop when all is applied."""
        with self.server.connect() as sql, sql.cursor() as cursor:
            cursor.execute(
                f"SET GLOBAL replica_parallel_workers = {self.workers},"
                " GLOBAL replica_preserve_commit_order = ON"
            )
            cursor.execute(
                f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{self._source.host}',"
                f" SOURCE_PORT = {self._source.port}, SOURCE_USER = '{self._source.user}',"
                f" SOURCE_PASSWORD = '{self._source.password}', SOURCE_AUTO_POSITION = 1,"
                " GET_SOURCE_PUBLIC_KEY = 1"
            )
        self.start()
        self.catch_up()
        self.stop()

    def start(self) -> None:
        with self.server.connect() as sql, sql.cursor() as cursor:
            cursor.execute("START REPLICA")

    def stop(self) -> None:
        with self.server.connect() as sql, sql.cursor() as cursor:
            cursor.execute("STOP REPLICA")

    def transactions(self) -> int:
        """How many transactions it has executed."""
        with self.server.connect() as sql, sql.cursor() as cursor:
            cursor.execute("SELECT @@GLOBAL.gtid_executed")
            return len(GtidSet(cursor.fetchone()[0]))

    def catch_up(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until everything that the source has committed by now is applied."""
        with self._source.connect() as sql, sql.cursor() as cursor:
            cursor.execute("SELECT @@GLOBAL.gtid_executed")
            executed = cursor.fetchone()[0]
        with self.server.connect() as sql, sql.cursor() as cursor:
            cursor.execute(f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', {seconds})")
            if cursor.fetchone()[0] != 0:
                cursor.execute("SHOW REPLICA STATUS")
                raise Retry(f"the replica is not done after {seconds:g} s: {cursor.fetchone()}")
