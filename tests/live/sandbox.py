"""Run a test's body in a process with network, mount and pid namespaces of its own.

Nothing of the machine is touched: /run is an empty tmpfs, mounts are private, and whatever the body leaves
running ends with it (the body's process is init of its pid namespace).
"""

from __future__ import annotations

import functools
import os
import signal
import traceback
from collections.abc import Callable
from typing import ParamSpec

import pytest

from isthmus.kernel import libc, netns

P = ParamSpec("P")
TIMEOUT_S = 30
PR_SET_PDEATHSIG = 1
CLONE_NEWPID = 0x20000000
MS_PRIVATE = 0x40000
PASSED, FAILED, SKIPPED = 0, 1, 2


def sandboxed(body: Callable[P, None]) -> Callable[P, None]:
    """Make a test run its body in a sandbox; a failure there is the test's, with its traceback."""

    @functools.wraps(body)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _run(lambda: body(*args, **kwargs), writer)
        os.close(writer)
        with open(reader, errors="replace") as report:
            text = report.read()
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == SKIPPED:
            pytest.skip(text)
        if code != PASSED:
            pytest.fail(text or f"the sandbox ended with {code}", pytrace=False)

    return test


def _run(body: Callable[[], None], report: int) -> None:
    """Enter the namespaces, run the body as pid 1 of them, and report."""
    code, text = FAILED, ""
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.alarm(TIMEOUT_S)
        libc.unshare(libc.CLONE_NEWNET | libc.CLONE_NEWNS | CLONE_NEWPID)
        init = os.fork()
        if init:
            _, status = os.waitpid(init, 0)
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.mount("", "/", "none", MS_PRIVATE | libc.MS_REC)
        libc.mount("proc", "/proc", "proc", 0)
        libc.mount("run", "/run", "tmpfs", 0, "mode=755")
        netns.forget_own()
        body()
        code = PASSED
    except pytest.skip.Exception as skipped:
        code, text = SKIPPED, str(skipped)
    except BaseException:  # noqa: BLE001 - the parent raises it
        text = traceback.format_exc()
    os.write(report, text.encode(errors="replace"))
    os._exit(code)


def lay_over_etc() -> None:
    """Let the body write to /etc without the machine seeing it; skips where the kernel has no overlayfs."""
    for folder in ("/run/.etc", "/run/.etc/upper", "/run/.etc/work"):
        os.mkdir(folder)
    try:
        libc.mount("etc", "/etc", "overlay", 0, "lowerdir=/etc,upperdir=/run/.etc/upper,workdir=/run/.etc/work")
    except OSError as error:
        pytest.skip(f"overlayfs: {error}")
