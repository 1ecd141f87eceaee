"""How one Kafka is reached: its address and secrets, and a connection to the broker that leads.

A topic has one partition, and one broker leads it: that broker alone takes its
records and hands them out.  A `Link` is one connection to the leader of one
topic, made from any of the bootstrap addresses.  It holds the topic's id, and
it is thrown away at the first error: whoever needs it again connects anew and
so learns of another leader, a topic that was made again, another password.

Requests on one connection are answered in their order, so a fetch that waits
for records needs a link of its own.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.offset import OffsetRequest

from meshnode.bus.kafka_errors import LEADER_NOT_AVAILABLE, SOON, TOPIC_GONE, refusal, unreachable
from meshnode.bus.kafka_protocol import fetch_of, init_producer_of, metadata_of
from meshnode.errors import MeshError, Refused, Retry

CLIENT = "meshnode"
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 30.0
"""A broker that has not answered within this time counts as gone."""

MOST_PATIENCE = 8
"""A request whose answer is long may be given so many times that."""

EARLIEST, LATEST = -2, -1
TRANSACTIONAL, TOPIC_RESOURCE = 1, 2
LOOK_AGAIN_SECONDS = 0.2
"""How often a broker is asked that will answer soon."""

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """How one Kafka is reached.

    ``bootstrap`` holds addresses ``host:port``, of which one must answer.  With ``tls``
    the listener speaks TLS, with ``user`` it asks for SCRAM-SHA-512.
    """

    bootstrap: tuple[str, ...]
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return ",".join(self.bootstrap)

    @property
    def protocol(self) -> str:
        """What Kafka calls the security protocol of such a listener."""
        if self.user is None:
            return "PLAINTEXT" if self.tls is None else "SSL"
        return "SASL_PLAINTEXT" if self.tls is None else "SASL_SSL"


class Request(Protocol):
    """Anything that `AIOKafkaConnection.send` takes."""

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any: ...


class Connection:
    """One connection to one broker; every error comes translated, and ends it."""

    def __init__(self, where: str, inner: AIOKafkaConnection) -> None:
        self.where = where
        self._inner = inner

    @classmethod
    async def open(cls, cluster: Cluster, host: str, port: int) -> "Connection":
        """Connect and authenticate.  Errors: `Retry`, or `Refused` where a setting is wrong."""
        where = f"{host}:{port}"
        return cls(where, await _translated(where, lambda: _create(cluster, host, port)))

    async def ask(self, request: Request, patience: int = 1) -> Any:
        """Send a request and return its answer.  Errors: `Retry`, `Refused`.

        It is given ``patience`` times `REQUEST_SECONDS`.
        """

        async def send() -> Any:
            async with asyncio.timeout(patience * REQUEST_SECONDS):
                return await self._inner.send(request)

        try:
            return await _translated(self.where, send)
        except MeshError:
            self.close()
            raise

    def close(self) -> None:
        """Close at once; what was under way fails."""
        self._inner.close()


class Link:
    """A connection to the leader of ``topic``, whose id is ``topic_id``."""

    def __init__(
        self, cluster: Cluster, topic: str, topic_id: bytes, replicas: int, inner: Connection
    ) -> None:
        self.cluster = cluster
        self.topic = topic
        self.topic_id = topic_id
        self.replicas = replicas
        self._inner = inner

    async def ask(self, request: Request, patience: int = 1) -> Any:
        """Send a request to the leader and return its answer, as `Connection.ask` does."""
        return await self._inner.ask(request, patience)

    async def fetch(
        self, offset: int, max_bytes: int, max_wait: float, patience: int = 1
    ) -> tuple[int, bytes]:
        """Error code and whole batches of records, from the batch that holds ``offset`` on."""
        request = fetch_of(self.topic_id, offset, max_bytes, max_wait)
        answer = await self.ask(request, patience)
        if answer.error_code or not answer.topics:
            return answer.error_code, b""
        part = answer.topics[0][1][0]
        return part[1], part[7] or b""

    async def offsets(self) -> tuple[int, int]:
        """The offset of the oldest record kept, and the one that the next record gets."""
        found = []
        for which in (EARLIEST, LATEST):
            answer = await self.ask(OffsetRequest(-1, 0, [(self.topic, [(0, which)])]))
            _, code, _, offset = answer.topics[0][1][0]
            if code:
                raise self.refusal(code)
            found.append(offset)
        return found[0], found[1]

    async def settings(self) -> dict[str, str]:
        """The topic's settings, by Kafka's names."""
        request = DescribeConfigsRequest([(TOPIC_RESOURCE, self.topic, None)])
        code, said, _, _, entries = (await self.ask(request)).resources[0]
        if code:
            raise self.refusal(code, said)
        return {entry[0]: entry[1] for entry in entries}

    def refusal(self, code: int, said: str | None = None) -> MeshError:
        """The error that ``code`` means for this topic."""
        return refusal(code, str(self.cluster), self.topic, said)

    def close(self) -> None:
        """Close at once; what was under way fails."""
        self._inner.close()


async def connect(cluster: Cluster) -> Connection:
    """Connect to the first bootstrap address that answers.

    Errors: `Refused` if one of them says that a setting is wrong, else `Retry`.
    """
    failures: list[MeshError] = []
    for address in cluster.bootstrap:
        host, _, port = address.rpartition(":")
        try:
            return await Connection.open(cluster, host.strip("[]"), int(port))
        except ValueError:
            raise Refused(f"{address!r} is no address", "write host:port") from None
        except MeshError as failure:
            failures.append(failure)
    if not failures:
        raise Refused("no address of Kafka is named", "name one in the topology file")
    for failure in failures:
        if isinstance(failure, Refused):
            raise failure
    raise Retry("; ".join(failure.what for failure in failures), failures[-1].remedy)


async def find_topic(cluster: Cluster, topic: str) -> Link | None:
    """Connect to the leader of ``topic``; None if there is no such topic.

    Errors: `Retry` while it has no leader, `Refused` if it has not one partition.
    """
    first = await connect(cluster)
    try:
        answer = await first.ask(metadata_of(topic))
        code, _, topic_id, _, partitions, *_ = answer.topics[0]
        if code in TOPIC_GONE:
            first.close()
            return None
        if code:
            raise refusal(code, str(cluster), topic)
        if len(partitions) != 1:
            raise Refused(
                f"topic {topic} at {cluster} has {len(partitions)} partitions, so it has no order",
                "nothing that the mesh wrote can be there: delete the topic, its node creates it",
            )
        code, _, leader, _, replicas, *_ = partitions[0]
        if code:
            raise refusal(code, str(cluster), topic)
        addresses = {broker[0]: (broker[1], broker[2]) for broker in answer.brokers}
        if leader not in addresses:
            raise refusal(LEADER_NOT_AVAILABLE, str(cluster), topic)
        inner = await _to(cluster, first, *addresses[leader])
    except BaseException:
        first.close()
        raise
    return Link(cluster, topic, topic_id, len(replicas), inner)


async def wait_for_topic(cluster: Cluster, topic: str, seconds: float) -> Link:
    """As `find_topic`, but while there is no such topic look again every ``seconds``."""
    while True:
        link = await find_topic(cluster, topic)
        if link is not None:
            return link
        await asyncio.sleep(seconds)


async def init_producer(
    cluster: Cluster, name: str, seconds: float, producer: tuple[int, int] = (-1, -1)
) -> tuple[int, int]:
    """Fence every writer that used the transactional id ``name``; the new producer id and epoch.

    With the own ``producer`` so far it is `Fenced` if another one has done that since.
    Waits up to ``seconds`` for a coordinator that is starting.  Errors: `Retry`, `Refused`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        code, *found = await _init_producer(cluster, name, producer)
        if not code:
            return found[0], found[1]
        if code not in SOON or loop.time() >= deadline:
            raise refusal(code, str(cluster), name)
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _init_producer(
    cluster: Cluster, name: str, producer: tuple[int, int]
) -> tuple[int, int, int]:
    connection = await connect(cluster)
    try:
        found = await connection.ask(FindCoordinatorRequest(name, TRANSACTIONAL))
        if found.error_code:
            return found.error_code, 0, 0
        connection = await _to(cluster, connection, found.host, found.port)
        answer = await connection.ask(init_producer_of(name, producer))
        return answer.error_code, answer.producer_id, answer.producer_epoch
    finally:
        connection.close()


async def _to(cluster: Cluster, connection: Connection, host: str, port: int) -> Connection:
    """``connection`` if it leads to that broker, else another one in its place."""
    if connection.where == f"{host}:{port}":
        return connection
    try:
        return await Connection.open(cluster, host, port)
    finally:
        connection.close()


async def _create(cluster: Cluster, host: str, port: int) -> AIOKafkaConnection:
    async with asyncio.timeout(CONNECT_SECONDS):
        return await create_conn(
            host,
            port,
            client_id=CLIENT,
            request_timeout_ms=round(MOST_PATIENCE * REQUEST_SECONDS * 1000),
            ssl_context=cluster.tls,
            security_protocol=cluster.protocol,
            sasl_mechanism=None if cluster.user is None else "SCRAM-SHA-512",
            sasl_plain_username=cluster.user,
            sasl_plain_password=cluster.password or "",
        )


async def _translated(where: str, call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except (
        KafkaError,
        OSError,
        EOFError,
        ValueError,
        AssertionError,
        NotImplementedError,
    ) as error:
        # aiokafka raises the last three for answers that make no sense to it.
        raise unreachable(where, error) from error
