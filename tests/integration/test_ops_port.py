"""The ops port of real nodes: ready and not, metrics of a mesh at work, a peer held and let go."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from mesh import NAMES, Mesh, mesh_of
from prometheus_client.parser import text_string_to_metric_families
from steps import PLAIN, QUICK, actor, actor_of, applier, converged, sees, until

from meshnode import cli
from meshnode.errors import Refused
from meshnode.lab.processes import free_port
from meshnode.node import Node
from meshnode.ops import status as looking
from meshnode.ops.metrics_catalogue import METRICS
from meshnode.topology import OpsAddress, render

TOKEN = "a token of the test"


class Operator:
    """Somebody with curl and the token."""

    def __init__(self, mesh: Mesh, session: aiohttp.ClientSession) -> None:
        self.mesh = mesh
        self.session = session

    async def ask(self, at: int, path: str, method: str = "GET", **options) -> tuple[int, str]:
        """Code and text; 0 where nobody listens."""
        url = f"http://{self.mesh.topology.regions[at].ops}{path}"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with self.session.request(method, url, headers=headers, **options) as response:
                return response.status, await response.text()
        except aiohttp.ClientError:
            return 0, ""

    async def status(self, at: int) -> dict:
        code, text = await self.ask(at, "/status")
        assert code == 200
        return json.loads(text)

    async def post(self, at: int, path: str, **options) -> dict:
        code, text = await self.ask(at, path, "POST", **options)
        assert code == 200, text
        return json.loads(text)

    async def ready(self, at: int) -> None:
        await until(lambda: self._is(at, 200), f"{NAMES[at]} is ready")

    async def _is(self, at: int, code: int) -> bool:
        return (await self.ask(at, "/readyz"))[0] == code

    async def scrape(self, at: int) -> dict[tuple, float]:
        """``(sample, its labels' values sorted by label, without the region)`` and its value."""
        code, text = await self.ask(at, "/metrics")
        assert code == 200
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = dict(sorted(sample.labels.items()))
                if family.name.startswith("meshnode_"):
                    assert labels.pop("region") == NAMES[at]
                found[sample.name, *labels.values()] = sample.value
        return found


@contextlib.asynccontextmanager
async def observed(servers, folder: Path, regions: int = 2) -> AsyncIterator[tuple[Mesh, Operator]]:
    """A mesh with ops ports; its nodes are not started."""
    token = folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    async with mesh_of(await servers(regions), folder, limits=QUICK) as mesh:
        mesh.topology = msgspec.structs.replace(
            mesh.topology,
            regions=tuple(
                msgspec.structs.replace(region, ops=OpsAddress(free_port(), token_file=str(token)))
                for region in mesh.topology.regions
            ),
        )
        await mesh.everywhere("CREATE DATABASE app", PLAIN)
        await mesh.init()
        async with aiohttp.ClientSession() as session:
            yield mesh, Operator(mesh, session)


async def test_ready_with_the_claim_and_gone_with_the_node(servers, tmp_path):
    async with observed(servers, tmp_path) as (mesh, operator):
        node = Node(mesh.topology, None, "one")
        await node.open()
        node.waits("the MySQL of one is away")
        code, text = await operator.ask(0, "/readyz")
        assert code == 503
        assert "the MySQL of one is away" in text
        assert (await operator.ask(0, "/livez"))[0] == 200
        await node.close()
        assert await operator.ask(0, "/livez") == (0, "")
        mesh.start()
        await operator.ready(0)
        await operator.ready(1)
        assert (await operator.status(0))["region"]["epoch"] == 1
        await mesh.stop(0)
        assert await operator.ask(0, "/livez") == (0, "")


async def test_not_ready_while_its_mysql_is_away_or_its_tailer_stands(servers, throwaway, tmp_path):
    shared = (await servers(1))[0]
    own = await throwaway(auto_increment=(2, 2))

    async def both(_: int) -> list:
        return [shared, own]

    async with observed(both, tmp_path) as (mesh, operator):
        mesh.start()
        await operator.ready(1)
        await own.kill_async()
        await until(lambda: operator._is(1, 503), "two is not ready without its MySQL")
        assert (await operator.ask(1, "/livez"))[0] == 200
        assert (await operator.scrape(1))["meshnode_ready",] == 0
        assert (await operator.ask(0, "/readyz"))[0] == 200, "the peer is ready all the same"
        await own.start_async()
        await operator.ready(1)
        await mesh.sql[0].execute("TRUNCATE app.t")
        tailer = actor(mesh, 0, "tailer")
        await until(lambda: tailer.state == "halted", "the tailer stops before the TRUNCATE")
        before = tailer.restarts
        while tailer.restarts < before + 2:
            code, text = await operator.ask(0, "/readyz")
            assert code == 503, "not for a moment, although it is tried again and again"
            assert text.startswith("tailer halted")
            await asyncio.sleep(0.01)
        await operator.ready(1)


async def test_a_scrape_of_a_mesh_at_work(servers, tmp_path):
    async with observed(servers, tmp_path) as (mesh, operator):
        mesh.start()
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'a'), (2, 'b')")
        await mesh.settle()
        # A conflict: both regions write one row while neither hears the other.
        mesh.isolate(0)
        await one.execute("UPDATE app.t SET v = 'one' WHERE id = 1")
        await two.execute("UPDATE app.t SET v = 'two' WHERE id = 1")
        mesh.cut()
        await converged(mesh)
        await until(lambda: mesh.nodes[1][0].board.census.letters is not None, "a census")
        values = await operator.scrape(1)
        assert values["meshnode_ready",] == 1
        assert values["meshnode_applied_transactions_total", "one"] == 2
        assert values["meshnode_applied_rows_total", "one"] >= 2
        assert values["meshnode_published_transactions_total",] == 1
        assert values["meshnode_published_bytes_total",] > 0
        assert values["meshnode_received_bytes_total", "one"] > 0
        assert values["meshnode_applied_bytes_total", "one"] > 0
        assert values["meshnode_apply_batch_rows_count", "one"] >= 1
        assert values["meshnode_dead_letters", "open"] == 0
        assert values["meshnode_mend_rows",] == 0
        assert ("meshnode_tombstone_rows", "app.t") in values
        assert 0 <= values["meshnode_lag_seconds", "one"] < 20
        assert -20 < values["meshnode_tail_delay_seconds",] < 20
        assert values["meshnode_actor_state", "applier one", "running"] == 1
        assert values["meshnode_epoch",] == values["meshnode_claims_total",] == 1
        found = [await operator.scrape(at) for at in (0, 1)]
        conflicts = [
            each.get(("meshnode_conflicts_total", "update/update", "app.t")) for each in found
        ]
        assert set(conflicts) <= {None, 1} and 1 in conflicts
        names = {each.name for each in METRICS}
        for name in ("meshnode_queue_bytes", "meshnode_queue_entries"):
            assert name in names
            assert (name, "one", "incoming") in values
            assert (name, "", "transactions") in values
        if mesh.topology.bus.kind == "kafka":
            await until(lambda: mesh.nodes[1][0].board.peers[1].retention_left, "what is left")
            values = await operator.scrape(1)
            kept = values["meshnode_retention_seconds",]
            assert kept - 60 < values["meshnode_retention_left_seconds", "one"] <= kept
        told = await operator.status(1)
        counts = told["region"]["counts"]
        assert counts["published_transactions"] == 1
        (pair,) = told["pairs"]
        assert (pair["origin"], pair["paused"]) == ("one", None)


async def test_a_parked_row_is_counted_by_its_table(servers, tmp_path):
    async with observed(servers, tmp_path) as (mesh, operator):
        mesh.start()
        await mesh.sql[1].execute("ALTER TABLE app.t ADD CONSTRAINT low CHECK (n < 10)")
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 'a', 50)")
        await mesh.settle()
        wanted = ("meshnode_parked_rows", "app.t")
        values: dict = {}

        async def counted() -> bool:
            values.update(await operator.scrape(1))
            return values.get(wanted) == 1

        await until(counted, "the census counts the parked row")
        assert values["meshnode_rows_parked_total", "one"] == 1
        assert values["meshnode_apply_retries_total", "row"] >= 1
        assert values["meshnode_dead_letters", "open"] == 1
        assert (await operator.ask(1, "/readyz"))[0] == 200


async def test_a_paused_peer_stays_away_through_a_restart_until_it_is_resumed(servers, tmp_path):
    async with observed(servers, tmp_path) as (mesh, operator):
        mesh.start()
        await operator.ready(1)
        await mesh.settle()
        told = await operator.post(1, "/peers/one/pause", json={"reason": "ticket 4711"})
        since = told["paused"]["since"]
        assert told == {
            "peer": "one", "region": "two", "paused": {"since": since, "reason": "ticket 4711"},
        }  # fmt: skip
        again = await operator.post(1, "/peers/one/pause")
        assert again["paused"] == told["paused"], "a pause that is there keeps time and reason"

        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 'from one', 0)")
        await mesh.sql[1].execute("INSERT INTO app.t VALUES (2, 'from two', 0)")
        await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 2", "from two")
        await self_says_paused(mesh, since)
        await told_by_status(mesh, since)
        assert (await operator.ask(1, "/readyz"))[0] == 200, "a held peer makes no node unready"
        assert (await operator.scrape(1))["meshnode_peer_paused", "one"] == 1

        await mesh.stop(1)
        await told_by_status(mesh, since)
        mesh.start(1)
        # The applier itself looks before its first batch, whenever the census does.
        census = actor_of(mesh, 1, "census")
        census.run = asyncio.Event().wait
        await operator.ready(1)
        await self_says_paused(mesh, since)
        await sees(mesh, 0, "SELECT COUNT(*) FROM meshnode.applied WHERE seq > 0", 1)
        assert await mesh.sql[1].value("SELECT COUNT(*) FROM app.t WHERE id = 1") == 0
        (pair,) = (await operator.status(1))["pairs"]
        assert pair["paused"] == {"since": since, "reason": "ticket 4711"}

        told = await operator.post(1, "/peers/one/resume")
        assert told["paused"] is None
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "from one")
        assert len(await converged(mesh)) == 2
        await until(lambda: applier(mesh, 1, 0).state.state == "running", "the applier runs")
        assert (await operator.scrape(1))["meshnode_peer_paused", "one"] == 0
        assert not [each for each in await problems(mesh) if "paused" in each]


async def self_says_paused(mesh: Mesh, since: float) -> None:
    """The applier of one's stream in two is held, since the pause and not since its start."""
    state = applier(mesh, 1, 0).state
    await until(lambda: state.state == "paused", "the applier is held")
    assert state.since == pytest.approx(since)
    assert state.reason == "by an operator: ticket 4711"


async def problems(mesh: Mesh) -> list[str]:
    return [each.what for each in (await looking.look(mesh.topology)).problems]


async def told_by_status(mesh: Mesh, since: float) -> None:
    """`meshnode status` names the pause once, and with it the mesh is not converged."""
    status = await looking.look(mesh.topology)
    assert not status.converged
    (found,) = [each for each in status.problems if "paused" in each.what]
    assert found.region == "two"
    assert found.what.startswith("one is paused by an operator since ")
    assert found.what.endswith(": ticket 4711")
    assert found.remedy == "meshnode resume one --region two"
    (pair,) = [each for each in status.pairs if each.region == "two"]
    assert pair.paused is not None
    assert pair.paused.since == pytest.approx(since)


async def test_pause_and_resume_from_the_command_line(servers, tmp_path, capsys):
    async with observed(servers, tmp_path) as (mesh, _):
        file = tmp_path / "mesh.toml"
        file.write_text(render(mesh.topology))
        mesh.start()
        await mesh.settle()

        async def run(*arguments: str) -> str:
            args = cli.build_parser(lab=False).parse_args([*arguments, "--topology", str(file)])
            assert await args.handler(args) == 0
            return capsys.readouterr().out

        out = await run("pause", "one", "--region", "two", "--reason", "by hand")
        assert "one is held in two since " in out
        await until(lambda: applier(mesh, 1, 0).state.state == "paused", "the node takes it up")
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 'a', 0)")
        out = await run("resume", "one", "--region", "two", "--json")
        assert json.loads(out) == {"peer": "one", "region": "two", "paused": None}
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "a")
        with pytest.raises(Refused, match="no peer 'three'"):
            await run("pause", "three", "--region", "two")


async def test_a_pause_while_mysql_is_away_says_so(servers, throwaway, tmp_path):
    shared = (await servers(1))[0]
    own = await throwaway(auto_increment=(2, 2))

    async def both(_: int) -> list:
        return [shared, own]

    async with observed(both, tmp_path) as (mesh, operator):
        mesh.start()
        await operator.ready(1)
        await own.kill_async()
        code, text = await operator.ask(1, "/peers/one/pause", "POST")
        assert code == 503
        assert "no connection to the MySQL of region two" in json.loads(text)["error"]


async def test_an_older_install_is_told_to_run_init(servers, tmp_path):
    async with observed(servers, tmp_path) as (mesh, operator):
        await mesh.sql[1].execute("DROP TABLE meshnode.paused")
        mesh.start()
        await operator.ready(1)
        state = applier(mesh, 1, 0).state
        await until(lambda: state.state == "halted", "the applier says what is missing")
        assert "meshnode.paused" in state.reason
        assert "meshnode init" in state.remedy
        assert (await looking.look(mesh.topology)).regions[1].error is None
        code, text = await operator.ask(1, "/peers/one/pause", "POST")
        assert code == 500
        assert "meshnode init" in json.loads(text)["remedy"]
        await mesh.init()
        await until(lambda: state.state == "running", "init was enough")
