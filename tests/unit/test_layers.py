"""The imports of src/isthmus are held to ARCHITECTURE.md, and its modules and functions to their length."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
ROOT = SRC / "isthmus"
MODULES = sorted(ROOT.rglob("*.py"))

# Who may import whom; each room may import itself. ARCHITECTURE.md, "Who may import whom".
CORE = {"errors", "model", "planner", "netlink", "kernel", "store", "converge", "engine"}
ALLOWED: dict[str, set[str]] = {
    "__init__": {"loading"},
    "loading": set(),
    "errors": set(),
    "model": {"errors"},
    "planner": {"errors", "model"},
    "netlink": {"errors", "model"},
    "kernel": {"errors", "model", "netlink"},
    "observe": {"errors", "model", "netlink"},
    "store": {"errors", "model"},
    "cluster": {"errors", "model"},
    "converge": {"errors", "model", "planner", "netlink", "kernel", "store"},
    "engine": CORE | {"observe", "cluster"},
    "declare": {"errors", "model"},
    "doors": {"errors", "model", "declare", "engine"},
    # Knows isthmus by its command line alone, as the tests of another project would.
    "testing": set(),
}
# The one arrow past the engine: an interpreter is started beside ours before the engine is loaded, which takes as long.
EARLY = {
    ("doors/cli/main.py", "isthmus.kernel.launch.Supervisor"),
    ("doors/cli/session.py", "isthmus.kernel.launch.Supervisor"),
}
# Below the doors: a room of its own, since none knows another.
DOORS_KNOW_NO_DOOR = "doors"

# The planner is arithmetic: equal inputs give equal plans.
FORBIDDEN_IN_PLANNER = {
    "_random", "_socket", "_sqlite3", "asyncio", "datetime", "fcntl", "io", "os", "pathlib", "posix", "random",
    "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile",
    "threading", "time", "uuid",
}  # fmt: skip
# `hashlib`, `sys` and the like stay free; `open` of the static ruleset is by a built-in.

MODULE_LINES = 400
FUNCTION_LINES = 50


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import, wherever in the module it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def wrong_arrows(path: Path) -> Iterator[str]:
    room = room_of(path)
    for line, name in imports_of(path):
        top, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if top == "isthmus" and other not in {room, *ALLOWED[room]} and (name_of(path), name) not in EARLY:
            yield f"{name_of(path)}:{line}: {room} imports {other}"
        if room == other == DOORS_KNOW_NO_DOOR:
            door, other_door = path.relative_to(ROOT).parts[1], rest.split(".")[1]
            if door not in (other_door, "__init__.py"):
                yield f"{name_of(path)}:{line}: door {door} imports door {other_door}"
        if room == "planner" and top in FORBIDDEN_IN_PLANNER:
            yield f"{name_of(path)}:{line}: planner imports {top}"


def functions_of(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_go_one_way(path: Path) -> None:
    assert room_of(path) in ALLOWED, f"{name_of(path)} is in no room: ARCHITECTURE.md and this table lack it"
    assert list(wrong_arrows(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_fit_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_fit_on_a_screen(path: Path) -> None:
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions_of(path) if f.end_lineno is not None}
    assert {name: lines for name, lines in long.items() if lines > FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_say_what_they_are(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize(
    ("place", "line", "complaint"),
    [
        ("model/x.py", "from isthmus.netlink import wire", "model/x.py:1: model imports netlink"),
        ("planner/x.py", "import os.path", "planner/x.py:1: planner imports os"),
        ("planner/x.py", "from time import monotonic", "planner/x.py:1: planner imports time"),
        ("engine.py", "from isthmus.doors.cli import main", "engine.py:1: engine imports doors"),
        ("doors/cni/x.py", "from isthmus import kernel", "doors/cni/x.py:1: doors imports kernel"),
        ("doors/cni/x.py", "from isthmus.doors.cli import main", "doors/cni/x.py:1: door cni imports door cli"),
    ],
)
def test_a_wrong_arrow_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, line: str, complaint: str
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    assert list(wrong_arrows(path)) == [complaint]
