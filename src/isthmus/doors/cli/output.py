"""What people and programs read: tables, JSON, colour, progress. Colour and progress on a terminal only."""

from __future__ import annotations

import os
import sys

from isthmus.doors.cli.errors import unsaid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, TextIO

__all__ = ["has_colour", "note", "paint", "print_json", "print_lines", "progress", "put", "table"]

_COLOURS: Final = {"+": "32", "-": "31", "~": "33", "bold": "1", "dim": "2"}
_PROGRESS_MIN: Final = 50  # steps; a shorter change is over before it could be read


def has_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal that may be coloured (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """Return the text in a colour (a sign of a step, bold or dim), if stdout has colours."""
    return f"\033[{_COLOURS[colour]}m{text}\033[0m" if has_colour(sys.stdout) else text


def print_lines(lines: Sequence[str]) -> None:
    """Write lines to stdout."""
    if lines:
        put("\n".join(lines) + "\n")


def put(text: str) -> None:
    """Write text to stdout.

    Raises:
        BrokenPipeError: nobody reads any more.
        IsthmusError: it cannot be written.
    """
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unsaid(error) from error


def note(text: str) -> None:
    """Write what the operator should know besides to stderr."""
    sys.stderr.write(f"note: {text}\n")


def print_json(value: object) -> None:
    """Write a value to stdout as JSON, keys in their documented order."""
    import json

    put(json.dumps(value, indent=2) + "\n")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of columns, two spaces apart; the empty cell is a hyphen."""
    cells = [list(titles), *([one or "-" for one in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(titles))]
    lines = ["  ".join(f"{one:{width}}" for one, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [paint(lines[0], "bold"), *lines[1:]]


def progress() -> Callable[[int, int], None] | None:
    """Return what draws (done, total) on stderr, or None where nobody would see it."""
    if not sys.stderr.isatty():
        return None
    shown = -1

    def draw(done: int, total: int) -> None:
        nonlocal shown
        percent = done * 100 // total if total else 100
        if total < _PROGRESS_MIN or percent == shown:
            return
        shown = percent
        bar = "#" * (percent // 4)
        end = "\r\033[K" if done >= total else ""
        sys.stderr.write(f"\r[{bar:25}] {done}/{total}{end}")
        sys.stderr.flush()

    return draw
