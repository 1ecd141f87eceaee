"""What brokers and connections say, in the mesh's own errors, each with what to change."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import errors as kafka

from meshnode.bus import kafka_link
from meshnode.bus.kafka_errors import refusal, unreachable
from meshnode.bus.kafka_link import Cluster, connect
from meshnode.errors import Fenced, Halt, MeshError, Refused, Retry


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (6, Retry, "leader of lab.osaka has moved"),
        (7, Retry, "do not follow in time"),
        (10, Halt, "max.message.bytes"),
        (15, Retry, "transaction.state.log.replication.factor"),
        (19, Retry, "min.insync.replicas"),
        (20, Retry, "min.insync.replicas"),
        (29, Refused, "kafka-acls.sh"),
        (38, Refused, "replication_factor"),
        (45, Retry, "order"),
        (47, Fenced, "another process writes lab.osaka"),
        (53, Refused, "transactional id lab.osaka"),
        (58, Refused, "user or password is wrong"),
        (90, Fenced, "one node for each region"),
        (100, Retry, "was deleted"),
        (12345, Retry, "error 12345"),
    ],
)
def test_a_code_becomes_a_reaction_and_a_remedy(
    code: int, kind: type[MeshError], said: str
) -> None:
    error = refusal(code, "k1:9092", "lab.osaka")
    assert type(error) is kind
    assert said in str(error)
    assert "k1:9092" in error.what


def test_what_the_broker_adds_in_words_is_passed_on() -> None:
    assert "Topic is ugly" in refusal(40, "k1:9092", "lab.osaka", "Topic is ugly").what


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ConnectionRefusedError(111, "refused"), Retry, "refused"),
        (TimeoutError(), Retry, "does not answer in time"),
        (EOFError(), Retry, "closed the connection"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), Refused, "speaks TLS"),
        (caused(kafka.KafkaConnectionError(), ssl.SSLError(1, "ALERT")), Refused, "TLS"),
        # A broker that is killed cuts TLS off: no setting is wrong.
        (caused(kafka.KafkaConnectionError(), ssl.SSLEOFError(8, "EOF")), Retry, "closed"),
        (kafka.SaslAuthenticationFailed("no"), Refused, "password is wrong"),
        (kafka.UnsupportedSaslMechanismError("no"), Refused, "sasl.enabled.mechanisms"),
        (kafka.IllegalSaslStateError("no"), Refused, "asks for no password"),
        (kafka.IncompatibleBrokerVersion("request 1"), Refused, "Kafka 3.1 or newer"),
    ],
)
def test_a_failed_connection_becomes_a_reaction(
    error: Exception, kind: type[MeshError], said: str
) -> None:
    found = unreachable("k1:9092", error)
    assert type(found) is kind
    assert said in str(found)
    assert "k1:9092" in found.what


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def served(handler: Handler) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.close()


async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"\x00\x00\x00\x08\x00\x00\x00\x01\xff\xff\xff\xff")
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (silent, "not answer in time"),
        (closing, "closed the connection"),
        (nonsense, "closed the connection"),
    ],
)
async def test_a_server_that_is_no_broker(
    handler: Handler, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_link, "CONNECT_SECONDS", 0.3)
    server, address = await served(handler)
    with pytest.raises(Retry, match=said) as caught:
        await connect(Cluster((address,)))
    # A listener that wants TLS or a password ends the same way, so both are named.
    assert "agree on TLS and on user and password" in caught.value.remedy
    assert address in caught.value.what
    server.close()


async def test_every_address_that_fails_is_named_and_a_wrong_setting_comes_first() -> None:
    server, address = await served(closing)
    with pytest.raises(Retry, match=rf"127\.0\.0\.1:1 .*; .*{address}"):
        await connect(Cluster(("127.0.0.1:1", address)))
    server.close()
    with pytest.raises(Refused, match="'nowhere' is no address"):
        await connect(Cluster(("127.0.0.1:1", "nowhere")))
    with pytest.raises(Refused, match="no address of Kafka"):
        await connect(Cluster(()))
