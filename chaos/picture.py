"""A run as a picture (SVG): faults over time, the lag of each region, conflicts.

One band for each region with the faults that hit it; below, the greatest lag of any pair that
reads in the region, and the sum of recorded conflicts.  The grey part is after the last fault.
"""

import html
from collections.abc import Sequence

from chaos.runner import Result

WIDTH, LEFT, RIGHT = 1060, 90, 10
BAND, LAGS, COUNTS, GAP = 22, 110, 70, 24
COLOURS = ("#3366cc", "#dc3912", "#ff9900", "#109618", "#990099", "#0099c6", "#dd4477", "#66aa00")
_FAULT_COLOURS = {
    "node": "#c0392b", "mysql": "#8e44ad", "region": "#5b2c6f", "cut": "#2c3e50",
    "link": "#7f8c8d", "clock": "#d68910", "stream": "#16a085", "ddl": "#1f618d",
    "row": "#1f618d", "broker": "#784212", "source": "#4a235a",
}  # fmt: skip


def svg(result: Result) -> str:
    """The picture of ``result``."""
    names = list(result.counts)
    ends = [series[-1][0] for series in result.counts.values() if series]
    last = max([result.plan.seconds, *ends, 1.0])
    scale = _Scale(last)
    bands = len(names) * BAND
    height = bands + GAP + LAGS + GAP + COUNTS + GAP + 20
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="11" fill="currentColor">',
        f"<title>faults, lags and conflicts of {html.escape(result.plan.scenario)}</title>",
        f'<rect x="{scale.x(result.plan.seconds):.1f}" y="0"'
        f' width="{max(0.0, scale.x(last) - scale.x(result.plan.seconds)):.1f}"'
        f' height="{height - 20}" fill="#888" opacity="0.15"/>',
        *_bands(result, names, scale),
        *_lags(result, names, scale, bands + GAP),
        *_conflicts(result, names, scale, bands + GAP + LAGS + GAP),
        *_axis(scale, last, height - 18),
        "</svg>",
    ]
    return "\n".join(parts)


class _Scale:
    def __init__(self, last: float) -> None:
        self._factor = (WIDTH - LEFT - RIGHT) / last

    def x(self, seconds: float) -> float:
        return LEFT + max(0.0, seconds) * self._factor


def _bands(result: Result, names: Sequence[str], scale: _Scale) -> list[str]:
    parts = []
    for place, name in enumerate(names):
        y = place * BAND
        parts.append(f'<text x="4" y="{y + 15}">{html.escape(name)}</text>')
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y + BAND - 1}" y2="{y + BAND - 1}"'
            ' stroke="#888" stroke-opacity="0.3"/>'
        )
    for fault in result.faults:
        begins = scale.x(fault["from"])
        width = max(2.0, scale.x(fault.get("to", fault["from"])) - begins)
        colour = _FAULT_COLOURS.get(fault["kind"].split(".")[0], "#555")
        options = "".join(f" {k}={v}" for k, v in fault["options"].items())
        title = f"{fault['kind']} {', '.join(fault['target'])}{options}: {fault['from']} s"
        for name in fault["target"]:
            if name in names:
                y = names.index(name) * BAND + 3
                parts.append(
                    f'<rect x="{begins:.1f}" y="{y}" width="{width:.1f}" height="{BAND - 7}"'
                    f' fill="{colour}" opacity="0.75"><title>{html.escape(title)}</title></rect>'
                )
    return parts


def _lags(result: Result, names: Sequence[str], scale: _Scale, top: int) -> list[str]:
    highest = max((lag for series in result.lags.values() for _, lag in series), default=0) or 1.0
    parts = [
        f'<text x="4" y="{top + 12}">lag (s)</text>',
        f'<text x="{LEFT - 6}" y="{top + 22}" text-anchor="end">{highest:.1f}</text>',
        f'<text x="{LEFT - 6}" y="{top + LAGS}" text-anchor="end">0</text>',
    ]
    for place, name in enumerate(names):
        points = result.lags.get(name, ())
        parts.append(
            _line(
                [(scale.x(at), top + LAGS - lag / highest * (LAGS - 12)) for at, lag in points],
                COLOURS[place % len(COLOURS)],
                f"greatest lag in {name}",
            )
        )
    return parts


def _conflicts(result: Result, names: Sequence[str], scale: _Scale, top: int) -> list[str]:
    highest = max((row[1] for rows in result.counts.values() for row in rows), default=0) or 1
    parts = [
        f'<text x="4" y="{top + 12}">conflicts</text>',
        f'<text x="{LEFT - 6}" y="{top + 22}" text-anchor="end">{highest:g}</text>',
        f'<text x="{LEFT - 6}" y="{top + COUNTS}" text-anchor="end">0</text>',
    ]
    for place, name in enumerate(names):
        parts.append(
            _line(
                [
                    (scale.x(row[0]), top + COUNTS - row[1] / highest * (COUNTS - 12))
                    for row in result.counts[name]
                ],
                COLOURS[place % len(COLOURS)],
                f"conflicts recorded in {name}",
            )
        )
    return parts


def _line(points: Sequence[tuple[float, float]], colour: str, title: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4">'
        f"<title>{html.escape(title)}</title></polyline>"
    )


def _axis(scale: _Scale, last: float, y: int) -> list[str]:
    step = next(s for s in (5, 10, 20, 30, 60, 120, 300, 600, 1800, 7200) if last / s < 14)
    marks = range(0, int(last) + 1, step)
    return [
        f'<text x="{scale.x(at):.1f}" y="{y + 12}" text-anchor="middle">{at} s</text>'
        for at in marks
    ]
