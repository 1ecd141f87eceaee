"""``python -m tests.sim.mutants_table REPORT``: docs/MUTANTS.md, every rule with its mutant.

REPORT is what ``python -m tests.sim.gate --report REPORT`` wrote.  A test holds the page against
the mutants as they are.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from . import gate
from .mutants import MUTANTS
from .mutants_survivors import SURVIVORS, UNSHOWN

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "MUTANTS.md"

HEAD = """# Rules and their mutants

Every rule of the mesh that a schedule can break has a *mutant*: the code as it is, with that
rule off ([RELIABILITY.md](RELIABILITY.md#the-mutation-gate)). `python -m tests.sim.mutants_table`
makes this page; a test holds it against `tests/sim/mutants_*.py`.

- *seen*: of the schedules that were run, aimed at the rule or drawn at large, the share that the
  oracle rejected, or that stopped with an error of the mesh; then the check that spoke most often.
  A few kills each, so a share is an order of magnitude.
- *on real servers*: the test that shows the same rule there. Those in `test_rules_of_*.py` run
  their script with the rule on and with it off, and must end well and wrong; a mutant of
  `meshnode.core` that asks nothing of the model is the very patch that switches it off there."""

AREAS = (
    "Stamps", "Tombstones", "Keys", "Version replaced", "Lift", "Late tombstone", "Net effect",
    "Order", "Held back", "Loop", "Taking over", "Numbers", "Huge transactions", "Heartbeats",
    "Tombstone GC", "Fence", "Locks", "Decision", "Plan", "Looks", "Conflicts", "Policies",
    "Errors", "Letters", "Tables",
)  # fmt: skip
"""What rules are about, in the order of the path of a row."""


def cell(text: str) -> str:
    """Text as a table may have it."""
    return text.replace("|", "\\|")


def seen(name: str, verdict: dict[str, Any] | None) -> str:
    """What the simulation showed of a mutant."""
    if name in SURVIVORS:
        return "survives (below)"
    if verdict is None or not verdict["kills"]:
        return "not yet shown" if name in UNSHOWN else "not run"
    share = 100 * verdict["kills"] / verdict["schedules"]
    check = max(verdict["checks"], key=verdict["checks"].get)
    rounded = f"{share:.0f}" if share > 10 else f"{share:.2g}"
    return f"{rounded} % of {verdict['schedules']}: {check}"


def page(verdicts: dict[str, dict[str, Any]]) -> str:
    """The page; ``verdicts`` are those of a report, by the name of the mutant."""
    areas: dict[str, list[str]] = {}
    for name, mutant in MUTANTS.items():
        area, rule = mutant.rule.split(": ", 1)
        shown = f"`{mutant.shown}`" if mutant.shown else ""
        row = f"| {cell(rule)} | {cell(name)} | {seen(name, verdicts.get(name))} | {shown} |"
        areas.setdefault(area, []).append(row)
    parts = [HEAD]
    for area in sorted(areas, key=AREAS.index):
        parts.append(f"\n## {area}\n\n| rule | mutant | seen | on real servers |")
        parts += ["| --- | --- | --- | --- |", *areas[area]]
    parts.append("\n## Mutants that survive, and why\n")
    parts += [f"- **{name}**. {reason}" for name, reason in SURVIVORS.items()]
    return "\n".join(parts) + "\n"


def rows(text: str) -> list[tuple[str, str, str]]:
    """Rule, mutant and real test of every row of a page: what does not depend on a run."""
    found = re.findall(r"^\| (.*) \| (.*) \| .* \| (.*) \|$", text, re.MULTILINE)
    return [each for each in found if each[0] not in ("rule", "---")]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    report = json.loads(Path(sys.argv[1]).read_text())
    PAGE.write_text(page({each["name"]: each for each in report["mutants"]}))
    print(f"{PAGE}: {len(MUTANTS)} mutants")
    return 0


assert gate.RULES, "the modules of the mutants fill the registry"

if __name__ == "__main__":
    sys.exit(main())
