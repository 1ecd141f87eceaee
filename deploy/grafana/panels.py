"""Grafana's dashboard model, as much of it as the dashboards of a mesh need.

A dashboard is sections of panels.  Panels are placed from left to right in lines of 24
columns and numbered as they come, so no two share an id or a place.  Every query goes to the
data source that the variable ``datasource`` names, and is kept to the mesh of the variable ``job``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

COLUMNS = 24
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


class Query(NamedTuple):
    """A PromQL expression, and the legend of its series."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel; ``width`` in columns, ``height`` in Grafana's rows, ``model`` of its kind."""

    title: str
    description: str
    queries: tuple[Query, ...]
    width: int
    height: int
    model: Json


def steps(*limits: tuple[str, float]) -> Json:
    """Thresholds: green, and from each limit on its colour."""
    begun = [{"color": "green", "value": None}]
    return {
        "mode": "absolute",
        "steps": begun + [{"color": color, "value": value} for color, value in limits],
    }


PLAIN = steps()


def series(
    title: str, unit: str, description: str, *queries: Query, width: int = 8, stacked: bool = False
) -> Panel:
    """Lines over time."""
    model = {
        "type": "timeseries",
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "custom": {
                    "lineWidth": 1,
                    "fillOpacity": 20 if stacked else 5,
                    "showPoints": "never",
                    "stacking": {"mode": "normal" if stacked else "none"},
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }
    return Panel(title, description, queries, width, HEIGHT, model)


def signed(panel: Panel) -> Panel:
    """The same with values below zero."""
    del panel.model["fieldConfig"]["defaults"]["min"]
    return panel


def stat(
    title: str, unit: str, description: str, *queries: Query, limits: Json = PLAIN, width: int = 4
) -> Panel:
    """The present value, large."""
    model = {
        "type": "stat",
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": limits}, "overrides": []},
        "options": {
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "value_and_name" if len(queries) > 1 else "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }
    return Panel(title, description, queries, width, 4, model)


def matrix(
    title: str,
    unit: str,
    description: str,
    query: Query,
    *,
    rows: str,
    columns: str,
    limits: Json,
    width: int = 12,
) -> Panel:
    """A table with a row and a column for each value of two labels; colours by ``limits``."""
    corner = f"{rows}\\{columns}"
    model = {
        "type": "table",
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "decimals": 1,
                "thresholds": limits,
                "custom": {"align": "center", "cellOptions": {"type": "color-background"}},
            },
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": corner},
                    "properties": [
                        {"id": "custom.cellOptions", "value": {"type": "auto"}},
                        {"id": "custom.align", "value": "left"},
                    ],
                }
            ],
        },
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [
            {
                "id": "groupingToMatrix",
                "options": {
                    "rowField": rows,
                    "columnField": columns,
                    "valueField": "Value",
                    "emptyValue": "null",
                },
            }
        ],
    }
    return Panel(title, description, (query,), width, 10, model)


def table(title: str, unit: str, description: str, query: Query, *, width: int = 8) -> Panel:
    """A line for each series, its labels as columns."""
    hidden = dict.fromkeys(("Time", "__name__", "job", "instance", "region"), True)
    model = {
        "type": "table",
        "fieldConfig": {
            "defaults": {"unit": unit, "custom": {"align": "left"}},
            "overrides": [],
        },
        "options": {"showHeader": True, "cellHeight": "sm"},
        "transformations": [{"id": "organize", "options": {"excludeByName": hidden}}],
    }
    return Panel(title, description, (query,), width, HEIGHT, model)


def timeline(title: str, description: str, query: Query, *, width: int = 24) -> Panel:
    """A bar for each series: green while it is 0, red while it is 1."""
    mappings = {
        "0": {"text": "yes", "color": "green", "index": 0},
        "1": {"text": "no", "color": "red", "index": 1},
    }
    model = {
        "type": "state-timeline",
        "fieldConfig": {
            "defaults": {
                "unit": "none",
                "color": {"mode": "thresholds"},
                "mappings": [{"type": "value", "options": mappings}],
                "thresholds": steps(("red", 1)),
                "custom": {"lineWidth": 0, "fillOpacity": 80},
            },
            "overrides": [],
        },
        "options": {"mergeValues": True, "showValue": "never", "rowHeight": 0.85},
    }
    return Panel(title, description, (query,), width, 10, model)


def heatmap(title: str, unit: str, description: str, query: Query, *, width: int = 8) -> Panel:
    """The buckets of a histogram over time."""
    model = {
        "type": "heatmap",
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
            "yAxis": {"unit": unit},
            "tooltip": {"mode": "single"},
        },
    }
    return Panel(title, description, (query,), width, HEIGHT, model)


def variable(name: str, label: str, query: str) -> Json:
    """A variable whose values are those of a label."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "values"},
        "refresh": 2,
        "sort": 1,
        "multi": False,
        "includeAll": False,
    }


def dashboard(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Json],
    sections: Sequence[tuple[str, Sequence[Panel]]],
) -> Json:
    """The dashboard with a row of its name above each section."""
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
    }
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["meshnode"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "title": "meshnode",
                "tags": ["meshnode"],
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [source, *variables]},
        "panels": _placed(sections),
    }


def _placed(sections: Sequence[tuple[str, Sequence[Panel]]]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for title, panels in sections:
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        placed.append(
            {"id": len(placed) + 1, "type": "row", "title": title, "gridPos": place, "panels": []}
        )
        y += 1
        x = line = 0
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y, line = 0, y + line, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            placed.append(_panel(len(placed) + 1, panel, place))
            x += panel.width
            line = max(line, panel.height)
        y += line
    return placed


def _panel(number: int, panel: Panel, place: Json) -> Json:
    kind = panel.model["type"]
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": kind == "table",
            "range": kind != "table",
            "format": {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series"),
        }
        for at, query in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": SOURCE,
        **panel.model,
        "targets": targets,
    }
