"""The spans of one region: their names, kinds and attributes, by OpenTelemetry's conventions.

Theory of operation.  A span is made when it is over, with the times that were noted on the
way: nothing is made for what is not recorded.  So it is made at once in the form in which
exporters take it, without the tracer that an application would use for spans
that it begins and ends; that costs a tenth (docs/decisions/0010-tracing.md).  Names and attributes
follow the semantic conventions for messaging (``{operation} {destination}``) and databases
(``{operation} {target}``); what they have no word for is under ``meshnode.``.  Each span names
region and transaction, the first of a region all that is known.

    commit TABLE     INTERNAL  commit time to durable on the bus: the origin's part, the root
      tail           INTERNAL  commit time to taken from what the tailer read of the binlog
      publish TOPIC  PRODUCER  encoded and appended; its context travels in the frame
        receive TOPIC  CONSUMER  frame read to committed here: a peer's part
          decide         INTERNAL  keys locked, stamps compared
          apply TABLE    CLIENT    rows written and committed
"""

from collections.abc import Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import messaging_attributes as messaging
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import error_attributes as error
from opentelemetry.semconv.attributes import server_attributes as server
from opentelemetry.semconv.attributes import service_attributes as service
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.util.types import AttributeValue

from meshnode import __version__
from meshnode.ops.tracing_context import SAMPLED
from meshnode.topology import Region, Topology

Attributes = dict[str, AttributeValue]

REGION = "meshnode.region"
ORIGIN = "meshnode.origin"
TX_ID = "meshnode.tx_id"
SEQ = "meshnode.seq"
TABLES = "meshnode.tables"
ROWS = "meshnode.rows"
LAG = "meshnode.lag"
LIFTS = "meshnode.lifts"
CONFLICTS = "meshnode.conflicts"
PARKED = "meshnode.parked_rows"
RETRIES = "meshnode.retries"
REASONS = "meshnode.recorded_for"

FILE_SYSTEM = "meshnode.file"
"""``messaging.system`` of the embedded bus."""


class _Resource(Resource):
    """A resource whose hash is worked out once: encoders ask for it with every span."""

    def __hash__(self) -> int:
        if self._known is None:
            self._known = super().__hash__()
        return self._known

    _known: int | None = None


class Spans:
    """Makes the spans of ``region`` and hands them to ``outlet``; times in ns since 1970."""

    def __init__(self, topology: Topology, region: Region, outlet: SpanProcessor) -> None:
        self.region = region.name
        self._outlet = outlet
        self._new_id = RandomIdGenerator().generate_span_id
        found = Resource.create(
            {
                service.SERVICE_NAME: "meshnode",
                service.SERVICE_NAMESPACE: topology.mesh,
                service.SERVICE_INSTANCE_ID: region.name,
                service.SERVICE_VERSION: __version__,
                REGION: region.name,
            }
        )
        self._resource = _Resource(found.attributes, found.schema_url)
        # The constants above are of the newest version that the package knows.
        self._scope = InstrumentationScope("meshnode", __version__, list(Schemas)[-1].value)
        self._mysql: Attributes = {
            db.DB_SYSTEM_NAME: db.DbSystemNameValues.MYSQL.value,
            server.SERVER_ADDRESS: region.mysql.host,
            server.SERVER_PORT: region.mysql.port,
        }
        kafka = topology.bus.kind == "kafka"
        self._prefix = f"{topology.mesh}." if kafka else ""
        self._messaging: Attributes = {
            messaging.MESSAGING_SYSTEM: (
                messaging.MessagingSystemValues.KAFKA.value if kafka else FILE_SYSTEM
            ),
        }
        if kafka:
            self._messaging[messaging.MESSAGING_DESTINATION_PARTITION_ID] = "0"

    def publishing(self, trace_id: int) -> SpanContext:
        """The context of a publishing span of ``trace_id``, to be made later."""
        return SpanContext(trace_id, self._new_id(), False, SAMPLED)

    def commit(self, own: SpanContext, times: tuple[int, int], about: Attributes) -> None:
        """The root: what the region's MySQL and this node did until the mesh has the commit."""
        name, database = self._database("commit", about[TABLES])
        self._make(name, SpanKind.INTERNAL, own, None, times, database | about)

    def tail(self, root: SpanContext, times: tuple[int, int], tx_id: str) -> None:
        """How the transaction came from the binlog."""
        self._child("tail", SpanKind.INTERNAL, root, times, self._whose(tx_id))

    def publish(
        self,
        root: SpanContext,
        own: SpanContext,
        times: tuple[int, int],
        size: int,
        seq: int,
        tx_id: str,
    ) -> None:
        """The frame of ``size`` bytes with the transaction was appended to the own topic."""
        name, described = self._message("publish", "send", self.region, seq)
        described[messaging.MESSAGING_MESSAGE_BODY_SIZE] = size
        described |= self._whose(tx_id)
        self._make(name, SpanKind.PRODUCER, own, root, times, described)

    def receive(
        self,
        trace_id: int,
        sender: SpanContext | None,
        peer: str,
        times: tuple[int, int],
        about: Attributes,
        failures: Sequence[tuple[int, str]],
    ) -> SpanContext:
        """The whole of what became of the transaction here; its context.

        ``sender`` is the publishing span, None if the origin did not record the
        transaction.  ``failures``: when a try was rolled back, and the type of its error.
        """
        # It lasts as long as the transaction is worked on: "process", in the words of the
        # conventions, whose "receive" ends where the message is handed over.
        name, described = self._message("receive", "process", peer, about[SEQ])
        events = [Event("retry", {error.ERROR_TYPE: what}, at) for at, what in failures]
        own = SpanContext(trace_id, self._new_id(), False, SAMPLED)
        self._make(name, SpanKind.CONSUMER, own, sender, times, described | about, events)
        return own

    def applied(
        self,
        received: SpanContext,
        decided: tuple[int, int],
        written: tuple[int, int],
        batch_rows: int,
        about: Attributes,
    ) -> None:
        """The last try, in a batch of ``batch_rows``: what was decided, what was written."""
        name, described = self._database("apply", about[TABLES])
        if batch_rows > 1:
            described[db.DB_OPERATION_BATCH_SIZE] = batch_rows
        for each in (REGION, TX_ID, ROWS, LAG, CONFLICTS):
            described[each] = about[each]
        whose = self._whose(about[TX_ID])
        self._child("decide", SpanKind.INTERNAL, received, decided, whose)
        self._child(name, SpanKind.CLIENT, received, written, described)

    def _whose(self, tx_id: str) -> Attributes:
        return {REGION: self.region, TX_ID: tx_id}

    def _message(self, operation: str, kind: str, region: str, seq: int) -> tuple[str, Attributes]:
        topic = self._prefix + region
        return f"{operation} {topic}", self._messaging | {
            messaging.MESSAGING_OPERATION_NAME: operation,
            messaging.MESSAGING_OPERATION_TYPE: kind,
            messaging.MESSAGING_DESTINATION_NAME: topic,
            messaging.MESSAGING_MESSAGE_ID: str(seq),
        }

    def _database(self, operation: str, titles: Sequence[str]) -> tuple[str, Attributes]:
        """Name and attributes of an operation on the region's MySQL.

        The target is the table if there is one, else the schema if there is one, else the server.
        """
        tables = [title.split(".", 1) for title in titles]
        schemas = {schema for schema, _ in tables}
        described = self._mysql | {db.DB_OPERATION_NAME: operation}
        target = f"{described[server.SERVER_ADDRESS]}:{described[server.SERVER_PORT]}"
        if len(schemas) == 1:
            described[db.DB_NAMESPACE] = target = tables[0][0]
            if len(tables) == 1:
                described[db.DB_COLLECTION_NAME] = target = tables[0][1]
        return f"{operation} {target}", described

    def _child(
        self,
        name: str,
        kind: SpanKind,
        parent: SpanContext,
        times: tuple[int, int],
        attributes: Attributes,
    ) -> None:
        own = SpanContext(parent.trace_id, self._new_id(), False, SAMPLED)
        self._make(name, kind, own, parent, times, attributes)

    def _make(
        self,
        name: str,
        kind: SpanKind,
        own: SpanContext,
        parent: SpanContext | None,
        times: tuple[int, int],
        attributes: Attributes,
        events: Sequence[Event] = (),
    ) -> None:
        start, end = times
        self._outlet.on_end(
            ReadableSpan(
                name,
                own,
                parent,
                self._resource,
                attributes,
                events,
                kind=kind,
                start_time=start,
                # The two may come from two clocks.
                end_time=max(start, end),
                instrumentation_scope=self._scope,
            )
        )
