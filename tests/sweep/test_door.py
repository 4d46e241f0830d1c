"""What the command line says of system calls that fail: on its netlink sockets, and in programs that it starts."""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path

import pytest
from tests.live.driving import wait_for
from tests.sweep.faulty import CHANGE, FAIL, INTERRUPT, KILL, READ, faulty

import isthmus
from isthmus.testing import Lab, snapshot

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
    done = faulty(lab, faults, f"{FAIL} {kind} 0 {error}:isthmus.doors.cli", call, *verb)
    first, *more = done.stderr.splitlines()
    assert (done.returncode, first.startswith("error: cannot "), said in first) == (status, True, True), done.stderr
    assert all(line.startswith("hint: ") for line in more), done.stderr
    assert snapshot(lab.host) == before
    lab.host.isthmus(*verb)
    if verb[0] == "run":
        wait_for(lambda: snapshot(lab.host) == before, "the run is cleared")


@pytest.mark.parametrize(
    ("verb", "fault", "call", "status", "said"),
    [
        (
            CREATE,
            f"{KILL} {CHANGE} 0 0:nft -f -",
            "send",
            1,
            "cannot load table inet isthmus: /usr/sbin/nft was ended by",
        ),
        (CREATE, f"{FAIL} {CHANGE} 0 0:nft -f -", "sendmsg", 1, "No buffer space available"),
        (
            ("run", "true"),
            f"{KILL} {CHANGE} 0 0:supervisor.py",
            "fork",
            125,
            "its process ended before the program ran",
        ),
        (("run", "true"), f"{FAIL} {CHANGE} 0 0:supervisor.py", "fork", 125, "its supervisor ended: EAGAIN (Resource"),
        (
            ("run", "-d", "true"),
            f"{FAIL} {CHANGE} 0 0:supervisor.py",
            "openat log",
            125,
            "its supervisor ended: ENOSPC (",
        ),
        (("run", "true"), f"{FAIL} {CHANGE} 0 0:supervisor.py", "open /dev/null", 125, "supervisor of web was killed"),
    ],
)
def test_a_fault_in_a_program_beside_is_told(
    lab: Lab, faults: Path, verb: tuple[str, ...], fault: str, call: str, status: int, said: str
) -> None:
    before = snapshot(lab.host)
    verb = (verb[0], "--name", "web", *verb[1:]) if verb[0] == "run" else verb
    done = faulty(lab, faults, fault, call, *verb)
    assert (done.returncode, said in done.stderr, done.stdout) == (status, True, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(lab.host) == before
    lab.host.isthmus(*verb)
    if verb[0] == "run":
        wait_for(lambda: snapshot(lab.host) == before, "the run is cleared")


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        (CREATE, "posix_spawn /usr/sbin/nft"),  # there is a child that nobody knows the pid of yet
        (CREATE, "pwrite64"),
        (("ns", "create", "b"), "unshare"),
        (("ns", "create", "b"), "mount /run/netns/b"),
        (("attach", "br0", "a", "-p", "8080:80"), "send "),
    ],
)
def test_ctrl_c_between_a_system_call_and_what_follows_leaves_nothing(
    lab: Lab, faults: Path, verb: tuple[str, ...], call: str
) -> None:
    if verb != CREATE:
        lab.host.isthmus(*CREATE)
        lab.host.isthmus("ns", "create", "a")
    before = snapshot(lab.host)
    done = faulty(lab, faults, f"{INTERRUPT} {CHANGE} 0 0:isthmus.doors.cli", call, *verb)
    assert (done.returncode, done.stderr, done.stdout) == (130, "error: interrupted\n", "")
    repaired = lab.host.isthmus("repair")  # waits for the lock, which an nft of ours would hold to its end
    assert (repaired.stdout, repaired.stderr) == ("nothing to change\n", "")
    assert snapshot(lab.host) == before


@pytest.mark.parametrize(
    ("folder", "number", "verb"),
    [(Path(isthmus.__file__).parent, 40, CREATE), (sys.prefix, 20, ("up", "isthmus.yaml"))],
    ids=["ours", "what reads a file"],
)
def test_ctrl_c_while_the_command_loads_ends_it_without_a_word(
    lab: Lab, faults: Path, folder: object, number: int, verb: tuple[str, ...]
) -> None:
    before = snapshot(lab.host)
    done = faulty(lab, faults, f"{INTERRUPT} {READ} {number} 0:isthmus.doors.cli", f"open {folder}", *verb)
    assert (done.returncode, done.stderr, done.stdout) == (-signal.SIGINT, "", "")
    assert snapshot(lab.host) == before
