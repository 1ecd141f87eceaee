"""The requests that aiokafka lacks: those that name a topic by its id, or a producer by its epoch.

A topic that was deleted and made again has the same name, and may have as many
records as before.  Only its id tells the two apart, and a fetch by id fails
where a fetch by name would hand out other records.  And only a producer that says who
it is can renew its claim without taking it from another.  They need a broker of
Kafka 3.1 or newer, which is the oldest that this bus can use.

The structures are Kafka's published protocol, in the notation of
`aiokafka.protocol.types`; ``Fixed`` sends a request in exactly its one version.
"""

from io import BytesIO

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

NO_TOPIC = bytes(16)
"""The id that stands for none."""


class Uuid(AbstractType[bytes]):
    """Sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        value = data.read(16)
        if len(value) != 16:
            raise ValueError("the answer ends within a topic id")
        return value


class Fixed:
    """A request of one version; refused before it is sent where the broker does not know it."""

    def prepare(self, versions: dict[int, tuple[int, int]]) -> "Fixed":
        lowest, highest = versions.get(self.API_KEY, (0, -1))
        if not lowest <= self.API_VERSION <= highest:
            raise IncompatibleBrokerVersion(
                f"request {self.API_KEY} is spoken in versions {lowest} to {highest}, "
                f"not in {self.API_VERSION}"
            )
        return self


_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_NODES = CompactArray(Int32)


class MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), _TAGS
            ),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _NODES),
                        ("isr", _NODES),
                        ("offline", _NODES),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class MetadataRequest(Fixed, RequestStruct):
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", _TEXT), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_authorized_operations", Boolean),
        _TAGS,
    )


def metadata_of(topic: str) -> MetadataRequest:
    """Ask where ``topic`` lives; it is not created by asking."""
    return MetadataRequest([(NO_TOPIC, topic, {})], False, False, {})


class FetchResponse(Response):
    API_KEY = 1
    API_VERSION = 13
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("session_id", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("high_watermark", Int64),
                        ("last_stable_offset", Int64),
                        ("log_start_offset", Int64),
                        (
                            "aborted",
                            CompactArray(("producer_id", Int64), ("first_offset", Int64), _TAGS),
                        ),
                        ("preferred_read_replica", Int32),
                        ("records", CompactBytes),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class FetchRequest(Fixed, RequestStruct):
    API_KEY = 1
    API_VERSION = 13
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = FetchResponse
    SCHEMA = Schema(
        ("replica_id", Int32),
        ("max_wait_ms", Int32),
        ("min_bytes", Int32),
        ("max_bytes", Int32),
        ("isolation_level", Int8),
        ("session_id", Int32),
        ("session_epoch", Int32),
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("leader_epoch", Int32),
                        ("offset", Int64),
                        ("last_fetched_epoch", Int32),
                        ("log_start_offset", Int64),
                        ("max_bytes", Int32),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("forgotten", CompactArray(("topic_id", Uuid), ("partitions", _NODES), _TAGS)),
        ("rack_id", _TEXT),
        _TAGS,
    )


def fetch_of(topic_id: bytes, offset: int, max_bytes: int, max_wait: float) -> FetchRequest:
    """Ask for batches of partition 0 from ``offset`` on; the first comes whole in any case.

    The broker waits up to ``max_wait`` seconds for one byte.  No fetch session, and the
    isolation level "uncommitted": nothing of this bus stands in a transaction.
    """
    partition = (0, -1, offset, -1, -1, max_bytes, {})
    wait_ms = round(max_wait * 1000)
    return FetchRequest(
        -1, wait_ms, 1, max_bytes, 0, 0, -1, [(topic_id, [partition], {})], [], "", {}
    )


class InitProducerIdResponse(Response):
    API_KEY = 22
    API_VERSION = 4
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


class InitProducerIdRequest(Fixed, RequestStruct):
    API_KEY = 22
    API_VERSION = 4
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = InitProducerIdResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


def init_producer_of(name: str, producer: tuple[int, int] = (-1, -1)) -> InitProducerIdRequest:
    """Ask for a new epoch under the transactional id ``name``.

    With the own ``producer`` (id, epoch) it is refused if another one has asked since.
    """
    # No transaction is ever begun, so its longest time means nothing.
    return InitProducerIdRequest(name, 60_000, *producer, {})
