"""The alert rules: checked by Prometheus' own tool, tried both ways, and explained to operators."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from promql import KNOWN, LABELS, PROMETHEUS, ROOT, expressions, filled, labels_of, metrics_of

from meshnode.ops.metrics_catalogue import INFORMS, METRICS, PROCESS

RULES = PROMETHEUS / "rules" / "meshnode.yml"
TESTS = sorted((PROMETHEUS / "rule-tests").glob("*.yml"))
OPERATING = ROOT / "docs" / "OPERATING.md"

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in ALERTS]


def promtool(*arguments: object) -> str:
    """What ``promtool`` prints; it must be content."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tried() -> list[dict[str, Any]]:
    """Every look at an alert that the rule tests take."""
    return [
        look
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for look in test["alert_rule_test"]
    ]


def test_promtool_takes_rules_and_configuration():
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)
    told = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(ALERTS)} rules found" in told


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rule_tests_pass(path):
    assert "SUCCESS" in promtool("test", "rules", path)


def test_a_rule_that_says_something_else_fails_the_rule_tests(tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rule-tests").mkdir()
    changed = RULES.read_text().replace("meshnode_ready == 0", "meshnode_ready == 1")
    assert changed != RULES.read_text()
    (tmp_path / "rules" / "meshnode.yml").write_text(changed)
    copy = tmp_path / "rule-tests" / "reach.yml"
    copy.write_text((PROMETHEUS / "rule-tests" / "reach.yml").read_text())
    with pytest.raises(AssertionError, match="MeshnodeNotReady"):
        promtool("test", "rules", copy)


def test_every_alert_is_seen_to_fire_and_not_to_fire():
    firing = {look["alertname"] for look in tried() if look.get("exp_alerts")}
    silent = {look["alertname"] for look in tried() if not look.get("exp_alerts")}
    assert firing == set(NAMES)
    assert silent == set(NAMES)


def test_every_alert_waits_and_says_how_bad_it_is():
    assert len(NAMES) == len(set(NAMES))
    for rule in ALERTS:
        assert re.fullmatch(r"Meshnode[A-Z][A-Za-z]+", rule["alert"])
        assert rule["for"], rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "runbook"}


def test_expressions_name_metrics_and_labels_that_there_are():
    for rule in ALERTS:
        asked = metrics_of(rule["expr"])
        assert asked, rule["alert"]
        assert asked <= KNOWN, f"{rule['alert']}: {asked - KNOWN}"
        assert labels_of(rule["expr"]) <= LABELS, rule["alert"]
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in LABELS


def test_joins_are_within_a_mesh():
    """Another mesh may have regions of the same names: no join or sum without the job."""
    for rule in ALERTS:
        for inside in re.findall(r"\b(?:by|on) \(([^()]*)\)", rule["expr"]):
            assert inside.split(", ")[0] == "job", rule["alert"]


def test_states_and_letters_are_those_of_the_catalogue():
    meanings = {metric.name: metric.meaning for metric in METRICS}
    for rule in ALERTS:
        for name, values in re.findall(r'(meshnode_\w+)\{state=~?"([^"]+)"\}', rule["expr"]):
            for value in values.split("|"):
                assert f"`{value}`" in meanings[name], f"{rule['alert']}: {value}"


def test_every_alert_has_a_paragraph_in_the_runbook_and_every_paragraph_an_alert():
    section = OPERATING.read_text().split("\n## Alerts\n")[1].split("\n## ")[0]
    headings = re.findall(r"^### (.+)$", section, re.MULTILINE)
    assert headings == NAMES
    paragraphs = section.split("\n### ")[1:]
    assert all(len(each.split("\n", 1)[1].strip()) > 100 for each in paragraphs)
    for rule in ALERTS:
        anchor = f"docs/OPERATING.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook"] == anchor


def test_what_asks_for_action_is_alerted_or_shown():
    """A metric that says what to do is to be met by somebody."""
    met = set().union(
        *(metrics_of(rule["expr"]) for rule in ALERTS),
        *(metrics_of(filled(expr)) for _, expr in expressions()),
    )
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in met}
    unmet = [
        metric.name
        for metric in (*METRICS, *PROCESS)
        if metric.action != INFORMS and metric.name not in bare
    ]
    assert not unmet
