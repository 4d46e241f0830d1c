"""`repair --rebuild` killed or interrupted wherever it writes to the state file takes nothing away."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.live.test_rebuild import DECLARED, listing

from isthmus.testing import Lab, snapshot

KILL, INTERRUPT = 3, 5
# The calls that write to the state file and beside it, and how many of them are one point. (A profile function as the
# seam had the child end by SIGSEGV under load: CPython 3.11.2, kernel 6.18.)
STEPS = {"fdatasync": 1, "unlink ": 1, "open /": 1, "mkdir ": 1, "rename ": 1, "rmdir ": 1, "pwrite64": 7}


def steps(lab: Lab, faults: Path, how: int) -> Iterator[subprocess.CompletedProcess[str] | None]:
    """Before each point yield None, and after it the command that was stopped there (faults.c)."""
    log = lab.host.path / "faults"
    # Whoever runs the tests in the background may have SIGINT ignored, and that is inherited.
    command = ("env", "--default-signal=INT", sys.executable, "-m", "isthmus.doors.cli", "repair", "--rebuild")
    for call, stride in STEPS.items():
        for number in itertools.count(0, stride):
            yield None
            fault = f"{how} 0 {number} 0 {log} isthmus.doors.cli"
            environment = {"LD_PRELOAD": str(faults), "ISTHMUS_FAULT": fault, "ISTHMUS_FAULT_CALL": call}
            environment["PYTHONFAULTHANDLER"] = "1"
            done = lab.host.run(*command, env=environment, check=False)
            if not log.exists():
                assert done.returncode == 0, done.stderr
                break
            log.unlink()
            yield done


@pytest.mark.parametrize("how", [KILL, INTERRUPT], ids=["kill", "interrupt"])
@pytest.mark.parametrize("lost", [False, True], ids=["sound", "lost"])
def test_a_rebuild_that_is_stopped_takes_nothing_away(
    lab: Lab, faults: Path, tmp_path: Path, how: int, lost: bool
) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(DECLARED)
    lab.host.isthmus("up", str(file))
    before, stands = listing(lab), snapshot(lab.host)
    state = lab.host.path / "state" / "state.db"
    points = 0
    for done in steps(lab, faults, how):
        if done is None:
            if lost:
                state.write_bytes(b"not a database at all" * 300)
            continue
        points += 1
        assert done.returncode == (-9 if how == KILL else 130), (done.args, done.stderr)
        if not lost:
            assert lab.host.isthmus("repair").stdout == "nothing to change\n"
            assert listing(lab) == before
        assert snapshot(lab.host) == stands
    assert points >= 40
    assert (listing(lab), snapshot(lab.host)) == (before, stands)
