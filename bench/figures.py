"""What is measured, as values: percentiles, ratios, and the lines of the table."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

__all__ = ["Figure", "Sheet", "elapsed", "p50", "p99"]

_TABLE_HEAD: Final = ("what", "measured", "at most", "ok?")


def p50(samples: Sequence[float]) -> float:
    """Return the median."""
    return _quantile(samples, 0.50)


def p99(samples: Sequence[float]) -> float:
    """Return the 99th percentile; of fewer than a hundred samples the greatest."""
    return _quantile(samples, 0.99)


def _quantile(samples: Sequence[float], share: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)))] if ordered else math.nan


def elapsed(action: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Figure:
    """One line of the table; `measured` None: it could not be, and `detail` says why."""

    what: str
    measured: float | None
    limit: float
    detail: str
    at_least: bool = False
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Say whether the limit is kept."""
        if self.measured is None:
            return "-"
        kept = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "ok" if kept else "MISSED"

    def columns(self) -> tuple[str, str, str, str]:
        """Return its line of the table."""
        digits = 3 if self.limit < 0.5 else 2
        measured = "not measured" if self.measured is None else f"{self.measured:.{digits}f}{self.unit}"
        limit = f"{'at least ' if self.at_least else ''}{self.limit:g}{self.unit}"
        return self.what, f"{measured}  ({self.detail})", limit, self.verdict


class Sheet:
    """Where a group of rows writes its figures to."""

    def __init__(self, output: int, *, quick: bool) -> None:
        self._output = output
        self.quick = quick

    def many(self, full: int, quick: int) -> int:
        """Return how many samples to take."""
        return quick if self.quick else full

    def write(
        self, what: str, measured: float | None, limit: float, detail: str, *, at_least: bool = False, unit: str = ""
    ) -> None:
        """Report a figure."""
        figure = Figure(what=what, measured=measured, limit=limit, detail=detail, at_least=at_least, unit=unit)
        os.write(self._output, json.dumps(asdict(figure)).encode() + b"\n")


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table, aligned for a terminal too."""
    lines = [_TABLE_HEAD, *(figure.columns() for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)
