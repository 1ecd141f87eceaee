"""Every panel and every alert on real data: Prometheus scrapes a lab that is at work.

No Grafana draws here.  What Grafana would send to Prometheus is sent, for each panel and, where a
panel has the variable, for each region; it must come back with data.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_server import SHIPPED, Prometheus, eventually, prometheus

from meshnode.lab.cluster import Cluster
from meshnode.lab.kafka_jars import why_no_kafka

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

REGIONS = ("virginia", "oregon", "saopaulo")
DASHBOARDS = SHIPPED.parent / "grafana" / "dashboards"
FORGETS = "retention"
"""In the names of what a bus that does not forget by age has nothing to say of."""

Scene = tuple["Lab", Prometheus]


class Asked(NamedTuple):
    """An expression as Grafana sends it, and where it comes from."""

    panel: str
    expr: str


class Lab:
    """Runs ``meshnode`` with one lab."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Kafka where there is one: only it has a retention that panels can show.
        self.bus = "file" if why_no_kafka() else "kafka"

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "meshnode.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def lab(self, command: str, *arguments: str) -> str:
        return self("lab", command, *arguments, "--dir", str(self.folder))

    def execute(self, region: str, statement: str) -> None:
        """Run ``statement`` in a region, as its administrator."""
        with Cluster(self.folder).server(region).connect() as connection:
            with connection.cursor() as cursor:
                cursor.execute(statement)


def conflict(lab: Lab) -> None:
    """Two regions write one row while neither hears the other."""
    lab.lab("cut", "virginia", "oregon")
    lab.execute("virginia", "REPLACE INTO lab.tags (tag, hits) VALUES ('disputed', 1)")
    lab.execute("oregon", "REPLACE INTO lab.tags (tag, hits) VALUES ('disputed', 2)")
    lab.lab("heal")
    lab.lab("wait", "--timeout", "180")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A lab of three regions that had load and a conflict, and the Prometheus that saw it all."""
    folder = tmp_path_factory.mktemp("panels")
    lab = Lab(folder / "l")
    try:
        up = lab.lab("up", "--regions", "3", "--detach", "--json", "--bus", lab.bus)
        ports = {
            name: ops["url"].removeprefix("http://") for name, ops in json.loads(up)["ops"].items()
        }
        assert tuple(ports) == REGIONS
        with prometheus(folder, list(ports.values())) as server:
            eventually(
                lambda: len(server.query("meshnode_ready == 1")) == 3,
                lambda: f"not every node is scraped and ready: {server.query('up')}",
            )
            lab.lab("load", "--seconds", "8", "--rate", "20")
            conflict(lab)
            yield lab, server
    finally:
        lab.lab("down")


def asked() -> list[Asked]:
    """Every expression of every dashboard, for every region where it is for one."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                title = f"{path.stem}: {panel['title']} {target['refId']}"
                expr = target["expr"].replace("$job", "meshnode").replace("$__rate_interval", "1m")
                for region in REGIONS if "$region" in expr else ("",):
                    found.append(Asked(f"{title} {region}", expr.replace("$region", region)))
    return found


def test_every_panel_has_data(scene: Scene):
    lab, server = scene
    every = asked()
    assert len(every) > 150
    wanted = [each for each in every if lab.bus == "kafka" or FORGETS not in each.expr]
    missing = wanted

    def all_there() -> bool:
        nonlocal missing
        missing = [each for each in missing if not server.query(each.expr)]
        return not missing

    eventually(all_there, lambda: "\n".join(map(str, missing)))
    for each in wanted:
        for series in server.query(each.expr):
            assert math.isfinite(series.value), f"{each.panel}: {series}"
    if lab.bus == "file":
        unable = [each for each in every if FORGETS in each.expr]
        assert not [each for each in unable if server.query(each.expr)]


def test_panels_show_what_happened(scene: Scene):
    """Not only something: what is known to be so."""
    _, server = scene
    exprs = {each.panel.strip(): each.expr for each in asked()}

    def values(panel: str) -> list[float]:
        return [series.value for series in server.query(exprs[panel])]

    pairs = server.query(exprs["overview: Lag A"])
    assert {(each.labels["region"], each.labels["peer"]) for each in pairs} == {
        (a, b) for a in REGIONS for b in REGIONS if a != b
    }
    assert values("overview: Nodes A") == values("overview: Nodes B") == [3]
    assert values("overview: Topology files A") == [1]
    assert values("overview: Halted actors A") == [0]
    assert values("region: Ready A oregon") == [1]
    found = {each.labels["table"]: each.value for each in server.query(
        exprs["conflicts: Tables and kinds A"]
    )}  # fmt: skip
    assert found["lab.tags"] >= 1
    applied = server.query("sum by (region) (meshnode_applied_transactions_total) > 0")
    assert {each.labels["region"] for each in applied} == set(REGIONS)


def test_every_rule_is_evaluated_and_none_fires_in_a_healthy_mesh(scene: Scene):
    _, server = scene
    shipped = yaml.safe_load((SHIPPED / "rules" / "meshnode.yml").read_text())
    names = [rule["alert"] for group in shipped["groups"] for rule in group["rules"]]

    def evaluated() -> list[dict[str, Any]]:
        return [rule for rule in server.rules() if rule["health"] == "ok"]

    eventually(
        lambda: len(evaluated()) == len(names),
        lambda: [(each["name"], each["health"], each.get("lastError")) for each in server.rules()],
    )
    assert sorted(rule["name"] for rule in server.rules()) == sorted(names)
    assert not [rule["name"] for rule in server.rules() if rule["state"] == "firing"]


def test_alerts_see_a_killed_node_a_pause_and_a_silent_stream(scene: Scene):
    """Real troubles; the last test of the scene, because it leaves them behind."""
    lab, server = scene
    topology = str(Cluster(lab.folder).layout.topology)
    lab("pause", "virginia", "--region", "oregon", "--topology", topology)
    lab.lab("kill-node", "saopaulo")

    def seen() -> dict[str, list[dict[str, str]]]:
        return {
            rule["name"]: [alert["labels"] for alert in rule["alerts"]]
            for rule in server.rules()
            if rule["alerts"]
        }

    wanted = {"MeshnodeNodeDown", "MeshnodePausedLong", "MeshnodeLagHigh"}
    eventually(lambda: wanted <= set(seen()), seen)
    found = seen()
    assert len(found["MeshnodeNodeDown"]) == 1
    (paused,) = found["MeshnodePausedLong"]
    assert (paused["region"], paused["peer"]) == ("oregon", "virginia")
    # Whoever is held by an operator is not late; whoever is dead is.
    eventually(
        lambda: (
            {(each["region"], each["peer"]) for each in seen().get("MeshnodeLagHigh", ())}
            == {("virginia", "saopaulo"), ("oregon", "saopaulo")}
        ),
        seen,
    )
