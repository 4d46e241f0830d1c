"""Every system call of every verb failed, and the process killed or interrupted there: the host is wholly old or new.

What is swept is in verbs.py, how it is done in resident.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.sweep.verbs import BESIDE, VERBS

from isthmus.testing import Lab, snapshot

ROOT = Path(__file__).parents[2]


CASES = [(verb, mode) for mode in ("fail", "before", "after") for verb in VERBS | BESIDE]
CASES += [(verb, "interrupt") for verb in VERBS]


@pytest.mark.parametrize(("verb", "mode"), CASES)
def test_a_fault_leaves_the_old_or_the_new_state(lab: Lab, faults: Path, verb: str, mode: str) -> None:
    pristine = snapshot(lab.host)
    argv = (sys.executable, "-m", "tests.sweep.resident", verb, mode, "0", "1")
    path = f"{ROOT / 'src'}:{ROOT}"
    done = lab.host.run(*argv, cwd=ROOT, env={"LD_PRELOAD": str(faults), "PYTHONPATH": path}, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    print(f"{verb}, {mode}: {answer['points']} points, {answer['tolerated']}", *answer["said"], sep="\n")
    assert answer["failures"] == [], "\n".join([f"{len(answer['failures'])} points:", *answer["failures"]])
    assert answer["points"] >= max(1, (VERBS | BESIDE)[verb].floor // {"after": 5, "interrupt": 7}.get(mode, 1))
    assert snapshot(lab.host) == pristine
