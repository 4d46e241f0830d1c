"""`isthmus run`, `logs`, `stop`: a command and its namespace come together and go together, whatever ends them."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.live.driving import DEADLINE_S, wait_for

from isthmus.testing import HOST4, LAN4, Lab, snapshot

SAY = "import os,sys; os.write(1, b'{}\\n')"
# Forks twice, in a session of its own, so that its parent is gone.
DAEMON = "setsid sh -c 'sleep 600 & exit 0' & wait"


def command(*argv: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "isthmus.doors.cli", *argv)


def status(lab: Lab, *argv: str) -> int:
    return lab.host.isthmus("run", *argv, check=False).returncode


def listing(lab: Lab) -> Any:
    return json.loads(lab.host.isthmus("ls", "--format", "json").stdout)


def programs(lab: Lab, name: str) -> list[str]:
    """Return what runs in a namespace, by another's eyes."""
    pids = lab.host.run("ip", "netns", "pids", name, check=False).stdout.split()
    found = (lab.host.run("ps", "-o", "comm=", "-p", pid, check=False).stdout.strip() for pid in pids)
    return sorted(one for one in found if one)


def await_programs(lab: Lab, name: str, *wanted: str) -> None:
    wait_for(lambda: programs(lab, name) == sorted(wanted), f"{wanted} in {name}: {programs(lab, name)}")


def await_state(lab: Lab, wanted: str) -> None:
    """Wait until the host is as it was, without a call of isthmus."""
    wait_for(lambda: snapshot(lab.host) == wanted, "the host is as before")


def supervisor(lab: Lab, name: str) -> int:
    return int(Path(f"{lab.host.path}/run/commands/{name}/pid").read_text().split()[0])


@pytest.fixture
def before(lab: Lab) -> Iterator[str]:
    """Give the state of a host with a network, and fail the test when it is another one afterwards."""
    lab.host.isthmus("network", "create", "br0", "--subnet", "10.7.0.0/24")
    lab.host.isthmus("network", "create", "br1", "--subnet", "10.8.0.0/24", "--uplink", "none")
    lab.host.isthmus("ns", "create", "db")
    lab.host.isthmus("attach", "br0", "db", "--ip", "10.7.0.9")
    lab.host.isthmus("attach", "br1", "db")  # a bridge that never had a port looks otherwise
    was = snapshot(lab.host)
    yield was
    await_state(lab, was)
    assert listing(lab)["commands"] == []


# What the command has


def test_without_a_network_it_has_a_loopback_link_alone(lab: Lab, before: str) -> None:
    (link,) = json.loads(lab.host.isthmus("run", "--", "ip", "-j", "addr").stdout)
    assert (link["ifname"], "UP" in link["flags"]) == ("lo", True)
    assert snapshot(lab.host) == before


def test_it_has_addresses_and_ports_until_it_ends(lab: Lab, before: str) -> None:
    options = ("--network", "br0", "--network", "br1", "--ip", "10.8.0.50", "--ip", "10.7.0.50", "-p", "8080:80")
    argv = command("run", *options, "--name", "web", "--", sys.executable, "-I", "-c", SERVER)
    process = lab.host.spawn(*argv)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert lab.lan.probe(HOST4, 8080) == f"served {LAN4}"
    found = {one["ifname"]: one for one in lab.host.netns("web").ip_json("addr")}
    addresses = [one["local"] for link in ("eth0", "eth1") for one in found[link]["addr_info"]]
    assert [one for one in addresses if one.startswith("10.")] == ["10.7.0.50", "10.8.0.50"]
    (shown,) = listing(lab)["commands"]
    assert (shown["namespace"], shown["state"], shown["log"], shown["transient"]) == ("web", "running", None, True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 143
    await_state(lab, before)  # a child clears the dead link
    assert lab.lan.probe(HOST4, 8080, timeout=0.5) == "refused"


SERVER = """
import socket
server = socket.create_server(("", 80))
print("ready", flush=True)
while True:
    peer, address = server.accept()
    peer.sendall(("served " + address[0]).encode())
    peer.close()
"""


def test_ports_without_a_network_mean_one_that_goes_with_its_last_run(lab: Lab) -> None:
    before = snapshot(lab.host)
    names = [
        lab.host.isthmus("run", "-d", "-p", port, "--", "sleep", "600").stdout.strip()
        for port in ("8080:80", "8081:80")
    ]
    (network,) = listing(lab)["networks"]
    assert (network["name"], sorted(network["members"])) == ("default", sorted(names))
    lab.host.isthmus("stop", names[0])
    assert [one["name"] for one in listing(lab)["networks"]] == ["default"]
    lab.host.isthmus("stop", names[1])
    await_state(lab, before)


def test_a_network_default_that_somebody_made_stays(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "default", "--subnet", "10.9.0.0/24")
    lab.host.isthmus("ns", "create", "db")
    lab.host.isthmus("attach", "default", "db", "--ip", "10.9.0.9")
    before = snapshot(lab.host)
    (link,) = json.loads(lab.host.isthmus("run", "-p", "8080:80", "ip", "-j", "-4", "addr", "show", "eth0").stdout)
    assert link["addr_info"][0]["local"] == "10.9.0.10"
    await_state(lab, before)


@pytest.mark.usefixtures("before")
def test_stdin_directory_mask_descriptors_and_environment_pass(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("\ufeff# comment\n\nONE=1 'x' #y\r\n  TWO\nGONE\nTHREE=3\n", newline="")
    script = 'cat; pwd; umask; cat <&7; echo "$ONE|$TWO|${GONE-none}|$THREE|$FOUR|$HOME"'
    options = f"--env-file {tmp_path}/env -e THREE=three -e FOUR="
    line = f'umask 27; echo in | HOME=/h TWO=two "$0" "$@" run {options} -- sh -c "$SCRIPT" 7<<END\nseven\nEND'
    done = lab.host.run("sh", "-c", line, *command(), cwd=tmp_path, env={"SCRIPT": script})
    assert done.stdout.splitlines() == ["in", str(tmp_path), "0027", "seven", "1 'x' #y|two|none|three||/h"]


@pytest.mark.usefixtures("before")
def test_names_inside_make_sense(lab: Lab) -> None:
    script = 'getent hosts "$(uname -n)" db; getent hosts web; cat /etc/resolv.conf; ls /sys/class/net'
    done = lab.host.isthmus("run", "--network", "br0", "--name", "web", "--", "sh", "-c", script)
    words = done.stdout.split()
    assert words == [
        "127.0.1.1",
        os.uname().nodename,
        "10.7.0.9",
        "db",
        "10.7.0.10",
        "web",
        "#",
        "kept",
        "by",
        "isthmus",
        "nameserver",
        LAN4,
        "eth0",
        "lo",
    ]


@pytest.mark.parametrize(
    ("host", "inside", "cut_off"),
    [
        ("nameserver fe80::1%eth0\nnameserver 2001:db8::53\n", "nameserver 2001:db8::53\n", False),
        ("nameserver FE80::1\nnameserver ::1\nsearch example\n", "search example\n", True),
        ("nameserver 127.0.0.53\noptions edns0\n", "options edns0\n", True),
        ("search example\n", "search example\n", False),
    ],
)
def test_a_resolver_that_the_host_alone_reaches_is_left_out(lab: Lab, host: str, inside: str, cut_off: bool) -> None:
    lab.host.run("sh", "-c", 'printf %s "$1" > /etc/resolv.conf', "sh", host)
    for verb in (("run", "--", "cat", "/etc/resolv.conf"), ("ns", "create", "a")):
        done = lab.host.isthmus(*verb)
        assert done.stderr.count("no resolver of the host's") == cut_off
        assert verb[0] == "ns" or done.stdout == f"# kept by isthmus\n{inside}"


@pytest.mark.parametrize("name", ["hosts", "resolv.conf"])
def test_files_of_names_that_somebody_put_there_are_used_and_stay(lab: Lab, name: str) -> None:
    path = Path(f"/etc/netns/u/{name}")
    lab.host.run("sh", "-ec", 'mkdir -p /etc/netns/u; echo "# mine" >"$1"', "sh", str(path))
    before = snapshot(lab.host)
    assert lab.host.isthmus("run", "--name", "u", "--", "cat", f"/etc/{name}").stdout == "# mine\n"
    assert snapshot(lab.host) == before
    lab.host.isthmus("ns", "create", "u")
    assert lab.host.isthmus("repair").stdout == "nothing to change\n"
    assert lab.host.run("ls", "/etc/netns/u").stdout.split() == ["hosts", "resolv.conf"]
    lab.host.isthmus("ns", "rm", "u")
    assert snapshot(lab.host) == before
    assert lab.host.run("cat", str(path)).stdout == "# mine\n"


def test_a_foreign_namespace_with_a_port_at_a_certain_address_needs_no_files_of_names(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n")
    lab.host.run("ip", "netns", "add", "f")
    for verb in (("attach", "n", "f", "-p", f"{HOST4}:8007:80"), ("repair",), ("detach", "n", "f")):
        lab.host.isthmus(*verb)
        assert lab.host.run("test", "-e", "/etc/netns", check=False).returncode == 1


def test_a_host_without_files_of_names_says_so_where_a_namespace_is_made_and_to_exec(lab: Lab) -> None:
    lab.host.run("sh", "-c", "ln -sf /none /etc/resolv.conf")
    assert lab.host.isthmus("run", "--", "true").stderr == ""
    assert "the host has no /etc/resolv.conf" in lab.host.isthmus("ns", "create", "a").stderr
    said = lab.host.run("ip", "netns", "exec", "a", "true").stderr
    assert "resolv.conf" in said
    assert lab.host.isthmus("exec", "a", "--", "true").stderr == said


def test_a_background_one_keeps_directory_and_environment_and_logs(lab: Lab, before: str, tmp_path: Path) -> None:
    script = "pwd; echo $KEY; echo bad >&2; cat; read _ <go; echo more; read _ <on"
    # One for each wait: who opens one again may meet its writer of before, who is about to close it.
    for name in ("go", "on"):
        os.mkfifo(tmp_path / name)
    argv = command("run", "-d", "--name", "job", "-e", "KEY=value", "--", "sh", "-c", script)
    assert lab.host.run(*argv, cwd=tmp_path).stdout == "job\n"
    follower = lab.host.spawn(*command("logs", "-f", "job"))
    assert follower.stdout is not None
    assert [follower.stdout.readline() for _ in range(3)] == [f"{tmp_path}\n", "value\n", "bad\n"]
    assert lab.host.isthmus("logs", "job").stdout == f"{tmp_path}\nvalue\nbad\n"
    (tmp_path / "go").write_text("\n")
    assert follower.stdout.readline() == "more\n"
    assert follower.poll() is None
    (tmp_path / "on").write_text("\n")
    assert follower.communicate(timeout=DEADLINE_S)[0] == ""
    await_state(lab, before)
    assert lab.host.isthmus("logs", "job", check=False).returncode == 4


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_caller_may_have_closed_its_descriptors(lab: Lab, before: str, closed: str) -> None:
    line = f'"$0" "$@" run -d --name job -- sh -c "echo said; cat; echo bad >&2; exec sleep 600" {closed}'
    lab.host.run("sh", "-c", line, *command())
    wait_for(lambda: lab.host.isthmus("logs", "job").stdout == "said\nbad\n", "what it says")
    assert lab.host.isthmus("stop", "job").returncode == 0
    done = lab.host.run("sh", "-c", f'"$0" "$@" run -- sh -c "exit 7" {closed}', *command(), check=False)
    assert done.returncode == 7
    await_state(lab, before)


# How it ends


@pytest.mark.parametrize(
    ("argv", "wanted", "said"),
    [
        (("--", "sh", "-c", "exit 7"), 7, ""),
        (("sh", "-c", "exit 0", "--", "-x"), 0, ""),
        (("--", "sh", "-c", "kill -KILL $$"), 137, ""),
        (("--", "sh", "-c", "kill -TERM $$"), 143, ""),
        (("--", "no-such-program"), 127, "ENOENT"),
        (("--network", "br0", "-p", "8080:80", "/etc/passwd"), 126, "EACCES"),
        (("-d", "no-such-program"), 127, "ENOENT"),
        (("--network", "nowhere", "true"), 125, "no network 'nowhere'"),
        (("--network", "br0", "--ip", "10.8.0.9", "true"), 125, "outside of network br0"),
        (("--network", "br0", "--ip", "10.7.0.9", "true"), 125, "taken by db"),
        (("--name", "db", "true"), 125, "exists already"),
        (("--name", "a/b", "true"), 125, "--name"),
        (("-p", "65536:80", "true"), 125, "65535"),
        (("-p", "8080:80", "-p", "8080:81", "--network", "br0", "true"), 125, "asked for twice"),
        (("--env-file", "/nowhere", "true"), 125, "No such file"),
        (("-e", "=x", "true"), 125, "has a name"),
        (("--fly", "true"), 125, "unrecognized"),
        ((), 125, "no command"),
    ],
)
def test_the_exit_status_is_the_commands_or_says_whose_fault_it_was(
    lab: Lab, before: str, argv: tuple[str, ...], wanted: int, said: str
) -> None:
    done = lab.host.isthmus("run", *argv, check=False)
    assert (done.returncode, done.stdout) == (wanted, ""), done.stderr
    assert (said in done.stderr) if said else (done.stderr == "")
    assert "Traceback" not in done.stderr
    await_state(lab, before)


def test_what_it_leaves_behind_ends_with_it(lab: Lab, before: str, tmp_path: Path) -> None:
    script = f"setsid sh -c 'sleep 600 & echo $! >{tmp_path}/pid' & wait; test -s {tmp_path}/pid && exit 3"
    assert status(lab, "--", "sh", "-c", script) == 3
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert snapshot(lab.host) == before


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 14, 26, 27, 28, 29, 30])
def test_a_signal_for_isthmus_reaches_the_command_once(lab: Lab, number: int) -> None:
    process = lab.host.spawn("env", "--default-signal", *command("run", "--", sys.executable, "-Ic", HEARS))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"heard {number}\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "heard 15\n"
    assert process.wait(DEADLINE_S) == 9


HEARS = """
import signal, sys
wanted = {1, 2, 3, 10, 12, 14, 15, 26, 27, 28, 29, 30}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("ready", flush=True)
while True:
    number = int(signal.sigwait(wanted))
    print("heard", number, flush=True)
    if number == 15:
        sys.exit(9)
"""


@pytest.mark.usefixtures("before")
def test_a_command_of_the_python_api_has_no_signal_blocked(lab: Lab) -> None:
    """There no supervisor was started ahead, and the caller holds signals while it waits."""
    source = """
from isthmus.engine import Host, attend, clear_run, run
from isthmus.model.declared import RunWish
host = Host()
with host:
    ran = run(host, RunWish(argv=("grep", "SigBlk", "/proc/self/status"), foreground=True))
attend(ran)
with host:
    clear_run(host, ran.name)
"""
    assert lab.host.python(source).stdout == f"SigBlk:\t{'0' * 16}\n"


@pytest.mark.usefixtures("before")
def test_signals_that_the_caller_ignores_stay_ignored(lab: Lab) -> None:
    script = 'trap \'\' HUP; exec "$0" "$@"'
    grep = command("run", "--", "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    done = lab.host.run("env", "--default-signal", "sh", "-c", script, *grep)
    words = done.stdout.split()
    assert (words[1], int(words[3], 16) & 0xFFFF) == ("0" * 16, 1)


def test_a_killed_isthmus_is_cleared_by_the_supervisor(lab: Lab, before: str) -> None:
    argv = ("--network", "br0", "-p", "8080:80", "--name", "web", "--", "sh", "-c", DAEMON + "; sleep 599")
    process = lab.host.spawn(*command("run", *argv))
    await_programs(lab, "web", "sh", "sleep", "sleep")
    process.kill()
    await_state(lab, before)


def test_a_job_that_is_killed_whole_is_cleared_by_the_supervisor(lab: Lab, before: str) -> None:
    """As `kill -9 %1` does: the command is dead while isthmus still dies."""
    for _ in range(5):  # one of three was left behind
        words = command("run", "--network", "br0", "--name", "web", "--", "sleep", "599")
        process = lab.host.spawn("setsid", *words)
        await_programs(lab, "web", "sleep")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        await_state(lab, before)


def test_a_killed_supervisor_is_seen_and_all_is_cleared(lab: Lab, before: str) -> None:
    process = lab.host.spawn(
        *command("run", "--network", "br0", "--name", "web", "--", "sh", "-c", DAEMON + "; sleep 599")
    )
    await_programs(lab, "web", "sh", "sleep", "sleep")
    os.kill(supervisor(lab, "web"), signal.SIGKILL)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, "supervisor of web was killed" in errors) == (125, True)
    await_state(lab, before)


@pytest.mark.parametrize("background", [(), ("-d",)], ids=["foreground", "background"])
def test_when_both_are_killed_the_next_call_clears(lab: Lab, background: tuple[str, ...]) -> None:
    lab.host.isthmus("ns", "create", "db")
    before = snapshot(lab.host)
    script = DAEMON + "; env -i setsid sleep 598 & sleep 599"
    process = lab.host.spawn(*command("run", *background, "-p", "8080:80", "--name", "web", "--", "sh", "-c", script))
    await_programs(lab, "web", "sh", "sleep", "sleep", "sleep")
    pid = supervisor(lab, "web")
    inside = lab.host.run("ip", "netns", "pids", "web").stdout.split()
    if background:
        process.wait(DEADLINE_S)
        os.kill(pid, signal.SIGKILL)
    else:
        # At once: neither shall see the other's end.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            os.kill(pid, number)
            os.kill(process.pid, number)
        process.wait(DEADLINE_S)
    wait_for(lambda: listing(lab)["commands"][0]["state"] == "lost", "it is seen")
    assert programs(lab, "web") != []
    lab.host.isthmus("ns", "create", "other")
    lab.host.isthmus("ns", "rm", "other")
    assert listing(lab)["commands"] == []
    assert [one for one in inside if Path(f"/proc/{one}/ns/net").exists()] == []
    await_state(lab, before)


@pytest.mark.usefixtures("before")
def test_a_name_may_be_used_again_at_once(lab: Lab) -> None:
    for number in range(5):
        assert status(lab, "--name", "web", "--", "sh", "-c", f"exit {number}") == number
    for _ in range(3):
        assert lab.host.isthmus("run", "-d", "--name", "web", "--", "sleep", "600").stdout == "web\n"
        lab.host.isthmus("stop", "web")


@pytest.mark.usefixtures("before")
def test_many_at_once(lab: Lab) -> None:
    processes = [
        lab.host.spawn(*command("run", "--network", "br0", "-p", "80", "--", "sh", "-c", f"exit {number}"))
        for number in range(8)
    ]
    assert [process.wait(60) for process in processes] == list(range(8))


# At a terminal


class Terminal:
    """A terminal with `isthmus run` as the leader of its session, or in a job of a shell's."""

    def __init__(self, lab: Lab, *argv: str) -> None:
        self.master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)

        def take() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            lab.host.argv("env", "--default-signal", *argv),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=lab.host._environment,
            preexec_fn=take,  # noqa: PLW1509
        )
        os.close(slave)
        self.said = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, *, but_not: str = "\0") -> None:
        while text not in self.said:
            assert select.select([self.master], [], [], DEADLINE_S)[0], self.said
            self.said += os.read(self.master, 4096).decode()
        before, _, self.said = self.said.partition(text)
        assert but_not not in before

    def close(self) -> None:
        os.close(self.master)


JOB = """
trap "echo caught" INT; trap "stty size" WINCH; echo ready
while :; do read line && { echo got $line; test "$line" = end && exit 4; }; done
"""


@pytest.mark.usefixtures("before")
def test_the_terminal_is_the_commands(lab: Lab) -> None:
    terminal = Terminal(lab, *command("run", "--", "sh", "-c", JOB))
    terminal.expect("ready")
    terminal.type("word\n")
    terminal.expect("got word")
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
    terminal.type("more\n")
    terminal.expect("33 77")
    terminal.type("\x03")
    terminal.expect("caught")
    terminal.type("end\n")
    terminal.expect("got end", but_not="caught")
    assert terminal.process.wait(DEADLINE_S) == 4
    terminal.close()


@pytest.mark.usefixtures("before")
def test_what_is_typed_is_not_passed_on_besides(lab: Lab) -> None:
    terminal = Terminal(lab, *command("run", "--", sys.executable, "-Ic", HEARS))
    terminal.expect("ready")
    terminal.type("\x03")
    terminal.expect("heard 2")
    terminal.process.send_signal(signal.SIGTERM)
    terminal.expect("heard 15", but_not="heard 2")
    assert terminal.process.wait(DEADLINE_S) == 9
    terminal.close()


def are_stopped(lab: Lab, words: str) -> bool:
    """Tell whether all processes of a lab whose command lines hold these words are stopped."""
    stopped = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            if words.encode() in told and os.fsencode(lab.host.path) in environment:
                stopped.append((folder / "stat").read_text().rpartition(")")[2].split()[0] == "T")
        except OSError:
            continue  # ended meanwhile
    return len(stopped) >= 2 and all(stopped)


@pytest.mark.usefixtures("before")
def test_a_shell_stops_and_resumes_it_as_a_job(lab: Lab) -> None:
    terminal = Terminal(lab, "env", "PS1=for more:", "bash", "--norc", "--noediting", "-i")
    terminal.expect("for more:")
    line = " ".join(command("run", "--", "sh", "-c", "'echo rea\"\"dy; read line; echo got $line; exit 6'"))
    terminal.type(f"{line}\n")
    terminal.expect("ready")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("for more:")
    # The shell sees isthmus stop. The command, in the same group, may still wait to be run and then stopped: it reads.
    wait_for(lambda: are_stopped(lab, "read line; echo got $line"), "the stop")
    terminal.type("fg\n")
    terminal.expect("isthmus")
    terminal.type("word\n")
    terminal.expect("got word")
    terminal.expect("for more:")
    terminal.type("echo status=$?\n")
    terminal.expect("status=6")
    terminal.type("exit\n")
    terminal.process.wait(DEADLINE_S)
    terminal.close()


@pytest.mark.parametrize("trap", ["", "trap '' HUP; "], ids=["heeds", "ignores SIGHUP"])
@pytest.mark.parametrize("shell", [False, True], ids=["alone", "in a shell"])
def test_a_terminal_that_goes_away_ends_it(lab: Lab, before: str, trap: str, shell: bool) -> None:
    script = f"{trap}echo rea''dy; while :; do sleep 600; done"
    argv = command("run", "--network", "br0", "--", "sh", "-c", script)
    if shell:
        terminal = Terminal(lab, "bash", "--norc", "-i")
        terminal.type(" ".join((*argv[:-1], f'"{script}"')) + "\n")
    else:
        terminal = Terminal(lab, *argv)
    terminal.expect("ready")
    terminal.close()
    terminal.process.wait(DEADLINE_S)
    await_state(lab, before)


def test_a_terminal_that_goes_away_leaves_one_that_hears_of_no_hangup(lab: Lab, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    script = f"echo rea''dy; read _ <{tmp_path}/go; echo done >{tmp_path}/done"
    terminal = Terminal(lab, "bash", "--norc", "-i")
    terminal.type(" ".join(("nohup", *command("run", "--name", "web", "--", "sh", "-c"), f'"{script}"')) + " | cat\n")
    terminal.expect("ready")
    terminal.close()
    terminal.process.wait(DEADLINE_S)
    with open(tmp_path / "go", "w") as file:
        file.write("\n")
    wait_for((tmp_path / "done").exists, "the command")
    wait_for(lambda: "web" not in lab.host.isthmus("ls").stdout, "the run is cleared")


# Stopped from elsewhere


@pytest.mark.parametrize("verb", [("repair",), ("ns", "create", "other")], ids=" ".join)
def test_a_run_whose_namespace_somebody_deletes_ends_and_does_not_begin_again(
    lab: Lab, before: str, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    script = f"echo began >>{tmp_path}/log; exec sleep 600"
    process = lab.host.spawn(*command("run", "--name", "web", "--network", "br0", "--", "sh", "-c", script))
    wait_for((tmp_path / "log").exists, "the command")
    lab.host.run("ip", "netns", "delete", "web")
    done = lab.host.isthmus(*verb)
    assert done.stderr == "note: namespace web is gone: the run in it was ended\n"
    assert process.wait(DEADLINE_S) == 143
    assert (tmp_path / "log").read_text() == "began\n"
    if verb[0] == "ns":
        lab.host.isthmus("ns", "rm", "other")
    await_state(lab, before)


def test_stop_ends_a_foreground_run_from_elsewhere(lab: Lab, before: str) -> None:
    process = lab.host.spawn(*command("run", "--name", "web", "--", "sh", "-c", DAEMON + "; sleep 599"))
    await_programs(lab, "web", "sh", "sleep", "sleep")
    assert lab.host.isthmus("logs", "web", check=False).returncode == 4
    done = lab.host.isthmus("ns", "rm", "web", check=False)
    assert (done.returncode, "isthmus stop web" in done.stderr) == (3, True)
    said = lab.host.isthmus("stop", "web").stdout
    assert "- namespace web" in said
    assert snapshot(lab.host) == before
    assert process.wait(DEADLINE_S) == 143


def test_stop_kills_what_ignores_sigterm_after_the_time_given(lab: Lab, before: str) -> None:
    script = "trap '' TERM; while :; do sleep 600; done"
    lab.host.isthmus("run", "-d", "--name", "web", "--", "sh", "-c", script)
    await_programs(lab, "web", "sh", "sleep")
    lab.host.isthmus("stop", "web", "--time", "0")
    await_state(lab, before)


def test_stop_of_a_declared_command_leaves_it_ended(lab: Lab, tmp_path: Path) -> None:
    before = snapshot(lab.host)
    (tmp_path / "a.yaml").write_text("namespaces: {a: {command: [sh, -c, 'echo said; sleep 600']}}\n")
    lab.host.isthmus("up", "a.yaml", cwd=tmp_path)
    follower = lab.host.spawn(*command("logs", "-f", "a"))
    assert follower.stdout is not None
    assert follower.stdout.readline() == "said\n"
    lab.host.isthmus("stop", "a")
    assert follower.wait(DEADLINE_S) == 0
    (row,) = listing(lab)["commands"]
    assert (row["state"], row["exit_status"], row["transient"]) == ("ended", 143, False)
    assert programs(lab, "a") == []
    assert lab.host.isthmus("logs", "a").stdout == "said\n"
    assert lab.host.isthmus("up", "a.yaml", cwd=tmp_path).stdout == "nothing to change\n"
    lab.host.isthmus("stop", "a")
    lab.host.isthmus("up", "a.yaml", "--restart", cwd=tmp_path)
    await_programs(lab, "a", "sh", "sleep")
    lab.host.isthmus("down", "a")
    await_state(lab, before)


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("verb", ["stop", "logs"])
def test_what_has_no_command_is_not_found(lab: Lab, verb: str) -> None:
    for target in ("db", "nowhere"):
        done = lab.host.isthmus(verb, target, check=False)
        assert (done.returncode, f"{target} has no command" in done.stderr) == (4, True)
    assert lab.host.isthmus("stop", "db", "--time", "soon", check=False).returncode == 64


# Shown, and without rights


@pytest.mark.usefixtures("before")
def test_show_commands_leaves_stdout_to_the_command(lab: Lab) -> None:
    done = lab.host.isthmus("run", "--name", "web", "--show-commands", "--", "echo", "said")
    assert done.stdout == "said\n"
    script, _, undo = done.stderr.partition("\n# undo\n")
    assert "ip netns add web" in script
    assert "ip netns exec web echo said" in script
    assert "ip netns delete web" in undo


def as_nobody(lab: Lab, *more: str) -> tuple[str, ...]:
    """Return what makes a command somebody's without rights; the test is skipped where that one cannot be had."""
    nobody = pwd.getpwnam("nobody")
    argv = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *more)
    if lab.host.run(*argv, sys.executable, "-c", "import isthmus.errors", check=False).returncode:
        pytest.skip("no user namespaces, or this checkout cannot be read by nobody")
    return argv


def test_in_a_user_namespace_it_runs_without_root(lab: Lab) -> None:
    argv = as_nobody(lab, "unshare", "-Urnm")
    script = "mount -t tmpfs run /run; ip link set lo up; ISTHMUS_STATE_DIR=/run/state ISTHMUS_RUN_DIR=/run/isthmus"
    script += '; export ISTHMUS_STATE_DIR ISTHMUS_RUN_DIR; "$@" && ls /run /run/netns'
    options = ("-p", "8080:80", "--name", "web", "--", "ip", "-j", "-4", "addr", "show", "eth0")
    done = lab.host.run(*argv, "sh", "-c", script, "sh", *command("run", *options), cwd="/")
    answer, _, left = done.stdout.partition("\n")
    assert json.loads(answer)[0]["addr_info"][0]["local"] == "10.89.0.2"
    assert left.split() == ["/run:", "netns", "state", "/run/netns:"]
    assert done.stderr == "note: /etc/netns cannot be written here: names inside are those of the host's /etc\n"


def test_without_rights_it_says_so_by_125(lab: Lab) -> None:
    argv = as_nobody(lab)
    done = lab.host.run(*argv, *command("run", "true"), check=False, cwd="/")
    assert (done.returncode, "CAP_NET_ADMIN" in done.stderr, "hint: " in done.stderr) == (125, True, True)


def test_where_there_is_no_way_back_from_a_namespace_it_says_so_by_125(lab: Lab) -> None:
    """In a user namespace of its own, but on the network of another."""
    argv = as_nobody(lab, "unshare", "-Urm")
    script = 'mount -t tmpfs run /run; export ISTHMUS_STATE_DIR=/run/state ISTHMUS_RUN_DIR=/run/isthmus; exec "$@"'
    done = lab.host.run(*argv, "sh", "-c", script, "sh", *command("run", "true"), check=False, cwd="/")
    assert (done.returncode, "cannot make network namespace" in done.stderr, "hint: " in done.stderr) == (
        125,
        True,
        True,
    )
