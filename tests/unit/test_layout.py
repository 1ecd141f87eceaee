"""Rules of the code base that a reader relies on: who imports what, and small honest files."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from meshnode.topology import load

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "meshnode"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path
    for folder in ("meshnode", "tests", "bench", "chaos")
    for path in (ROOT / folder).rglob("*.py")
)
LONGEST_FILE = 400

DRIVERS = {"asyncmy", "aiomysql", "pymysql", "aiokafka"}
IMPURE = {
    "asyncio", "concurrent", "datetime", "logging", "multiprocessing", "os", "pathlib", "random",
    "secrets", "selectors", "signal", "socket", "subprocess", "tempfile", "threading", "time",
    "uuid",
}  # fmt: skip
CORE_MAY_USE = {"meshnode.core", "meshnode.errors", "meshnode.limits", "msgspec"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Every module that ``path`` imports anywhere, by full name."""
    found: set[str] = set()
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def title(path: Path) -> str:
    return str(path.relative_to(ROOT))


def in_package(*names: str) -> list[Path]:
    return [path for path in MODULES if within(name_of(path), *names)]


def outside(package: str, *forbidden: str) -> list[str]:
    """Imports of ``forbidden`` packages in the modules of ``package``."""
    return [
        f"{title(path)} imports {module}"
        for path in in_package(package)
        for module in sorted(imports(path))
        if within(module, *forbidden)
    ]


def test_the_core_is_pure():
    paths = in_package("meshnode.core")
    assert len(paths) > 8
    for path in paths:
        for module in imports(path):
            top = module.split(".")[0]
            if top == "meshnode":
                # ``from meshnode import limits`` names the package and the module.
                allowed = module == "meshnode" or within(module, *CORE_MAY_USE)
            else:
                allowed = top == "msgspec" or (top in sys.stdlib_module_names and top not in IMPURE)
            assert allowed, f"{title(path)} imports {module}"
        for node in ast.walk(tree_of(path)):
            waits = isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor)
            assert not waits, f"{title(path)} waits"


def test_only_adapters_import_drivers():
    owners = {
        "meshnode.mysql": {"asyncmy", "aiomysql", "pymysql"},
        "meshnode.bus": {"aiokafka"},
        # The lab is a client of the servers, not a part of the node.
        "meshnode.lab": {"asyncmy", "pymysql"},
    }
    for path in MODULES:
        used = {module.split(".")[0] for module in imports(path)} & DRIVERS
        for package, own in owners.items():
            if within(name_of(path), package):
                used -= own
        assert not used, f"{title(path)} imports {used}"


def test_only_the_command_line_picks_the_event_loop():
    users = [name_of(path) for path in MODULES if any(within(m, "uvloop") for m in imports(path))]
    assert users in ([], ["meshnode.cli"])


def test_adapters_know_nothing_of_what_uses_them():
    above = ("meshnode.actors", "meshnode.ops", "meshnode.node", "meshnode.commands")
    assert not outside("meshnode.bus", "meshnode.mysql", *above)
    assert not outside("meshnode.mysql", "meshnode.bus", *above)
    assert not outside("meshnode.actors", "meshnode.ops", "meshnode.node", "meshnode.commands")


def test_actors_go_through_the_ports():
    assert not outside("meshnode.actors", "meshnode.mysql")
    assert not outside("meshnode.store", "meshnode.mysql", "meshnode.bus", "meshnode.actors")
    used = {
        module
        for path in in_package("meshnode.actors")
        for module in imports(path)
        if within(module, "meshnode.bus")
    }
    assert used, "the bus is asked for"
    assert {module for module in used if not within(module, "meshnode.bus.port")} == set()


def test_no_cancellation_is_lost():
    """Before Python 3.12 ``asyncio.wait_for`` loses one that comes when it has just got its answer:
    the node then never ends.  ``asyncio.timeout`` does not."""
    users = [title(path) for path in MODULES if "asyncio.wait_for" in path.read_text()]
    assert users == ["meshnode/actors/kernel.py"], "which says so in a comment"


def test_spans_are_made_in_one_place():
    """Whoever does not trace does without OpenTelemetry, and the actors never know."""
    users = {
        name_of(path)
        for path in MODULES
        if any(within(module, "opentelemetry") for module in imports(path))
    }
    assert users
    assert all(name.startswith("meshnode.ops.tracing") for name in users), users
    tracers = {
        name_of(path)
        for path in MODULES
        if any(module.startswith("meshnode.ops.tracing") for module in imports(path))
    }
    assert tracers - users <= {"meshnode.node"}, tracers


def test_the_node_runs_without_the_lab():
    for package in ("core", "actors", "mysql", "bus", "ops"):
        assert not outside(f"meshnode.{package}", "meshnode.lab")


def test_files_are_small():
    long = {title(path): path.read_text().count("\n") for path in SOURCES}
    long = {name: lines for name, lines in long.items() if lines > LONGEST_FILE}
    assert not long, "split them by reasons to change"


def test_every_module_says_what_it_is():
    for path in SOURCES:
        tree = tree_of(path)
        if path.name == "__init__.py" and not tree.body:
            continue
        text = ast.get_docstring(tree)
        assert text, f"{title(path)} has no docstring"
        # A sentence, if need be over several lines, or a question.
        assert text.split("\n\n")[0].endswith((".", ":", "?")), title(path)


def tracked() -> list[Path]:
    """Text files of the project, as far as git knows them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    suffixes = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".sh", ".sql", ""}
    return [path for path in paths if path.suffix in suffixes and path.is_file()]


UNFINISHED = re.compile(r"\bTO" r"DO\b|\bFIX" r"ME\b|\bX" r"XX\b")  # fmt: skip
"""Split so that this file does not hold what it forbids."""


def test_no_file_is_marked_as_unfinished():
    paths = tracked()
    assert len(paths) > 50
    found = [
        f"{title(path)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", sorted((ROOT / "topology").glob("*.toml")), ids=title)
def test_the_topologies_that_are_shipped_load(path):
    topology = load(path)
    assert topology.regions


def test_no_two_tests_share_a_file_name() -> None:
    """pytest imports test files by their base name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
