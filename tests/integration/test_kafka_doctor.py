"""What the doctor says of the bus: a folder that is none, a Kafka that is not as named."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AsyncExitStack

import msgspec
import pytest
from healthy import faults, healthy
from kafka_steps import linked, over_kafka

from meshnode.bus.kafka_link import Cluster, connect
from meshnode.bus.kafka_protocol import metadata_of
from meshnode.buses import bare_bus
from meshnode.lab.broker import Broker
from meshnode.ops.doctor import Level, examine, refusals
from meshnode.topology import AccountSource, Bus, Kafka, Topology


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    with over_kafka(monkeypatch) as running_broker:
        yield running_broker


def on(topology: Topology, bus: Bus, mesh: str = "test") -> Topology:
    return msgspec.structs.replace(topology, bus=bus, mesh=mesh)


def kafka(broker: Broker, **settings: object) -> Bus:
    wanted = {"bootstrap": (broker.bootstrap,), "replication_factor": 1, "min_insync_replicas": 1}
    return Bus(kind="kafka", kafka=Kafka(**(wanted | settings)))


async def test_a_folder_that_is_none(servers, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    async with AsyncExitStack() as stack:
        topology, _ = await healthy(stack, await servers(1))
        topology = on(topology, Bus(kind="file", dir=str(tmp_path / "file" / "bus")))
        (found,) = faults(await examine(topology, "one"))
        assert (found.check, found.level) == ("bus", Level.REFUSE)
        assert f"{tmp_path}/file is no folder" in found.finding
        assert "bus.dir" in found.remedy


@pytest.mark.kafka
async def test_what_is_wrong_with_kafka(broker: Broker, servers, monkeypatch) -> None:
    """It is read only: no topic is there afterwards that was not there before."""
    monkeypatch.setenv("BUS_PASSWORD", "wrong")
    async with AsyncExitStack() as stack:
        base, _ = await healthy(stack, await servers(2))
        mesh = base.mesh

        async def found(bus: Bus) -> list[tuple[str, Level, str]]:
            seen = faults(await examine(on(base, bus, mesh), "one"))
            assert {each.check for each in seen} <= {"bus"}
            return [(each.subject, each.level, f"{each.finding}; {each.remedy}") for each in seen]

        assert await found(kafka(broker)) == []
        connection = await connect(Cluster((broker.bootstrap,)))
        with contextlib.closing(connection):
            answer = await connection.ask(metadata_of(f"{mesh}.one"))
            assert answer.topics[0][0] == 3, "the doctor made the topic"

        # Nobody listens there: the node would wait for it.
        ((subject, level, text),) = await found(kafka(broker, bootstrap=("127.0.0.1:1",)))
        assert (subject, level) == ("topic of one", Level.WARN)
        assert "127.0.0.1:1" in text and "topology file" in text

        # A listener that asks for no password closes the connection, or says so.
        source = AccountSource(user="mesh", password_env="BUS_PASSWORD")
        told = await found(kafka(broker, sasl=source))
        assert told
        assert "listener" in told[0][2]

        # The own topic has another shape than the file says: refused; a peer's: a warning.
        made = bare_bus(on(base, kafka(broker), mesh))
        for name in ("one", "two"):
            writer = made.writer(name)
            await writer.open(30)
            await writer.close()
        async with linked(broker, f"{mesh}.one"):
            pass
        told = await found(kafka(broker, retention_hours=9_000.0))
        assert [(subject, level) for subject, level, _ in told] == [
            ("topic of one", Level.REFUSE),
            ("topic of two", Level.WARN),
        ]
        assert all("retention.ms" in text and "kafka-configs.sh" in text for *_, text in told)
        broken = on(base, kafka(broker, retention_hours=9_000.0), mesh)
        assert [each.check for each in refusals(await examine(broken, "one"))] == ["bus"]

        monkeypatch.setattr("meshnode.ops.doctor_bus.ANSWER_SECONDS", 0.5)
        broker.pause()
        ((_, level, text),) = await found(kafka(broker))
        assert level is Level.WARN and "has not answered" in text
        broker.resume()
        await asyncio.to_thread(broker.start)
