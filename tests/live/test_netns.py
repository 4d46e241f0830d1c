"""Namespaces held to iproute2: what it makes and what we make are told apart by nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from tests.live.sandbox import lay_over_etc, sandboxed

from isthmus.errors import InvalidInput, NotFound, Refused
from isthmus.kernel import netns, netns_locate, processes

pytestmark = pytest.mark.live
EXEC = "import sys; from isthmus.kernel.netns_exec import execute; execute(sys.argv[1], sys.argv[2:])"


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def execute(name: str, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.dirname(netns.__file__)))}
    command = [sys.executable, "-c", EXEC, name, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def mountinfo(path: str) -> list[str]:
    """The fields of a mount that do not name it: root, options, propagation, type."""
    with open("/proc/self/mountinfo") as file:
        fields = next(line.split() for line in file if line.split()[4] == path)
    return [fields[5], fields[6].partition(":")[0], *fields[8:]]


def identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def sleeper(name: str) -> subprocess.Popen[bytes]:
    """A process in a namespace, which is there when this returns."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", name, "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()
    return process


@sandboxed
def test_ip_sees_ours_and_we_see_those_of_ip() -> None:
    netns.make("ours")
    ip("netns", "add", "theirs")

    assert {line.split()[0] for line in ip("netns", "list").splitlines()} == {"ours", "theirs"}
    assert netns.named() == {"ours": "/run/netns/ours", "theirs": "/run/netns/theirs"}
    assert "LOOPBACK,UP" in ip("netns", "exec", "ours", "ip", "link", "show", "lo")
    ip("netns", "del", "ours")
    netns.remove("theirs")
    assert ip("netns", "list") == ""
    assert os.listdir("/run/netns") == []


@pytest.mark.parametrize("first", ["ours", "theirs"])
@sandboxed
def test_modes_and_mounts_equal_those_of_ip(first: str) -> None:
    makers: dict[str, Callable[[], object]] = {
        "ours": lambda: netns.make("ours"),
        "theirs": lambda: ip("netns", "add", "theirs"),
    }
    makers.pop(first)()
    run = (os.stat("/run/netns").st_mode, mountinfo("/run/netns"))
    makers.popitem()[1]()

    assert run == (0o40755, ["rw,relatime", "shared", "tmpfs", "run", "rw,mode=755"])
    assert os.stat("/run/netns/ours").st_mode == os.stat("/run/netns/theirs").st_mode
    assert mountinfo("/run/netns/ours") == mountinfo("/run/netns/theirs")
    with open("/proc/self/mountinfo") as file:
        assert sum(line.split()[4] == "/run/netns" for line in file) == 1


@sandboxed
def test_modes_of_placeholder_files_equal_those_of_ip() -> None:
    netns.make("ours")
    ip("netns", "add", "theirs")

    for name in ("ours", "theirs"):
        subprocess.run(["umount", f"/run/netns/{name}"], check=True)

    assert oct(os.stat("/run/netns/ours").st_mode) == oct(os.stat("/run/netns/theirs").st_mode) == "0o100000"
    assert netns.named() == {}


@sandboxed
def test_make_refuses_a_name_in_use_and_leaves_it() -> None:
    cookie = netns.make("a")

    with pytest.raises(Refused, match="/run/netns/a exists"):
        netns.make("a")

    assert netns_locate.locate("a").cookie == cookie


@sandboxed
def test_make_takes_over_what_a_killed_make_left() -> None:
    netns.make("a")
    subprocess.run(["umount", "/run/netns/a"], check=True)

    netns.make("a")

    assert netns.named() == {"a": "/run/netns/a"}


@sandboxed
def test_make_leaves_nothing_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise OSError(28, "No space left on device")

    before = identity("/proc/thread-self/ns/net")
    monkeypatch.setattr(netns, "_raise_lo", fail)

    with pytest.raises(Exception, match="cannot make network namespace a: ENOSPC"):
        netns.make("a")

    assert os.listdir("/run/netns") == []
    assert identity("/proc/thread-self/ns/net") == before


@sandboxed
def test_remove_of_a_missing_name_succeeds() -> None:
    netns.remove("a")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a\nb", "a\0b", "ä" * 128])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        netns.check_name(name)


@sandboxed
def test_inside_nests_and_comes_back() -> None:
    own = netns.own_cookie()
    a, b = netns.make("a"), netns.make("b")
    fds = [netns.open_netns(f"/run/netns/{name}") for name in "ab"]

    seen = []
    with netns.Inside(fds[0]):
        seen.append(netns.own_cookie())
        with netns.Inside(fds[1]):
            seen.append(netns.own_cookie())
        seen.append(netns.own_cookie())

    assert [*seen, netns.own_cookie()] == [a, b, a, own]
    assert len({a, b, own}) == 3


@sandboxed
def test_threads_move_alone_and_leave_no_descriptor() -> None:
    netns.make("a")
    fd = netns.open_netns("/run/netns/a")
    own = netns.own_cookie()
    seen: list[int] = []

    def body() -> None:
        with netns.Inside(fd):
            seen.append(netns.own_cookie())

    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with netns.Inside(fd):
            pass
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()

    assert seen == [netns.cookie(fd)] * 3
    assert netns.own_cookie() == own
    assert os.listdir("/proc/self/fd") == before


@sandboxed
def test_sysctl_written_inside_stays_inside() -> None:
    netns.make("a")
    fd = netns.open_netns("/run/netns/a")
    with netns.Inside(fd), open("/proc/sys/net/ipv4/conf/all/forwarding", "w") as file:
        file.write("1")

    with open("/proc/sys/net/ipv4/conf/all/forwarding") as file:
        assert file.read() == "0\n"
    assert ip("netns", "exec", "a", "cat", "/proc/sys/net/ipv4/conf/all/forwarding") == "1\n"


@sandboxed
def test_exec_shows_the_links_of_the_namespace_in_sys() -> None:
    netns.make("a")
    ip("-n", "a", "link", "add", "v0", "type", "veth", "peer", "name", "v1")

    ours = execute("a", "sh", "-c", "ls /sys/class/net; grep ' /sys ' /proc/self/mountinfo | cut -d' ' -f 4-6,8-")

    theirs = ip(
        "netns", "exec", "a", "sh", "-c", "ls /sys/class/net; grep ' /sys ' /proc/self/mountinfo | cut -d' ' -f 4-6,8-"
    )
    assert ours.stdout == theirs
    assert ours.stdout.split()[:3] == ["lo", "v0", "v1"]
    assert "lo" not in os.listdir("/sys/class/net") or "v0" not in os.listdir("/sys/class/net")


@sandboxed
def test_exec_binds_the_files_of_etc_netns_and_warns_of_a_missing_target() -> None:
    lay_over_etc()
    netns.make("a")
    os.makedirs("/etc/netns/a")
    os.symlink("/run/real", "/etc/linked")
    for path in ("/run/real", "/etc/netns/a/hosts", "/etc/netns/a/linked", "/etc/netns/a/missing"):
        with open(path, "w") as file:
            file.write(f"{path}\n")

    argv = ("cat", "/etc/hosts", "/etc/linked", "/run/real")
    ours = execute("a", *argv)

    theirs = subprocess.run(["ip", "netns", "exec", "a", *argv], capture_output=True, text=True, check=True)
    assert ours.stdout == "/etc/netns/a/hosts\n/etc/netns/a/linked\n/etc/netns/a/linked\n"
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)
    assert ours.stderr == "Bind /etc/netns/a/missing -> /etc/missing failed: No such file or directory\n"


@sandboxed
def test_exec_passes_exit_status_and_says_what_cannot_run() -> None:
    netns.make("a")

    assert execute("a", "sh", "-c", "exit 7").returncode == 7
    missing, refused = execute("a", "no-such-program"), execute("a", "/etc/passwd")
    assert (missing.returncode, missing.stderr) == (
        127,
        "error: cannot execute no-such-program: No such file or directory\n",
    )
    assert (refused.returncode, refused.stderr) == (126, "error: cannot execute /etc/passwd: Permission denied\n")


@sandboxed
def test_exec_gives_back_the_signals_that_python_ignores() -> None:
    netns.make("a")

    ignored = execute("a", "grep", "SigIgn", "/proc/self/status").stdout.split()[1]

    # Of the others, those are ignored that were when the tests began (in the background: SIGINT and more).
    python_ignores = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert int(ignored, 16) & python_ignores == 0


@sandboxed
def test_the_hosts_own_namespace_is_refused_by_any_way() -> None:
    netns.make("a")
    os.symlink("/proc/self/ns/net", "/run/link")
    ip("netns", "attach", "host", str(os.getpid()))

    for target in (str(os.getpid()), "/proc/self/ns/net", "/run/link", "/run/netns/host", "host"):
        with pytest.raises(Refused, match=f"{target} is the host's own namespace"):
            netns_locate.locate(target)


@sandboxed
def test_a_namespace_is_known_by_its_name_however_it_is_called() -> None:
    cookie = netns.make("a")
    process = sleeper("a")
    os.symlink("/run/netns/a", "/run/link")

    found = {netns_locate.locate(t) for t in ("a", "/run/netns/a", "/run/link", str(process.pid), "/run/netns//a")}

    assert found == {netns_locate.Located(id="a", path="/run/netns/a", cookie=cookie)}


@sandboxed
def test_a_namespace_without_name_is_known_by_its_cookie() -> None:
    cookie = netns.make("a")
    process = sleeper("a")
    netns.remove("a")
    path = f"/proc/{process.pid}/ns/net"

    expected = netns_locate.Located(id=f"netns-{cookie}", path=path, cookie=cookie)
    assert netns_locate.locate(str(process.pid)) == netns_locate.locate(path) == expected


@sandboxed
def test_a_cookie_is_found_after_rename_by_process_and_not_after_the_end() -> None:
    cookie = netns.make("a")
    assert netns_locate.find(cookie, "/run/netns/a") == "/run/netns/a"
    process = sleeper("a")
    ip("netns", "attach", "b", str(process.pid))
    netns.remove("a")
    netns.make("a")

    assert netns_locate.find(cookie, "/run/netns/a") == "/run/netns/b"
    netns.remove("b")
    assert netns_locate.find(cookie, "/run/netns/a") == f"/proc/{process.pid}/ns/net"
    process.kill()
    process.wait()
    assert netns_locate.find(cookie, "/run/netns/a") is None
    assert not netns_locate.cookie_alive(cookie)


@sandboxed
def test_what_is_no_namespace_is_told_apart_from_what_is_missing() -> None:
    os.mkfifo("/run/fifo")
    os.makedirs("/run/netns")
    with open("/run/netns/stale", "w"):
        pass

    for target in ("/run/fifo", "stale", "/proc/self/ns/mnt", "/run"):
        with pytest.raises(InvalidInput, match="not a network namespace"):
            netns_locate.locate(target)
    for target in ("gone", "/run/netns/gone", "4000000", "0"):
        with pytest.raises(NotFound):
            netns_locate.locate(target)


@sandboxed
def test_processes_of_a_namespace_are_listed_and_ended() -> None:
    netns.make("a")
    polite = sleeper("a")
    deaf = subprocess.Popen(
        ["ip", "netns", "exec", "a", "sh", "-c", "trap '' TERM; echo; exec sleep 600"], stdout=subprocess.PIPE
    )
    assert deaf.stdout
    deaf.stdout.readline()
    found = processes.processes("/run/netns/a")

    assert [pid for pid, _ in found] == sorted([polite.pid, deaf.pid])
    assert {name for _, name in found} <= {"sh", "sleep"}  # `exec` may be on its way
    assert processes.end([pid for pid, _ in found] + [4000000], 0.1) == []
    assert (polite.wait(), deaf.wait()) == (-15, -9)
    assert processes.processes("/run/netns/a") == []


@sandboxed
def test_a_process_that_passes_through_a_namespace_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own calls do so, to open a socket there."""
    netns.make("a")
    source = """
import os
from isthmus.kernel.netns import Inside, open_netns
with Inside(open_netns("/run/netns/a")):
    print("inside", flush=True)
    input()
print("home", flush=True)
input()
"""
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as passing:
        assert passing.stdin
        assert passing.stdout
        assert passing.stdout.readline() == b"inside\n"
        assert [pid for pid, _ in processes.processes("/run/netns/a")] == [passing.pid]

        def pass_on(_seconds: float) -> None:
            assert passing.stdin
            assert passing.stdout
            passing.stdin.write(b"\n")
            passing.stdin.flush()
            assert passing.stdout.readline() == b"home\n"

        monkeypatch.setattr("isthmus.kernel.processes.time.sleep", pass_on)
        assert processes.processes("/run/netns/a") == []
        passing.communicate(b"\n")
