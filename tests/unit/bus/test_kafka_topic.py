"""Which shapes of a topic are refused, and how names become topics."""

import re

import pytest

from meshnode.bus.kafka import Cluster, KafkaBus, TopicSettings
from meshnode.bus.kafka_topic import compare
from meshnode.errors import Refused

SETTINGS = TopicSettings(3, 2, 3600.0, -1, 4_000_000, "zstd")
GOOD = SETTINGS.wanted()


def test_the_topic_that_the_writer_creates_is_the_one_that_it_wants() -> None:
    assert compare(GOOD, 3, SETTINGS) == []


@pytest.mark.parametrize(
    "more",
    [
        {"retention.ms": "-1"},
        {"retention.ms": "3600001"},
        {"max.message.bytes": "4000001"},
        {"min.insync.replicas": "3"},
    ],
)
def test_a_topic_that_keeps_or_takes_more_is_fine(more: dict[str, str]) -> None:
    assert compare({**GOOD, **more}, 4, SETTINGS) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cleanup.policy", "compact", "cleanup.policy is compact, must be delete"),
        ("cleanup.policy", "compact,delete", "cleanup.policy is compact,delete, must be delete"),
        ("message.timestamp.type", "CreateTime", "must be LogAppendTime"),
        ("unclean.leader.election.enable", "true", "must be false"),
        ("min.insync.replicas", "1", "min.insync.replicas is 1, must be at least 2"),
        ("max.message.bytes", "1048588", "max.message.bytes is 1048588, must be at least 4000000"),
        ("retention.ms", "3599999", "retention.ms is 3599999, must be at least 3600000 or -1"),
        ("retention.bytes", "1000000000", "must be none, which is -1"),
    ],
)
def test_a_topic_that_promises_less_is_refused(name: str, value: str, said: str) -> None:
    (problem,) = compare({**GOOD, name: value}, 3, SETTINGS)
    assert said in problem


def test_every_problem_is_told_at_once() -> None:
    problems = compare({**GOOD, "cleanup.policy": "compact", "retention.ms": "1"}, 2, SETTINGS)
    assert len(problems) == 3
    assert "it has 2 replicas, must have 3" in problems[-1]


def test_a_size_limit_is_compared_with_the_one_wanted() -> None:
    limited = TopicSettings(3, 2, 3600.0, 10**9, 4_000_000, "zstd")
    assert compare({**GOOD, "retention.bytes": "-1"}, 3, limited) == []
    assert compare({**GOOD, "retention.bytes": str(10**9)}, 3, limited) == []
    (problem,) = compare({**GOOD, "retention.bytes": str(10**9 - 1)}, 3, limited)
    assert "must be at least 1000000000 or -1" in problem


def test_names_that_cannot_be_topics_are_refused() -> None:
    cluster = Cluster(("127.0.0.1:9092",))
    bus = KafkaBus("lab", {"osaka": cluster, "a b": cluster}, SETTINGS)
    for region, said in (("a b", "'lab.a b' cannot name a topic"), ("lagos", "region lagos")):
        with pytest.raises(Refused, match=re.escape(said)):
            bus.reader(region)


def test_a_message_limit_too_small_for_anything_is_refused() -> None:
    bus = KafkaBus("lab", {"osaka": Cluster(("h:1",))}, TopicSettings(1, 1, 60.0, -1, 1000, "none"))
    with pytest.raises(Refused, match="max_message_bytes is 1000"):
        bus.writer("osaka")


def test_the_password_is_never_shown() -> None:
    cluster = Cluster(("h:1", "i:2"), user="mesh", password="s3cret")
    assert "s3cret" not in repr(cluster)
    assert str(cluster) == "h:1,i:2"
