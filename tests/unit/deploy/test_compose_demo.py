"""The Compose lab's demo: links are whole at its end, and its exit code says what was found."""

import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from meshnode.lab import demo as acts
from meshnode.lab import rounds
from meshnode.lab.checker import Report

LAB = Path(__file__).resolve().parents[3] / "deploy/compose"


@pytest.fixture
def demo(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(LAB / "tools"))
    monkeypatch.setenv("MESHNODE_TOPOLOGY", str(LAB / "topology/mesh.toml"))
    import demo

    monkeypatch.setattr("sys.argv", ["demo.py"])
    return demo


@pytest.fixture
def links(demo, monkeypatch) -> list[str]:
    """What is done to the links, in order."""
    done: list[str] = []
    for name in ("cut", "heal", "latency"):
        monkeypatch.setattr(demo.links, name, lambda names, name=name: done.append(name))

    async def beats(topology):
        return {}

    async def heard(topology, before, timeout):
        return rounds.Verdict(True)

    monkeypatch.setattr(demo.rounds, "beats", beats)
    monkeypatch.setattr(demo.rounds, "first_round", heard)
    return done


def converged() -> acts.Summary:
    return acts.Summary(regions=8, seconds_to_converge=1.0, identical=True, checked=Report())


@pytest.mark.parametrize(
    ("found", "orphans", "verify", "code"),
    [
        (True, 0, 0, 0),
        (False, 0, 0, 1),
        (True, 0, 1, 1),
        (True, 3, 1, 0),
    ],
    ids=["all good", "not converged", "verify finds a difference", "only orphans"],
)
def test_the_exit_code(demo, monkeypatch, found, orphans, verify, code):
    async def play(seconds, seed):
        summary = converged()
        summary.identical, summary.orphans = found, orphans
        return summary

    asked = []

    def run(command, check):
        asked.append(command)
        return subprocess.CompletedProcess(command, verify)

    monkeypatch.setattr(demo, "play", play)
    monkeypatch.setattr(demo.subprocess, "run", run)
    assert demo.main() == code
    assert asked == [["meshnode", "verify"]]


async def test_regions_are_cut_and_all_links_given_back(demo, links, monkeypatch):
    async def act(stage, summary, seconds, seed, report):
        assert stage.names[-2:] == ["tokyo", "sydney"]
        stage.isolate(stage.names[-2:])
        stage.heal()

    monkeypatch.setattr(demo.demo, "act", act)
    await demo.play(1.0, 1)
    assert links == ["heal", "latency", "cut", "heal", "heal"]


async def test_links_are_given_back_after_a_failure(demo, links, monkeypatch):
    async def act(stage, summary, seconds, seed, report):
        stage.isolate(["tokyo"])
        raise RuntimeError("broken off")

    monkeypatch.setattr(demo.demo, "act", act)
    with pytest.raises(RuntimeError):
        await demo.play(1.0, 1)
    assert links[-1] == "heal"


async def test_a_mesh_that_does_not_hear_is_not_loaded(demo, links, monkeypatch):
    async def deaf(topology, before, timeout):
        return rounds.Verdict(False, ["tokyo waits for sydney"])

    monkeypatch.setattr(demo.rounds, "first_round", deaf)
    summary = await demo.play(1.0, 1)
    assert not summary.converged
    assert summary.wait_reasons == ["tokyo waits for sydney"]
    assert "cut" not in links


def test_a_server_is_reached_as_root_where_the_topology_says(demo, monkeypatch):
    monkeypatch.setenv("MYSQL_ROOT_PASSWORD", "secret")
    server = demo.Stage(demo.servers.topology()).server("tokyo")
    assert (server.host, server.port, server.user, server.server_id) == (
        "mysql-tokyo",
        3306,
        "root",
        7,
    )
    assert "secret" not in repr(server)
    monkeypatch.delenv("MYSQL_ROOT_PASSWORD")
    with pytest.raises(demo.MeshError, match="MYSQL_ROOT_PASSWORD is not set"):
        demo.servers.root()
