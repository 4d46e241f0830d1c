"""What all tests share: markers by folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# Folders whose tests change a kernel's state, in namespaces of their own.
CHANGING = ("live", "system", "sweep")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of a folder by its name, and skip those that need root without it."""
    for item in items:
        folder = item.path.relative_to(ROOT).parts[0]
        if folder in CHANGING:
            item.add_marker(folder)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root"))
