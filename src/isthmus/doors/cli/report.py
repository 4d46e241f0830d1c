"""How a changing verb tells what it did."""

from __future__ import annotations

from isthmus.doors.cli.output import note, paint, print_json, print_lines
from isthmus.model.plan import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.doors.cli.parse import Given

__all__ = ["CHANGES", "UNDO", "say_before", "tell", "tell_json"]

UNDO = "# undo"
CHANGES = 2  # the exit status of a plan that has some


def say_before(effects: Sequence[str]) -> None:
    """Say what will be done to links, before it is done."""
    for one in effects:
        note(one)


def tell(report: Report, given: Given, *, more: Sequence[str] = (), totals: bool = False) -> None:
    """Print the steps, `more` lines about what was made, and with `totals` how many; notes go to stderr.

    Below a note of what was put right nothing says that there was nothing to change. With --show-commands stdout has
    the script, a line `# undo`, and the script that undoes it, alone.
    """
    for one in report.notes:
        note(one)
    if given.has("show-commands"):
        from isthmus.engine import commands

        script, undo = commands(report)
        print_lines([script.rstrip("\n"), UNDO, undo.rstrip("\n")])
        return
    from isthmus.doors.cli.steps import lines, summary

    shown = lines(report.plan, verbose=given.has("verbose"))
    print_lines([paint(str(line), line.sign) for line in shown])
    print_lines(more)
    if totals and (shown or not report.mended):
        print_lines([summary(shown)])


def tell_json(report: Report) -> None:
    """Print the steps as JSON (docs/json.md)."""
    from isthmus.doors.cli.steps import lines, step_json

    shown = lines(report.plan)
    print_json(
        {
            "added": sum(line.sign == "+" for line in shown),
            "changed": sum(line.sign == "~" for line in shown),
            "removed": sum(line.sign == "-" for line in shown),
            "steps": [step_json(step) for step in report.plan.steps],
            "notes": list(report.notes),
        }
    )
