"""What the sweep shares: labs, and the library that makes system calls fail."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.testing import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Give a host and a LAN of this test alone, and fail it when something of them is left."""
    with Lab(tmp_path) as lab:
        yield lab


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the preload library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is needed")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run((compiler, "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"), check=True)
    return library
