"""The dashboards: what Grafana would refuse or draw wrongly, as far as that is seen without it."""

import re
import subprocess
import sys

import pytest
import yaml
from promql import (
    GRAFANA,
    KNOWN,
    LABELS,
    dashboards,
    expressions,
    filled,
    labels_of,
    metrics_of,
    refused,
)
from promql import panels as panels_of

DASHBOARDS = dashboards()
UNITS = {"none", "short", "s", "bytes", "Bps", "cps", "percentunit", "bool_yes_no"}
KINDS = {"timeseries", "stat", "table", "heatmap", "state-timeline"}

every = pytest.mark.parametrize("name", sorted(DASHBOARDS))


def test_there_are_three():
    assert set(DASHBOARDS) == {"overview", "region", "conflicts"}
    assert len({each["uid"] for each in DASHBOARDS.values()}) == 3


def test_they_are_what_the_script_writes():
    done = subprocess.run(
        [sys.executable, "-B", str(GRAFANA / "build.py"), "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@every
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str):
    everything = DASHBOARDS[name]["panels"]
    ids = [panel["id"] for panel in everything]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in everything:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken[x, y]}"
                taken[x, y] = panel["title"]


@every
def test_every_panel_asks_the_data_source_of_the_variable(name: str):
    variables = {each["name"]: each for each in DASHBOARDS[name]["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asked = [each for each in variables.values() if each["type"] == "query"]
    assert asked
    for panel in panels_of(DASHBOARDS[name]):
        asked += [panel, *panel["targets"]]
    assert all(each["datasource"] == chosen for each in asked)


@every
def test_every_panel_says_what_it_shows_in_which_unit(name: str):
    titles = [panel["title"] for panel in panels_of(DASHBOARDS[name])]
    assert len(titles) == len(set(titles))
    for panel in panels_of(DASHBOARDS[name]):
        assert panel["type"] in KINDS
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["description"].endswith(".")
        assert panel["targets"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))


def test_units_fit_the_metrics():
    """Seconds and bytes are shown as such, and a rate of them as such a second."""
    for name, dashboard in DASHBOARDS.items():
        for panel in panels_of(dashboard):
            unit = panel["fieldConfig"]["defaults"]["unit"]
            for target in panel["targets"]:
                expr = target["expr"]
                first = re.search(r"(?:meshnode|process)_\w+|\bup\b", expr)
                assert first, expr
                metric = first[0].removesuffix("_bucket")
                fitting = {"none", "short", "bool_yes_no"}
                if " / " in expr or metric == "process_cpu_seconds_total":
                    fitting = {"percentunit"}
                elif metric.endswith("_bytes_total"):
                    fitting = {"Bps"}
                elif metric.endswith("_seconds"):
                    fitting = {"s"}
                elif metric.endswith("_bytes"):
                    fitting = {"bytes"}
                elif "rate(" in expr:
                    fitting = {"cps"}
                assert unit in fitting, f"{name}: {panel['title']}: {unit}"


def test_promql_takes_every_expression(tmp_path):
    exprs = [filled(expr) for _, expr in expressions()]
    assert len(exprs) > 80
    assert not [expr for expr in exprs if "$" in expr.replace('"$1"', "")], "unknown variables"
    assert refused(exprs, tmp_path) == ""


def test_a_wrong_expression_would_be_found(tmp_path):
    assert "parse error" in refused(["sum(up", "up"], tmp_path)
    assert metrics_of('sum by (region) (rate(meshnode_nothing_total{job="x"}[5m])) > 1 and up') == {
        "meshnode_nothing_total", "up",
    }  # fmt: skip
    assert labels_of('sum by (region) (a{job="x,y", kind!~"z"}) * on (peer, by) c') == {
        "region", "job", "kind", "peer", "by",
    }  # fmt: skip


def test_expressions_name_metrics_and_labels_that_there_are():
    for title, expr in expressions():
        asked = metrics_of(filled(expr))
        assert asked, title
        assert asked <= KNOWN, f"{title}: {asked - KNOWN}"
        assert labels_of(filled(expr)) <= LABELS, f"{title}: {labels_of(filled(expr)) - LABELS}"


def test_legends_name_labels_that_the_series_have():
    """A legend may use what the expression sums by; unsummed series have the labels of the node."""
    for name, dashboard in DASHBOARDS.items():
        for panel in panels_of(dashboard):
            for target in panel["targets"]:
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    assert label in LABELS, f"{name}: {panel['title']}"
                    kept = re.match(r"(?:sum|max|min) by \(([\w, ]+)\)", target["expr"])
                    if kept:
                        assert label in kept[1].split(", "), f"{name}: {panel['title']}"


@every
def test_expressions_are_kept_to_one_mesh(name: str):
    """No selector without the job: two meshes may share a Prometheus."""
    for panel in panels_of(DASHBOARDS[name]):
        for target in panel["targets"]:
            for selected in re.findall(r"(?:meshnode|process)_\w+(.?.?.?.?)", target["expr"]):
                assert selected == "{job", f"{panel['title']}: {target['expr']}"


def test_the_lag_of_every_pair_is_a_table_of_regions_and_peers():
    (panel,) = [each for each in panels_of(DASHBOARDS["overview"]) if each["title"] == "Lag"]
    (made,) = panel["transformations"]
    assert made["id"] == "groupingToMatrix"
    assert (made["options"]["rowField"], made["options"]["columnField"]) == ("region", "peer")
    (target,) = panel["targets"]
    assert (target["format"], target["instant"]) == ("table", True)
    colours = panel["fieldConfig"]["defaults"]
    assert colours["custom"]["cellOptions"] == {"type": "color-background"}
    assert [step["value"] for step in colours["thresholds"]["steps"]] == [None, 5, 10, 60]


def test_the_region_can_be_chosen():
    names = [each["name"] for each in DASHBOARDS["region"]["templating"]["list"]]
    assert names == ["datasource", "job", "region"]
    for panel in panels_of(DASHBOARDS["region"]):
        assert all('region="$region"' in target["expr"] for target in panel["targets"])


def test_grafana_finds_them_where_compose_puts_them():
    compose = yaml.safe_load((GRAFANA.parent / "compose" / "compose.yaml").read_text())
    mounted = dict(
        mount.removesuffix(":ro").split(":") for mount in compose["services"]["grafana"]["volumes"]
    )
    assert mounted["../grafana/provisioning"] == "/etc/grafana/provisioning"
    provisioning = GRAFANA / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "meshnode.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == mounted["../grafana/dashboards"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"
    assert source["url"].split("/")[2].split(":")[0] in compose["services"]
