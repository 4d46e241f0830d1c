"""The core starts as fast as the interpreter does: what importing it may not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

# Each costs from a fraction to several bare interpreter starts.
SLOW = frozenset(
    {
        "argparse", "asyncio", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools",
        "importlib.resources", "inspect", "ipaddress", "json", "logging", "pathlib", "random", "re", "selectors",
        "shutil", "socket", "sqlite3", "subprocess", "tempfile", "threading", "traceback", "typing", "uuid",
    }
)  # fmt: skip

# Exceptions: what people use may start slowly. `declare` reads YAML, `doors` parse options and print
# (a door that must be fast has a test of its own), `testing` is for tests, `cluster` may import a client
# library, and is loaded by the agent alone. Every other module is core.
COMFORTABLE = frozenset({"cluster", "declare", "doors", "testing"})

PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); __import__(sys.argv[2]); print(*sys.modules)"


def core_modules() -> list[str]:
    paths = [path.relative_to(SRC).with_suffix("") for path in (SRC / "isthmus").rglob("*.py")]
    core = [path for path in paths if not (len(path.parts) > 1 and path.parts[1] in COMFORTABLE)]
    return sorted({".".join(path.parts).removesuffix(".__init__") for path in core})


def loaded_by(module: str) -> set[str]:
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM, str(SRC), module]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", core_modules())
def test_the_core_loads_nothing_slow(module: str) -> None:
    loaded = loaded_by(module)
    free = loaded_by("sys")  # the bare interpreter's own
    if "_sqlite3" in loaded:
        free |= loaded_by("_sqlite3")  # asks for functools.lru_cache when it is loaded, Modules/_sqlite/module.c
    assert loaded & SLOW - free == set()


def test_a_slow_module_is_seen() -> None:
    assert loaded_by("socket") & SLOW >= {"socket", "enum"}
