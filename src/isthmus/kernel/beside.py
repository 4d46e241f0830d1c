"""Programs of ours that run beside a call and outlive it, in a bare interpreter: reaper, guard, a run's clearing."""

from __future__ import annotations

import os
import sys

__all__ = ["argv_of", "source_of"]


def source_of(module: str, function: str, *arguments: object, last: str = "") -> str:
    """Return Python source that calls a function of a module of ours; `last` names one more argument."""
    path = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    words = ", ".join([*map(repr, arguments), *([last] if last else [])])
    return f"import sys; sys.path.insert(0, {path!r})\nfrom {module} import {function}\n{function}({words})\n"


def argv_of(source: str) -> tuple[str, ...]:
    """Return the command line of a bare interpreter that runs a source."""
    return (sys.executable, "-I", "-S", "-c", source)
