"""Any change as the commands that it amounts to, and the commands that undo it."""

from __future__ import annotations

from isthmus.kernel.ruleset import ruleset_text
from isthmus.model.plan import Report
from isthmus.model.ruleset import FAMILIES
from isthmus.planner.script import script

__all__ = ["commands"]


def commands(report: Report) -> tuple[str, str]:
    """Return the script of a report's plan, and the script that undoes it."""
    paths, rulesets = dict(report.paths), {family: ruleset_text(family) for family in FAMILIES}
    return script(report.plan, paths, rulesets), script(report.plan.undo(), paths, rulesets)
