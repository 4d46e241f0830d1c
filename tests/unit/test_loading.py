"""Tests of loading.py: what is found by it is what Python would find, and where anything is unusual Python does."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

import isthmus
from isthmus.model import value

SRC = Path(__file__).parents[2] / "src"

# Says of the modules that are named how they were loaded, and what `answer` of the first is.
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    print(type(module.__spec__.loader).__name__, getattr(module, "answer", None))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package's head, with a module of its own."""
    folder = tmp_path / "src/isthmus"
    folder.mkdir(parents=True)
    for name in ("__init__.py", "loading.py"):
        shutil.copy(SRC / "isthmus" / name, folder)
    (folder / "room").mkdir()
    (folder / "room/__init__.py").write_text("")
    write(folder, "answer = 1\n", 1_000_000_000)
    return tmp_path / "src"


def write(folder: Path, text: str, mtime: int) -> None:
    module = folder / "room/module.py"
    module.write_text(text)
    os.utime(module, (mtime, mtime))


def load(src: Path, *options: str, environment: dict[str, str] | None = None) -> list[list[str]]:
    argv = [sys.executable, "-S", *options, "-c", PROGRAM, str(src), "isthmus.room.module", "isthmus.room"]
    # What a caller says of compiled files is not ours to test.
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    run = subprocess.run(argv, capture_output=True, text=True, check=True, env=inherited | (environment or {}))
    return [line.split() for line in run.stdout.splitlines()]


OURS, PYTHONS = "_Loader", "SourceFileLoader"


def test_python_compiles_a_module_and_then_it_is_found_here(copy: Path) -> None:
    assert load(copy) == [[PYTHONS, "1"], [PYTHONS, "None"]]
    assert load(copy) == [[OURS, "1"], [OURS, "None"]]


def test_a_source_that_has_changed_is_compiled_anew(copy: Path) -> None:
    load(copy)
    write(copy / "isthmus", "answer = 2\n", 1_000_000_001)
    assert load(copy)[0] == [PYTHONS, "2"]
    write(copy / "isthmus", "answer = 30\n", 1_000_000_001)  # another size at the same time
    assert load(copy)[0] == [PYTHONS, "30"]
    assert load(copy)[0] == [OURS, "30"]


@pytest.mark.parametrize("damage", ["cut", "empty", "head", "code"])
def test_a_compiled_file_that_makes_no_sense_is_left_to_python(copy: Path, damage: str) -> None:
    load(copy)
    [compiled] = copy.glob("isthmus/room/__pycache__/module.*.pyc")
    data = compiled.read_bytes()
    broken = {"cut": data[:-9], "empty": b"", "head": b"\0" * 4 + data[4:], "code": data[:16] + b"\0" + data[17:]}
    compiled.write_bytes(broken[damage])
    if damage in ("cut", "code"):  # Python believes the head, and refuses
        with pytest.raises(subprocess.CalledProcessError) as caught:
            load(copy)
        assert "marshal" in caught.value.stderr
    else:
        assert load(copy)[0] == [PYTHONS, "1"]


def test_a_compiled_file_by_hash_and_a_long_one_are_left_to_python(copy: Path) -> None:
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", str(copy)]
    subprocess.run(command, check=True)
    assert load(copy) == [[PYTHONS, "1"], [PYTHONS, "None"]]
    write(copy / "isthmus", f"answer = 4\ntext = {'x' * 70_000!r}\n", 1_000_000_002)
    load(copy)
    assert load(copy)[0] == [PYTHONS, "4"]


def test_who_keeps_compiled_files_elsewhere_or_optimised_gets_them_as_ever(copy: Path, tmp_path: Path) -> None:
    load(copy)
    assert load(copy, "-O")[0][0] == PYTHONS
    assert load(copy, environment={"PYTHONPYCACHEPREFIX": str(tmp_path / "cache")})[0][0] == PYTHONS


def test_a_module_is_told_what_python_would_tell_it() -> None:
    spec = importlib.import_module("isthmus.model.value").__spec__
    usual = PathFinder.find_spec("isthmus.model.value", isthmus.model.__path__)
    assert spec is not None
    assert usual is not None
    assert (spec.origin, spec.cached, spec.parent) == (usual.origin, usual.cached, usual.parent)
    assert value.__file__ == usual.origin
    package, usual = isthmus.model.__spec__, PathFinder.find_spec("isthmus.model", isthmus.__path__)
    assert package is not None
    assert usual is not None
    assert package.submodule_search_locations == usual.submodule_search_locations


def test_a_module_is_loaded_again_and_its_source_is_found() -> None:
    module = importlib.import_module("isthmus.planner.marks")
    before = module.mark
    assert importlib.reload(module).mark is not before
    assert module.__spec__ is not None
    loader = module.__spec__.loader
    assert isinstance(loader, importlib.machinery.SourceFileLoader)
    assert loader.get_code("isthmus.planner.marks") is not None
    assert "def mark" in (loader.get_source("isthmus.planner.marks") or "")


def test_what_is_not_there_is_not_found() -> None:
    assert importlib.util.find_spec("isthmus.model.nothing") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("isthmus.nowhere.nothing")
