"""TLS and SCRAM against a broker that demands them, and what each wrong setting is called."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from bus_harness import SOON, payloads, read_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kafka_harness import SETTINGS

from meshnode.bus.kafka import Cluster, KafkaBus
from meshnode.bus.kafka_link import connect
from meshnode.bus.port import ORIGIN
from meshnode.errors import MeshError, Refused, Retry
from meshnode.lab.broker import Broker
from meshnode.lab.kafka_jars import find_kafka, why_no_kafka

PASSWORD = "correct horse"
LISTENER = "listener.name.clients"


def certificate(folder: Path, name: str, address: str) -> tuple[Path, Path]:
    """A certificate for ``address`` that signs itself: the file with its key, the public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    public = folder / f"{name}.crt"
    public.write_bytes(made.public_bytes(pem))
    secret = folder / f"{name}.pem"
    secret.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(pem)
    )
    return secret, public


class Secure(NamedTuple):
    """A broker that demands TLS and SCRAM, its certificate, and one that is not its own."""

    bootstrap: str
    trusted: ssl.SSLContext
    foreign: ssl.SSLContext


@pytest.fixture(scope="module")
def secure(kafka_folder: Path) -> Iterator[Secure]:
    missing = why_no_kafka()
    if missing is not None:
        pytest.skip(missing)
    secret, public = certificate(kafka_folder, "broker", "127.0.0.1")
    _, other = certificate(kafka_folder, "other", "127.0.0.1")
    broker = Broker(
        find_kafka(),
        kafka_folder / "secure",
        protocol="SASL_SSL",
        options={
            f"{LISTENER}.ssl.keystore.type": "PEM",
            f"{LISTENER}.ssl.keystore.location": str(secret),
            # Starting, it connects to itself.
            f"{LISTENER}.ssl.truststore.type": "PEM",
            f"{LISTENER}.ssl.truststore.location": str(public),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            f"{LISTENER}.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        },
        scram={"mesh": PASSWORD},
        die_with_parent=True,
    )
    broker.start()
    yield Secure(
        broker.bootstrap,
        ssl.create_default_context(cafile=public),
        ssl.create_default_context(cafile=other),
    )
    broker.kill()


async def test_a_writer_and_a_reader_with_the_right_secrets(secure: Secure) -> None:
    cluster = Cluster((secure.bootstrap,), secure.trusted, "mesh", PASSWORD)
    bus = KafkaBus("secure", {"osaka": cluster}, SETTINGS)
    writer, reader = bus.writer("osaka"), bus.reader("osaka")
    await writer.open(SOON)
    ends = [await writer.append(payload) for payload in (b"a", bytes(3 << 20), b"c")]
    assert payloads(await read_until(reader, ORIGIN, ends[-1])) == [b"a", bytes(3 << 20), b"c"]
    assert await reader.end() == ends[-1]
    await reader.close()
    await writer.close()


WRONG = {
    "password": (True, "mesh", "wrong", Refused, "user or password is wrong"),
    "user": (True, "nobody", PASSWORD, Refused, "user or password is wrong"),
    "certificate": (False, "mesh", PASSWORD, Refused, "certificate .* does not fit: .*self"),
    "no TLS": (None, "mesh", PASSWORD, Retry, "agree on TLS"),
    "no TLS, no user": (None, None, None, Retry, "agree on TLS"),
    "no user": (True, None, None, Retry, "agree on TLS and on user and password"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_setting_is_named(
    secure: Secure, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without TLS the client takes the broker's alert for a length and waits for the rest.
    monkeypatch.setattr("meshnode.bus.kafka_link.CONNECT_SECONDS", 3.0)
    trusted, user, password, kind, said = WRONG[wrong]
    context = {True: secure.trusted, False: secure.foreign, None: None}[trusted]
    bus = KafkaBus(
        "secure", {"osaka": Cluster((secure.bootstrap,), context, user, password)}, SETTINGS
    )
    for call in (bus.writer("osaka").open(1.0), bus.reader("osaka").read(ORIGIN, 1)):
        with pytest.raises(MeshError, match=said) as caught:
            await asyncio.wait_for(call, SOON)
        assert type(caught.value) is kind
        assert PASSWORD not in str(caught.value)
        assert secure.bootstrap in caught.value.what


async def test_a_certificate_for_another_name_does_not_fit(secure: Secure) -> None:
    port = secure.bootstrap.rpartition(":")[2]
    with pytest.raises(Refused, match=r"certificate .*'localhost'"):
        await connect(Cluster((f"localhost:{port}",), secure.trusted, "mesh", PASSWORD))


async def test_secrets_for_a_broker_that_wants_none(broker: Broker, secure: Secure) -> None:
    with pytest.raises(Refused, match="asks for no password"):
        await connect(Cluster((broker.bootstrap,), None, "mesh", PASSWORD))
    with pytest.raises(MeshError, match="TLS"):
        await connect(Cluster((broker.bootstrap,), secure.trusted))
