"""Commands under their supervisors: started, ended with all they left, and found again after kills."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable

import pytest
from tests.live.sandbox import lay_over_etc, sandboxed

from isthmus.errors import InvalidInput, NotFound, Refused, Unavailable
from isthmus.kernel import guard, netns, process, processes

pytestmark = pytest.mark.live
COMMANDS = "/run/isthmus/commands"
# Forks, the child makes a session and forks again: the grandchild's parent is gone.
DAEMON = "setsid sh -c 'sleep 600 & exit 0' & wait"


def start(*argv: str, name: str = "a") -> int:
    return process.start(COMMANDS, name, "/run/netns/a", argv)


def await_end(pids: Iterable[int]) -> None:
    """Wait for processes to end."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert processes.wait([fd], 10.0) == [], f"pid {pid} lives"
        os.close(fd)


def await_programs(*wanted: str) -> list[int]:
    """Wait until just these programs run in the namespace; return their pids."""
    for _ in range(1000):
        found = processes.processes("/run/netns/a")
        if sorted(name for _, name in found) == sorted(wanted):
            return [pid for pid, _ in found]
        os.sched_yield()
        signal.sigtimedwait([], 0.01)
    raise AssertionError(f"in the namespace: {found}")


def log(name: str = "a") -> str:
    with open(process.log_path(COMMANDS, name)) as file:
        return file.read()


def supervisors() -> list[int]:
    return [pid for pid, name in processes.processes("/proc/self/ns/net") if name == "isthmus-command"]


@sandboxed
def test_a_command_runs_inside_as_by_ip_netns_exec() -> None:
    lay_over_etc()
    netns.make("a")
    os.makedirs("/etc/netns/a")
    with open("/etc/netns/a/hosts", "w") as file:
        file.write("hosts of a\n")
    os.environ["COLOUR"] = "blue"

    pid = start(
        "sh",
        "-c",
        "ls /sys/class/net; cat /etc/hosts; pwd; echo $ISTHMUS_COMMAND $COLOUR; ls /proc/self/fd; echo bad >&2",
    )
    await_end([pid])

    assert log().split("\n") == ["lo", "hosts of a", "/", "a blue", "0", "1", "2", "3", "bad", ""]  # 3: `ls` itself
    assert stat.S_IMODE(os.stat(process.log_path(COMMANDS, "a")).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(COMMANDS).st_mode) == 0o700


@sandboxed
def test_a_command_inherits_no_ignored_signal_and_no_descriptor() -> None:
    netns.make("a")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.set_inheritable(os.open("/dev/zero", os.O_RDONLY), True)

    pid = start("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    await_end([pid])
    words = log().split()
    assert (words[0], int(words[1], 16), words[2]) == ("SigBlk:", 0, "SigIgn:")
    # glibc's posix_spawn leaves its two internal signals, 32 and 33, ignored (2.36); nobody can set them back.
    assert int(words[3], 16) & ~0x180000000 == 0
    assert process.state(COMMANDS, "a") == process.Ended(status=0)

    pid = start("sh", "-c", "ls /proc/self/fd; exec sleep 600")
    await_programs("sleep")
    assert log().split() == ["0", "1", "2", "3"]  # 3: `ls` itself
    links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert links == {"/dev/null", "/run/isthmus/commands/a/log", "/run/isthmus/commands/a"}


@sandboxed
def test_a_supervisor_is_small_and_no_child_of_ours() -> None:
    netns.make("a")
    pid = start("sleep", "600")

    assert process.state(COMMANDS, "a") == process.Running(pid=pid, started=processes.started(pid) or 0)
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert int(fields["VmHWM"].split()[0]) < 10_000
    assert fields["Name"] == "isthmus-command"
    assert os.getsid(pid) == pid
    assert supervisors() == [pid]


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
@sandboxed
def test_the_exit_status_is_kept(script: str, status: int) -> None:
    netns.make("a")

    await_end([start("sh", "-c", script)])

    assert process.state(COMMANDS, "a") == process.Ended(status=status)
    assert sorted(os.listdir(f"{COMMANDS}/a")) == ["log", "status"]


@sandboxed
def test_an_ended_command_is_started_anew_with_an_empty_log() -> None:
    netns.make("a")
    await_end([start("sh", "-c", "echo one; exit 3")])

    await_end([start("echo", "two")])

    assert (log(), process.state(COMMANDS, "a")) == ("two\n", process.Ended(status=0))


@sandboxed
def test_a_running_command_is_not_started_twice() -> None:
    netns.make("a")
    pid = start("sleep", "600")

    with pytest.raises(Refused, match=f"cannot start command of a: it runs .pid {pid}."):
        start("sleep", "600")

    assert process.state(COMMANDS, "a") == process.Running(pid=pid, started=processes.started(pid) or 0)


@sandboxed
def test_what_cannot_be_started_leaves_nothing() -> None:
    netns.make("a")

    with pytest.raises(NotFound, match="cannot start command of a: no-such-program: ENOENT"):
        start("no-such-program")
    with pytest.raises(Refused, match="cannot start command of a: /etc/passwd: EACCES"):
        start("/etc/passwd")
    with pytest.raises(NotFound):
        process.start(COMMANDS, "a", "/run/netns/gone", ["true"])
    with pytest.raises(InvalidInput):
        start("a\0b")
    assert process.state(COMMANDS, "a") is None
    assert os.listdir(COMMANDS) == []
    await_end(supervisors())  # having removed its record, one may be a moment from its end


@sandboxed
def test_stop_ends_double_forked_descendants_of_other_sessions() -> None:
    netns.make("a")
    pid = start("sh", "-c", DAEMON)
    left = await_programs("sleep")

    assert isinstance(process.state(COMMANDS, "a"), process.Running)
    process.stop(COMMANDS, "a", 2.0)

    await_end([pid, *left])
    assert processes.processes("/run/netns/a") == []
    assert process.state(COMMANDS, "a") is None
    assert os.listdir(COMMANDS) == []


@sandboxed
def test_stop_kills_what_ignores_sigterm_and_what_forks_meanwhile() -> None:
    netns.make("a")
    start("sh", "-c", "trap 'setsid sleep 600 &' TERM; while :; do sleep 599; done")
    await_programs("sh", "sleep")

    before = time.monotonic()
    process.stop(COMMANDS, "a", 0.1)

    assert time.monotonic() - before < 4.0  # else the supervisor did not do it
    assert processes.processes("/run/netns/a") == []
    assert supervisors() == []


@sandboxed
def test_stop_lets_a_command_end_in_order() -> None:
    netns.make("a")
    inner = "trap 'echo bye >/run/said; exit' TERM; sleep 600 & wait"
    start("sh", "-c", 'sh -c "$0"; true', inner)
    await_programs("sh", "sh", "sleep")

    process.stop(COMMANDS, "a", 2.0)

    with open("/run/said") as file:
        assert file.read() == "bye\n"


@sandboxed
def test_a_command_that_signals_its_group_does_not_end_its_supervisor() -> None:
    netns.make("a")

    os.mkfifo("/run/ready")
    pid = start("sh", "-c", "setsid sh -c 'echo >/run/ready; exec sleep 600' & read _ </run/ready; kill -TERM 0")
    await_programs("sleep")

    supervisor = os.pidfd_open(pid)
    assert processes.wait([supervisor], 0.2) == [supervisor]
    assert len(await_programs("sleep")) == 1


@sandboxed
def test_stop_ends_what_a_killed_supervisor_left() -> None:
    netns.make("a")
    pid = start("sh", "-c", DAEMON + "; sleep 599")
    await_programs("sh", "sleep", "sleep")
    stranger = subprocess.Popen(["ip", "netns", "exec", "a", "sleep", "598"])
    other = start("sleep", "597", name="b")
    await_programs("sh", "sleep", "sleep", "sleep", "sleep")
    os.kill(pid, signal.SIGKILL)
    await_end([pid])

    assert process.state(COMMANDS, "a") == process.Ended(status=None)
    with pytest.raises(Refused, match="it runs without supervisor"):
        start("true")
    process.stop(COMMANDS, "a", 2.0)

    assert len(await_programs("sleep", "sleep")) == 2
    assert stranger.poll() is None
    assert process.state(COMMANDS, "b") == process.Running(pid=other, started=processes.started(other) or 0)
    assert os.listdir(COMMANDS) == ["b"]


@sandboxed
def test_stop_ends_under_a_stopped_supervisor() -> None:
    netns.make("a")
    os.kill(start("sleep", "600"), signal.SIGSTOP)

    before = time.monotonic()
    process.stop(COMMANDS, "a", 2.0)

    assert time.monotonic() - before < 2.0  # else it was killed, for want of an answer
    assert processes.processes("/run/netns/a") == []


@sandboxed
def test_stop_of_a_missing_command_succeeds() -> None:
    process.stop(COMMANDS, "a", 2.0)


@sandboxed
def test_a_pid_that_is_another_process_now_is_left_alone() -> None:
    netns.make("a")
    os.makedirs(f"{COMMANDS}/a")
    stranger = subprocess.Popen(["sleep", "600"])
    with open(f"{COMMANDS}/a/pid", "w") as file:
        file.write(f"{stranger.pid} 1 1 1\n")

    assert process.state(COMMANDS, "a") == process.Ended(status=None)
    process.stop(COMMANDS, "a", 2.0)

    assert stranger.poll() is None
    assert process.state(COMMANDS, "a") is None


@pytest.mark.parametrize("call", ["socketpair", "openat", "wait4", "recvfrom", "rename", "sendto", "recvfrom:2"])
@sandboxed
def test_a_kill_of_start_leaves_at_most_what_stop_finds(call: str) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("strace")
    netns.make("a")
    syscall, _, when = call.partition(":")
    source = os.path.dirname(os.path.dirname(os.path.dirname(process.__file__)))
    code = (
        f"import sys, os; sys.path.insert(0, {source!r}); from isthmus.kernel import process\n"
        f"os.write(2, b'HERE'); process.start({COMMANDS!r}, 'a', '/run/netns/a', ['sleep', '600'])"
    )
    inject = ["-e", f"inject={syscall}:signal=SIGKILL:when={when or 1}"]
    path = ["-P", f"{COMMANDS}/a/pid.new"] if syscall == "openat" else []
    done = subprocess.run(
        [strace, "-o", "/dev/null", *path, *inject, sys.executable, "-I", "-S", "-c", code], check=False
    )
    assert done.returncode == -signal.SIGKILL

    process.stop(COMMANDS, "a", 2.0)

    await_end(supervisors())
    assert processes.processes("/run/netns/a") == []
    assert process.state(COMMANDS, "a") is None


@sandboxed
def test_a_guard_that_ends_before_it_is_ready_is_none() -> None:
    for _ in range(20):  # its end is seen when it closes its pipe, a moment before it is a zombie
        with pytest.raises(Unavailable):
            guard.start("raise SystemExit")
    identity = guard.start("ready()\nimport time\ntime.sleep(600)")
    pid = int(identity.split()[0])
    guard.stop(identity)
    assert processes.started(pid) is None
