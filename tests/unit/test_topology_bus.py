"""The parts of a topology file that say where streams, spans and operators go."""

import re
from pathlib import Path

import pytest
from test_topology import TWO, read, refused

from meshnode import limits
from meshnode.bus.log import LogOptions

CASES = {
    "kafka with a folder": ('kind = "file"', 'kind = "kafka"', "bus.dir", "no meaning"),
    "kafka nowhere": (
        'kind = "file"\ndir = "bus"',
        'kind = "kafka"',
        "bus.kafka.bootstrap",
        "no Kafka is named for east, west",
    ),
    "kafka of the file bus": (
        'dir = "bus"',
        'dir = "bus"\nkafka = { bootstrap = ["k:9092"] }',
        "bus.kafka",
        "no meaning",
    ),
    "kafka without port": (
        'kind = "file"\ndir = "bus"',
        'kind = "kafka"\nkafka = { bootstrap = ["k"] }',
        "bus.kafka.bootstrap[0]",
        '"k".*host:port',
    ),
    "kafka that can never ack": (
        'kind = "file"\ndir = "bus"',
        'kind = "kafka"\n'
        'kafka = { bootstrap = ["k:1"], replication_factor = 1, min_insync_replicas = 2 }',
        "bus.kafka.min_insync_replicas",
        "nothing could be published",
    ),
    "kafka user without password": (
        'kind = "file"\ndir = "bus"',
        'kind = "kafka"\nkafka = { bootstrap = ["k:1"], sasl = { user = "mesh" } }',
        "bus.kafka.sasl",
        "no source",
    ),
    "two tokens": (
        "port = 3311 }",
        'port = 3311 }\nops = { port = 8311, token_env = "A", token_file = "b" }',
        "region[0].ops",
        "two sources",
    ),
    "tracing to a file": (
        "[bus]",
        '[tracing]\nendpoint = "spans.json"\n[bus]',
        "tracing.endpoint",
        "an address such as",
    ),
}

STAR = """
kind = "kafka"
[bus.kafka]
bootstrap = ["k1:9092", "k2:9092"]
sasl = { user = "mesh", password_env = "KAFKA_PASSWORD" }
tls = { ca = "ca.pem" }
"""


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_is_named(case: str, tmp_path: Path) -> None:
    old, new, key, words = CASES[case]
    assert TWO.count(old) == 1
    problems = refused(tmp_path, TWO.replace(old, new))
    assert key in problems
    assert re.search(words, problems[key]), problems[key]


def test_one_kafka_for_all_or_one_for_each(tmp_path: Path) -> None:
    star = read(tmp_path, TWO.replace('kind = "file"\ndir = "bus"', STAR))
    assert star.kafka_of("east") == star.kafka_of("west")
    assert star.kafka_of("east").bootstrap == ("k1:9092", "k2:9092")
    own = TWO.replace('kind = "file"\ndir = "bus"', STAR).replace(
        'name = "west"', 'name = "west"\nbus = { bootstrap = ["w:9092"] }'
    )
    mesh = read(tmp_path, own)
    assert mesh.kafka_of("east").bootstrap == ("k1:9092", "k2:9092")
    west = mesh.kafka_of("west")
    assert west.bootstrap == ("w:9092",)
    assert west.sasl == star.kafka_of("west").sasl
    assert mesh.digest == star.digest, "addresses are not what nodes must agree on"


def test_each_region_with_its_own_folder(tmp_path: Path) -> None:
    own = TWO.replace('name = "west"', 'name = "west"\nbus = { dir = "far" }')
    mesh = read(tmp_path, own)
    assert mesh.bus_dir("east") == tmp_path / "bus"
    assert mesh.bus_dir("west") == tmp_path / "far"


def test_loopback_ops_ports_clash_only_on_one_machine(tmp_path: Path) -> None:
    same = TWO.replace("port = 3311 }", "port = 3311 }\nops = { port = 8311 }").replace(
        "port = 3312 }", "port = 3312 }\nops = { port = 8311 }"
    )
    assert "the same as region[0].ops" in refused(tmp_path, same)["region[1].ops"]
    apart = same.replace('host = "127.0.0.1", port = 3312', 'host = "db.west"')
    assert read(tmp_path, apart).region("west").ops.port == 8311


def test_what_a_file_bus_keeps_by_default_is_said_in_one_place(tmp_path: Path) -> None:
    bus = read(tmp_path, TWO).bus
    assert (bus.segment_bytes, bus.min_age_seconds, bus.max_bytes) == (
        limits.BUS_SEGMENT_BYTES,
        limits.BUS_KEEP_SECONDS,
        limits.BUS_MAX_BYTES,
    )
    assert LogOptions() == LogOptions(bus.segment_bytes, bus.min_age_seconds, bus.max_bytes)
    readme = Path(__file__).parents[2] / "topology" / "README.md"
    assert "64 MiB, 3600, 16 GiB" in readme.read_text()
    assert (limits.BUS_SEGMENT_BYTES, limits.BUS_MAX_BYTES) == (64 << 20, 16 << 30)
