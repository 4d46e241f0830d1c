"""The command line with a fault in it, or in a program that it starts (faults.c)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from isthmus.testing import Lab

__all__ = ["CHANGE", "FAIL", "INTERRUPT", "KILL", "READ", "attempt", "faulty"]

FAIL, KILL, INTERRUPT = 2, 3, 5
CHANGE, READ = 0, 1


def attempt(lab: Lab, faults: Path, fault: str, call: str, *argv: str) -> tuple[subprocess.CompletedProcess[str], bool]:
    """Run the command line with a fault; return how it ended, and whether it came to the call that was to have it.

    `fault` is MODE CLASS N ERRNO, and after a colon the program that it is in.
    """
    how, _, program = fault.partition(":")
    log = lab.host.path / "faults"
    log.unlink(missing_ok=True)
    environment = {"LD_PRELOAD": str(faults), "ISTHMUS_FAULT": f"{how} {log} {program}", "ISTHMUS_FAULT_CALL": call}
    # Whoever runs the tests in the background may have SIGINT ignored, and that is inherited.
    command = ("env", "--default-signal=INT", sys.executable, "-X", "faulthandler", "-m", "isthmus.doors.cli", *argv)
    done = lab.host.run(*command, env=environment, check=False)
    return done, log.exists()


def faulty(lab: Lab, faults: Path, fault: str, call: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with a fault, which it comes to."""
    done, reached = attempt(lab, faults, fault, call, *argv)
    assert reached, done.stderr
    return done
