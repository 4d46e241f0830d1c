"""Any change as the commands that it amounts to, and the commands that undo it."""

from __future__ import annotations

from isthmus.kernel.ruleset import ruleset_text
from isthmus.model.plan import Report
from isthmus.planner.script import script

__all__ = ["commands"]


def commands(report: Report) -> tuple[str, str]:
    """Return the script of a report's plan, and the script that undoes it."""
    paths, ruleset = dict(report.paths), ruleset_text()
    return script(report.plan, paths, ruleset), script(report.plan.undo(), paths, ruleset)
