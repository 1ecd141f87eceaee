"""What the expressions of dashboards and rules name, and whether PromQL takes them.

Prometheus itself says whether an expression is one (``promtool``).  What it cannot know is which
metrics and labels there are: those are found here by taking everything else away.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from meshnode.ops.metrics_catalogue import METRICS, PROCESS

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
MATCHERS = re.compile(r"\{([^{}]*)\}")
LABEL_LIST = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
RANGE = re.compile(r"\[[^\]]*\]")
NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\s*\(|[A-Za-z0-9_:])")
NUMBER = re.compile(r"(?<![A-Za-z0-9_:])\d+(?:\.\d+)?(?:e\d+)?")
WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring"}

KNOWN = {"up"}
for _metric in (*METRICS, *PROCESS):
    _suffixes = ("_bucket", "_sum", "_count") if _metric.kind == "histogram" else ("",)
    KNOWN |= {_metric.name + suffix for suffix in _suffixes}

LABELS = {"job", "instance", "region", "le"} | {
    label for metric in METRICS for label in metric.labels
}
VALUES = {"$job": "meshnode", "$region": "virginia", "$__rate_interval": "1m"}
"""What stands for Grafana's variables."""


def filled(expr: str, values: dict[str, str] = VALUES) -> str:
    """``expr`` as Grafana sends it."""
    for name, value in values.items():
        expr = expr.replace(name, value)
    return expr


def metrics_of(expr: str) -> set[str]:
    """The names of all series that ``expr`` asks for."""
    for pattern in (STRING, MATCHERS, LABEL_LIST, RANGE, NUMBER):
        expr = pattern.sub(" ", expr)
    return set(NAME.findall(expr)) - WORDS


def labels_of(expr: str) -> set[str]:
    """All labels that ``expr`` names in matchers and lists."""
    bare = STRING.sub('""', expr)
    found = {
        part for inside in LABEL_LIST.findall(bare) for part in re.split(r"[\s,]+", inside) if part
    }
    for inside in MATCHERS.findall(bare):
        found |= {re.split(r"[=!]", part)[0].strip() for part in inside.split(",")}
    return found


def refused(exprs: Iterable[str], folder: Path) -> str:
    """What ``promtool`` says against ``exprs``; empty when it takes them all."""
    rules = [{"record": f"panel:{at}", "expr": expr} for at, expr in enumerate(exprs)]
    file = folder / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
    return ""


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {
        path.stem: json.loads(path.read_text()) for path in (GRAFANA / "dashboards").glob("*.json")
    }


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard without the rows between them."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Dashboard and title of a panel, and an expression of it."""
    for name, dashboard in sorted(dashboards().items()):
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield f"{name}: {panel['title']} {target['refId']}", target["expr"]
