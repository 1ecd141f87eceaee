"""The report of a session: one JSON file, one HTML page without anything from elsewhere.

What a session prints names its folder, where plans and journals are.  The two files name no
folder, because they are kept when it is gone (``docs/reports``): a seed draws its plan anew.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from chaos import long, picture
from chaos.plan import Plan
from chaos.races import Outcome
from chaos.runner import Result
from chaos.scenarios import SCENARIOS

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #222 }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse } th, td { padding: 2px 10px; text-align: left }
th { border-bottom: 1px solid #999 } td.n { text-align: right }
.good { color: #17702b } .wrong { color: #b3261e; font-weight: bold }
pre { background: #f5f5f5; padding: 8px; white-space: pre-wrap }
code { background: #f5f5f5; padding: 1px 4px } svg { max-width: 100% }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd } pre, code { background: #2a2a2a }
  .good { color: #6cc784 } .wrong { color: #f2867e }
}
"""


def line(result: Result) -> str:
    """One line about a run."""
    word = "good" if result.good else f"WRONG ({len(result.findings) + result.more_findings})"
    answered = sum(load["acknowledged"] for load in result.loads.values())
    oracle = result.judgement.oracle
    return (
        f"{result.plan.scenario:4} seed {result.plan.seed}: {result.fault_count} faults,"
        f" {answered} transactions answered, {oracle.get('lost_writes', 0)} lost a conflict and"
        f" {oracle.get('recorded', 0)} are on record, level after"
        f" {result.judgement.settle_seconds:g} s, {result.seconds:.0f} s in all: {word}"
    )


def text(result: Result) -> str:
    """The line, and everything that a failure needs."""
    lines = [line(result)]
    if result.points:
        lines.append(f"  deaths at fault points: {deaths(result)}")
    for check, finding in result.findings:
        lines.append(f"  {check}: {finding}")
    if result.findings:
        lines += [
            f"  and {result.more_findings} more" if result.more_findings else "",
            f"  plan: {result.folder / 'plan.json'}",
            f"  journal: {result.folder / 'journal.jsonl'}",
            f"  again: {result.again}",
        ]
    return "\n".join(filter(None, lines))


def deaths(result: Result) -> str:
    """How many nodes died at each fault point, and at which none did."""
    counted = [f"{point} {count}" for point, count in result.points.items() if count]
    never = [point for point, count in result.points.items() if not count]
    return ", ".join(counted) + (f"; none at {', '.join(never)}" if never else "")


def write(results: Sequence[Result], raced: Outcome | None, folder: Path) -> None:
    """Write ``report.json`` and ``report.html`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    good = all(result.good for result in results) and (raced is None or raced.good)
    head = {
        "good": good,
        "faults": sum(result.fault_count for result in results),
        "seconds": round(sum(r.seconds for r in results) + (raced.seconds if raced else 0.0), 1),
        "races": raced.as_dict() if raced else None,
    }
    runs = [result.as_dict() | {"again": command(result.plan)} for result in results]
    (folder / "report.json").write_bytes(_lines(head, runs))
    (folder / "report.html").write_text(_page(results, raced, good))


def command(plan: Plan) -> str:
    """The command that performs the same plan, wherever the folder of its run is by then."""
    scenario = (SCENARIOS | long.LONG).get(plan.scenario)
    drawn = f"python -m chaos run {plan.scenario} --seed {plan.seed}"
    if scenario and plan == scenario.plan(plan.seed, True):
        return drawn
    if scenario and plan == scenario.plan(plan.seed, False):
        return f"{drawn} --short"
    return f"python -m chaos run {plan.scenario} --plan plan.json"


def _lines(head: dict[str, Any], runs: list[dict[str, Any]]) -> bytes:
    """As JSON with a line for each figure of each run: series would fill pages otherwise."""

    def fields(content: dict[str, Any], margin: bytes) -> bytes:
        return (b",\n" + margin).join(
            orjson.dumps(name) + b": " + orjson.dumps(value, default=str)
            for name, value in content.items()
        )

    body = b",\n".join(b"  {\n   " + fields(run, b"   ") + b"\n  }" for run in runs)
    return b"{\n " + fields(head, b" ") + b',\n "runs": [\n' + body + b"\n ]\n}\n"


def _page(results: Sequence[Result], raced: Outcome | None, good: bool) -> str:
    total = sum(result.fault_count for result in results)
    verdict = (
        '<span class="good">nothing wrong</span>' if good else '<span class="wrong">WRONG</span>'
    )
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>meshnode chaos</title>"
        f"<style>{_STYLE}</style><h1>meshnode chaos: {total} faults, {verdict}</h1>",
        "<table><tr><th>run<th>seed<th>regions<th>faults<th>answered<th>lost a conflict<th>on"
        " record<th>level after<th>lag p50<th>p99<th>verdict</tr>",
        *(_row(result) for result in results),
        "</table>",
    ]
    if raced:
        parts.append(f"<p>{html.escape(raced.line)}</p>")
    parts += [_section(result) for result in results]
    return "\n".join(parts)


def _row(result: Result) -> str:
    oracle = result.judgement.oracle
    answered = sum(load["acknowledged"] for load in result.loads.values())
    verdict = "good" if result.good else "WRONG"
    numbers = (
        result.plan.seed, result.plan.setting.regions, result.fault_count, answered,
        oracle.get("lost_writes", "-"), oracle.get("recorded", "-"),
        f"{result.judgement.settle_seconds:g} s", f"{result.lag.get('p50')} s",
        f"{result.lag.get('p99')} s",
    )  # fmt: skip
    cells = "".join(f"<td class=n>{number}</td>" for number in numbers)
    name = html.escape(result.plan.scenario)
    return (
        f'<tr><td><a href="#{_anchor(result)}">{name}</a></td>{cells}'
        f'<td class="{"good" if result.good else "wrong"}">{verdict}</td></tr>'
    )


def _anchor(result: Result) -> str:
    return html.escape(f"{result.plan.scenario}-{result.plan.seed}")


def _section(result: Result) -> str:
    name = html.escape(result.plan.scenario)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(result.kinds.items()))
    loads = "; ".join(
        f"{load}: {numbers['acknowledged']} answered, {numbers['unsure']} unsure"
        for load, numbers in result.loads.items()
    )
    parts = [
        f'<h2 id="{_anchor(result)}">{name}, seed {result.plan.seed}</h2>',
        f"<p>{html.escape(kinds or 'no fault')}<br>{html.escape(loads)}</p>",
        f"<p>deaths at fault points: {html.escape(deaths(result))}</p>" if result.points else "",
        picture.svg(result),
        f"<p>again: <code>{html.escape(command(result.plan))}</code></p>",
    ]
    if result.findings:
        shown = "\n".join(f"{check}: {text}" for check, text in result.findings)
        parts.append(f'<p class="wrong">found:</p><pre>{html.escape(shown)}</pre>')
    return "\n".join(parts)
