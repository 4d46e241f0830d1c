"""Time and memory of the engine, as ratios in one run: beside the bare messages of the kernel and other programs.

    make bench
    .venv/bin/python bench/run.py --quick              few samples: whether it works, not how fast
    .venv/bin/python bench/run.py --only attach        one group of rows

Each group runs in namespaces of its own (place.py). ISTHMUS_BENCH_STATE names a directory on a disk for the
state files; they are on a tmpfs otherwise.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.attach import growth, in_process
from bench.bulk import bulk
from bench.figures import Figure, Sheet, table
from bench.flows import flows
from bench.nic import moving
from bench.place import STATE, launch, move_in
from bench.programs import peers, whole_processes
from bench.running import running
from bench.traffic import connections, throughput

SOURCE: Final = Path(__file__).resolve().parents[1] / "src/isthmus"
GROUPS: Final[dict[str, Callable[[Sheet], None]]] = {
    "attach": in_process,
    "peers": peers,
    "processes": whole_processes,
    "run": running,
    "growth": growth,
    "bulk": bulk,
    "connections": connections,
    "throughput": throughput,
    "flows": flows,
    "nic": moving,
}


def machine() -> str:
    """Return kernel, size and versions, one line each."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "?"
    )
    nft = subprocess.run(["nft", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    state = os.environ.get(STATE) or "a tmpfs"
    size = f"{os.cpu_count()} CPUs ({model}), {memory_gib:.0f} GiB"
    return (
        f"kernel {platform.release()}, {size}, load {os.getloadavg()[0]:.1f}\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {nft}; state files on {state}"
    )


def collect(group: str, *, quick: bool) -> list[Figure]:
    """Run a group in namespaces of its own and return its figures."""
    reader, writer = os.pipe()
    status = launch(group, quick=quick, output=writer)
    os.close(writer)
    with open(reader) as lines:
        figures = [Figure(**json.loads(line)) for line in lines]
    if status:
        figures.append(Figure(what=f"group {group}", measured=None, limit=0, detail=f"it ended with {status}"))
    return figures


def main() -> int:
    """Run the groups and print the table; the status is 1 when one of them broke."""
    parser = argparse.ArgumentParser(description="Measure isthmus, as ratios in one run.")
    parser.add_argument("--quick", action="store_true", help="few samples: whether it works, not how fast")
    parser.add_argument("--only", choices=sorted(GROUPS), metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--group", choices=sorted(GROUPS), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.group:
        move_in()
        GROUPS[given.group](Sheet(given.output, quick=given.quick))
        return 0
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root, to make namespaces of its own: sudo make bench")
    compileall.compile_dir(SOURCE, quiet=1)  # as pip does; where PYTHONDONTWRITEBYTECODE is set nobody else would
    print(machine(), end="\n\n", flush=True)
    figures: list[Figure] = []
    for group in [given.only] if given.only else GROUPS:
        print(f"measuring {group} ...", file=sys.stderr, flush=True)
        figures += collect(group, quick=given.quick)
    print(table(figures))
    return 1 if any(figure.what.startswith("group ") for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
