"""What the command line says of a netlink socket that the kernel refuses, or that fails while it is used."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from isthmus.testing import Lab, snapshot

FAIL = 2
CHANGE, READ = 0, 1
CREATE = ("network", "create", "br0", "--subnet", "10.7.0.0/24")
# The family and protocol of a netlink socket: linux/netlink.h.
ROUTE, NETFILTER = "socket 16 0", "socket 16 12"


@pytest.mark.parametrize(
    ("call", "kind", "error", "status", "said"),
    [
        (ROUTE, READ, errno.EMFILE, 1, "cannot open a socket of rtnetlink: EMFILE (kernel: Too many open files)"),
        (ROUTE, READ, errno.EPERM, 5, "cannot open a socket of rtnetlink: EPERM (kernel: Operation not permitted)"),
        (NETFILTER, READ, errno.EACCES, 5, "cannot open a socket of nfnetlink: EACCES (kernel: Permission denied)"),
        (NETFILTER, READ, errno.EPROTONOSUPPORT, 6, "cannot open a socket of nfnetlink: EPROTONOSUPPORT (kernel: "),
        (ROUTE, READ, errno.EAFNOSUPPORT, 6, "cannot open a socket of rtnetlink: EAFNOSUPPORT (kernel: "),
        ("setsockopt", READ, errno.ENOPROTOOPT, 6, ": ENOPROTOOPT (kernel: "),
        ("send ", CHANGE, errno.ENOBUFS, 1, ": ENOBUFS (kernel: No buffer space available)"),
        ("recv", READ, errno.ENOBUFS, 1, "cannot read what the kernel says to: "),
    ],
)
@pytest.mark.parametrize("verb", [CREATE, ("attach", "br0", "a")], ids=["network create", "attach"])
def test_a_refusal_of_a_netlink_socket_is_told_in_the_words_of_the_kernel(
    lab: Lab,
    tmp_path: Path,
    faults: Path,
    verb: tuple[str, ...],
    call: str,
    kind: int,
    error: int,
    status: int,
    said: str,
) -> None:
    if verb != CREATE:
        lab.host.isthmus(*CREATE)
        lab.host.isthmus("ns", "create", "a")
    before = snapshot(lab.host)
    log = tmp_path / "log"
    fault = f"{FAIL} {kind} 0 {error} {log} isthmus.doors.cli"
    environment = {"LD_PRELOAD": str(faults), "ISTHMUS_FAULT": fault, "ISTHMUS_FAULT_CALL": call}
    done = lab.host.run(sys.executable, "-m", "isthmus.doors.cli", *verb, env=environment, check=False)
    assert log.exists(), done.stderr
    first, *more = done.stderr.splitlines()
    assert (done.returncode, first.startswith("error: cannot "), said in first) == (status, True, True), done.stderr
    assert all(line.startswith("hint: ") for line in more), done.stderr
    assert snapshot(lab.host) == before
    lab.host.isthmus(*verb)
