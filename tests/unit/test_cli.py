"""The command line without a kernel: parsing, exit codes, options against keys of the file, and what is printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from isthmus import errors
from isthmus.declare.shapes import keys_at
from isthmus.doors.cli.attachments import attachment_wish, link_wish
from isthmus.doors.cli.declarations import declared_name
from isthmus.doors.cli.errors import STATUS, Several, Usage, say, status_of
from isthmus.doors.cli.networks import network_wish
from isthmus.doors.cli.output import table
from isthmus.doors.cli.parse import Given, choose, parse, read_by_argparse, read_plainly
from isthmus.doors.cli.running import run_wish
from isthmus.doors.cli.steps import lines, step_json, summary
from isthmus.doors.cli.table import VERBS, Argument, Option, Verb
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.host import (
    HOST,
    Bridge,
    Element,
    File,
    HostObject,
    LinkAddress,
    NamedNetns,
    Process,
    Route,
    Ruleset,
    Symlink,
    Sysctl,
    Veth,
)
from isthmus.model.plan import Add, Change, Plan, Remove

SRC = Path(__file__).parents[2] / "src"
MAC = Mac.parse("02:00:00:00:00:01")


def given(*argv: str) -> Given:
    chosen = choose(argv)
    assert not isinstance(chosen, str)
    return parse(*chosen)


def typed(line: str) -> Given:
    return given(*line.split())


# The command line

COMMANDS = {
    "up", "confirm", "down", "plan", "repair", "exec", "run", "logs", "stop", "ls", "forwarding",
    "attach", "detach", "connect", "publish", "unpublish",
    "network create", "network ls", "network inspect", "network rm", "ns create", "ns ls", "ns rm",
}  # fmt: skip


def test_the_commands_are_those_that_other_tools_call() -> None:
    assert {verb.name for verb in VERBS} == COMMANDS


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_each_verb_has_help(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(verb, ["--help"])
    said = capsys.readouterr().out
    assert all(option.flags[0] in said for option in verb.options)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.words[-1] == "ls"], ids=lambda verb: verb.name)
def test_each_listing_has_a_format(verb: Verb) -> None:
    assert "--format" in {flag for option in verb.options for flag in option.flags}


def test_each_changing_verb_shows_its_commands() -> None:
    reading = {"ls", "network ls", "network inspect", "ns ls", "exec", "logs", "confirm"}
    for verb in VERBS:
        flags = {flag for option in verb.options for flag in option.flags}
        assert ("--show-commands" in flags) == (verb.name not in reading), verb.name


@pytest.mark.parametrize(
    "argv",
    ["", "fly", "network", "network fly", "attach", "attach a", "attach a b c", "ls --fly", "ls --form json",
     "ls --format xml", "exec a", "exec a --", "exec", "up a b", "network create a --mtu", "detach a b --cut",
     "forwarding on off"],
)  # fmt: skip
def test_a_command_line_that_says_nothing_is_usage(argv: str) -> None:
    with pytest.raises(Usage):
        given(*argv.split())


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (("exec", "a", "--", "ls", "-l"), ("ls", "-l")),
        (("exec", "a", "ls", "-l"), ("ls", "-l")),
        (("exec", "a", "ls", "--", "-l"), ("ls", "--", "-l")),
        (("exec", "a", "--", "--help"), ("--help",)),
        (("run", "--", "ls", "-l"), ("ls", "-l")),
        (("run", "ls", "-l"), ("ls", "-l")),
        (("run", "-p", "80:80", "--name=x", "-d", "ls", "--", "-d"), ("ls", "--", "-d")),
        (("run", "--network", "a", "--", "--help"), ("--help",)),
    ],
)
def test_a_command_line_is_left_alone(argv: tuple[str, ...], command: tuple[str, ...]) -> None:
    assert given(*argv).command == command


LINES = """
up --plan f.yaml | up f.yaml --restart | plan --format json | plan --format=json f | down --all | ls | ls --format table
attach a b -p 80:80 --publish=81:81 --ip 10.0.0.1 --no-default-route -v | attach --mac=x a b | attach a b -p80:80
network create a --subnet 10.0.0.0/24 --subnets fd00::/64 --mtu 1 --mtu 2 | stop a -t 5 | logs a -f | logs -f a
run --network a --name=b -d | run -e A=b --env C=d= | run --env-file f -p 80:80 | connect a b --name-a x | exec a
attach a | attach a b c | attach --fly a b | attach a b --ip | attach a b --ip -p | ls --format xml | ls --format=
stop a --time -5 | stop a --time=-5 | attach a b --default-route=1 | attach -h | attach -- a b | logs -fv a | logs a -
network create a --sub 10.0.0.0/24 | detach - -
"""


@pytest.mark.parametrize("line", [line.strip() for line in LINES.replace("\n", "|").split("|") if line.strip()])
def test_the_table_and_argparse_read_the_same(line: str) -> None:
    chosen = choose(line.split())
    assert not isinstance(chosen, str)
    plain = read_plainly(*chosen)
    if plain is not None:
        assert plain == read_by_argparse(*chosen)
    elif not any(rare in line for rare in ("-p80:80", "-fv", "-- a", "-5", "- -")):
        with pytest.raises((Usage, SystemExit)):
            read_by_argparse(*chosen)


def test_the_usual_command_line_does_not_load_argparse() -> None:
    program = (
        "import sys; from isthmus.doors.cli.parse import choose, parse; parse(*choose(sys.argv[1:]));"
        " sys.exit('argparse' in sys.modules)"
    )
    argv = (sys.executable, "-c", program, "attach", "br0", "net0", "-p", "8080:80", "--ip=10.0.0.1")
    assert subprocess.run(argv, check=False).returncode == 0


# Options and keys of the file

PLACES: dict[str, tuple[str | int, ...]] = {
    "network": ("networks", "n"),
    "attachment": ("namespaces", "n", "networks", "n"),
    "publish": ("namespaces", "n", "publish", 0),
    "namespace": ("namespaces", "n"),
    "link": ("links", 0),
    "forwarding": ("forwarding", 0),
    "end": ("links", 0, "ends", 0),
}
# What a command line says by its own shape: two spellings of one key, `exec`'s command line, the two ends.
SHAPE = {"network": {"subnets"}, "namespace": {"command"}, "link": {"ends"}}
# How a verb runs, not what shall exist.
RUNNING = {
    "plan", "restart", "format", "show-commands", "verbose", "all", "force", "rebuild", "cut", "network", "name",
    "env", "env-file", "detach", "follow", "time", "confirm-within", "revert",
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_options_are_the_keys_of_the_file(place: str) -> None:
    all_of_them: list[Option | Argument] = [one for verb in VERBS for one in verb.options]
    all_of_them += [one for verb in VERBS for one in verb.arguments]
    found = {one.key for one in all_of_them if one.key}
    options = {key.partition(".")[2] for key in found if key.partition(".")[0] == place}
    assert options == set(keys_at(PLACES[place])) - SHAPE.get(place, set())


def test_an_option_is_called_as_its_key() -> None:
    for verb in VERBS:
        options: tuple[Option, ...] = verb.options
        for option in options:
            key = option.key.partition(".")[2]
            if key:
                assert option.name in (key, f"{key}-a", f"{key}-b")
            else:
                assert option.name in RUNNING


def test_both_spellings_of_subnet_mean_the_same() -> None:
    assert given("network", "create", "a", "--subnets", "10.0.0.0/24").texts("subnet") == ["10.0.0.0/24"]


# Wishes


def test_a_network_as_the_options_say() -> None:
    wish = network_wish(
        typed(
            "network create n --subnet 10.0.0.0/24 --subnet fd00::/64 --gateway 10.0.0.9 --gateway fd00::9"
            " --uplink routed --isolate-ports --allow m --mtu 1400 --allow-overlap"
        )
    )
    assert wish.subnets == (Prefix.parse("10.0.0.0/24"), Prefix.parse("fd00::/64"))
    assert wish.gateways == (Address.parse("10.0.0.9"), Address.parse("fd00::9"))
    assert (wish.uplink, wish.isolate_ports, wish.allow, wish.mtu) == ("routed", True, frozenset({"m"}), 1400)
    assert wish.allow_overlap


@pytest.mark.parametrize(("options", "gateways"), [("", None), ("--no-gateway", ()), ("--gateway none", ())])
def test_a_gateway_may_be_left_open_or_out(options: str, gateways: object) -> None:
    assert network_wish(given("network", "create", "n", *options.split())).gateways == gateways


def test_all_faults_of_a_network_are_said_at_once() -> None:
    with pytest.raises(Several) as caught:
        network_wish(typed("network create n --subnet 127.0.0.0/24 --snat 127.0.0.1 --uplink none --mtu 1500"))
    assert [str(one).partition(":")[0] for one in caught.value.several] == ["--subnet", "--snat", "--snat"]


@pytest.mark.parametrize(("options", "wanted"), [("", None), ("--default-route", True), ("--no-default-route", False)])
def test_the_default_route_is_taken_left_or_open(options: str, wanted: bool | None) -> None:
    assert attachment_wish(given("attach", "n", "t", *options.split())).default_route is wanted


@pytest.mark.parametrize(("options", "wanted"), [((), False), (("--allow-nonlocal",), True)])
def test_a_run_may_publish_on_an_address_that_is_to_come(options: tuple[str, ...], wanted: bool) -> None:
    wish = run_wish(given("run", "-p", "203.0.113.77:80:80", *options, "--", "true"))
    assert [one.allow_nonlocal for one in wish.publishes] == [wanted]


def test_a_link_as_the_options_say() -> None:
    wish = link_wish(
        typed("connect a b --ip-a 10.0.0.1/30 --ip-a fd00::1/64 --name-b x --mac-b 02:00:00:00:00:01 --mtu 1400")
    )
    assert wish.a.addresses == ((Address.parse("10.0.0.1"), 30), (Address.parse("fd00::1"), 64))
    assert (wish.b.ifname, wish.b.mac, wish.mtu) == ("x", MAC, 1400)


# The name of a declaration


@pytest.mark.parametrize(("text", "name"), [("web", "web"), ("gone/web.yaml", "web"), ("gone.yml", "gone")])
def test_a_declaration_is_named_by_name_or_file(text: str, name: str) -> None:
    assert declared_name(text) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [("name: web\nnetworks: {}\n", "web"), ("networks: {}\n", "file"), ("name: web\nfly: 1\n", "web"), ("- [", "file")],
)
def test_a_file_names_its_declaration_even_when_it_says_something_wrong(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    assert declared_name(str(path)) == name


# Exit status


def test_exit_statuses_are_those_documented() -> None:
    assert {kind.__name__: status for kind, status in STATUS} == {
        "Usage": 64,
        "InvalidInput": 64,
        "Refused": 3,
        "NotFound": 4,
        "NotPermitted": 5,
        "Unsupported": 6,
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.KernelError("add", "link a", 17), 1),
        (errors.KernelError("add", "link a", 1), 5),
        (errors.ApplyError("broken", undone=True), 1),
        (errors.StoreError("torn"), 1),
        (errors.Unavailable("busy"), 1),
        (PermissionError(13, "Permission denied"), 5),
        (ValueError("a bug"), 1),
        (Several([errors.Refused("no"), errors.Refused("neither")]), 3),
        (Several([errors.NotFound("none"), errors.NotFound("nor")]), 4),
        (Several([errors.Refused("no"), errors.NotFound("none")]), 64),
        (ExceptionGroup("several", [errors.NotFound("none")]), 4),
    ],
)
def test_the_exit_status_of_an_error(error: BaseException, status: int) -> None:
    assert status_of(error) == status


def test_a_refusal_for_want_of_rights_is_known_by_its_cause() -> None:
    error = errors.StoreError("cannot read /x")
    error.__cause__ = PermissionError(13, "Permission denied")
    assert status_of(error) == 5


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isthmus.doors.cli", *argv],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SRC), "ISTHMUS_STATE_DIR": "/nonexistent/isthmus", "PATH": "/usr/bin:/bin"},
        check=False,
    )


def test_errors_and_hints_go_to_stderr() -> None:
    done = run("attach", "net", "a", "--mac", "fly")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "error: --mac: 'fly': not a MAC address\nhint: write it as 02:00:00:00:00:01\n"


def test_a_listing_without_a_state_file_is_empty() -> None:
    done = run("network", "ls", "--format", "json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_several_errors_of_a_file_are_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("networks:\n  a b: {}\n  c: {fly: 1}\n")
    done = run("plan", str(path))
    assert done.returncode == 1
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == ["error:", "error:", "hint:"]
    assert f"{path}:2:3" in done.stderr
    assert run("up", str(path)).returncode == 64


def test_each_hint_follows_the_errors_that_it_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    told = [("a", "x"), ("b", "x"), ("c", ""), ("d", "y")]
    say(Several([errors.Refused(text, hint=hint) for text, hint in told]))
    said = ["error: a", "error: b", "hint: x", "error: c", "error: d", "hint: y"]
    assert capsys.readouterr().err.splitlines() == said


INTERRUPTED = """
import sys
from isthmus.doors.cli import main
name, *sys.argv[1:] = sys.argv[1:]
real = getattr(main, name)

def interrupted(*args):
    real(*args)
    raise KeyboardInterrupt

setattr(main, name, interrupted)
main.main()
"""


@pytest.mark.parametrize("place", ["say", "status_of", "_guarded", "_written"])
def test_an_interrupt_after_the_last_word_adds_none(place: str) -> None:
    argv = [sys.executable, "-c", INTERRUPTED, place, "attach", "net", "a", "--mac", "fly"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(SRC)})
    said = "error: --mac: 'fly': not a MAC address\nhint: write it as 02:00:00:00:00:01\n"
    assert (done.returncode, done.stderr) == (130, said)


def test_help_and_version_are_printed() -> None:
    assert "isthmus network create" in run("--help").stdout
    assert run("network", "--help").stdout.count("isthmus network ") == 4
    assert run("--version").stdout.startswith("isthmus ")


def test_the_hot_verbs_load_nothing_slow() -> None:
    source = (
        "import sys; from isthmus.doors.cli import main, attachments, report, steps; before = set(sys.modules);"
        "main.parse(*main.choose(['attach', 'n', 't', '-p', '80:80'])); print(*before); print(*sys.modules)"
    )
    argv = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SRC)!r}); {source}"]
    before, after = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {"yaml", "pydantic", "json", "typing", "dataclasses"}.isdisjoint(after.split())
    assert {"re", "argparse", "enum"}.isdisjoint(before.split())


# What is printed


def element(name: str, *parts: object, data: tuple[object, ...] = ()) -> Element:
    return Element(name=name, parts=parts, data=data)  # type: ignore[arg-type]


ADDRESS4, ADDRESS6 = Address.parse("10.0.0.2"), Address.parse("fd00::2")
VETH = Veth(
    netns=HOST, name="isv1", mac=None, mtu=1500, alias="", peer_netns="a", peer_name="eth0", peer_mac=MAC, master="br0"
)
DEFAULT = Prefix.parse("0.0.0.0/0")
NETWORK: tuple[HostObject, ...] = (
    Ruleset(version="1"),
    Bridge(name="br0", mac=MAC, mtu=1500, alias=""),
    element("bridges", "br0"),
    element("closed4", Prefix.parse("10.0.0.0/24")),
    LinkAddress(netns=HOST, ifname="br0", address=Address.parse("10.0.0.1"), length=24),
    Sysctl(name="net/ipv4/conf/br0/forwarding", value="1"),
)
ATTACHMENT: tuple[HostObject, ...] = (
    NamedNetns(name="a"),
    File(path="/etc/netns/a/resolv.conf", text=""),
    VETH,
    LinkAddress(netns="a", ifname="eth0", address=ADDRESS4, length=24),
    Route(netns="a", prefix=DEFAULT, via=Address.parse("10.0.0.1"), ifname="eth0"),
    element("anyport4", 6, 8080, data=(ADDRESS4, 80)),
    element("anyport6", 6, 8080, data=(ADDRESS6, 80)),
    element("port4", Address.parse("127.0.0.1"), 17, 53, data=(ADDRESS4, 53)),
    element("port4", Address.parse("127.0.0.1"), 17, 54, data=(ADDRESS4, 54)),
    Process(netns="a", argv=("sleep", "9")),
)


def shown(plan: Plan, *, verbose: bool = False) -> list[str]:
    return [str(line) for line in lines(plan, verbose=verbose)]


def test_what_hangs_on_an_object_is_in_its_line() -> None:
    assert shown(Plan(steps=tuple(Add(item=one) for one in (*NETWORK, *ATTACHMENT)))) == [
        "+ firewall table inet isthmus",
        "+ bridge br0  10.0.0.1/24",
        "+ namespace a",
        "+ link eth0 in a on br0  10.0.0.2/24, default via 10.0.0.1",
        "+ command in a: sleep 9",
        "+ port 8080/tcp -> 10.0.0.2:80, [fd00::2]:80",
        "+ port 127.0.0.1:53-54/udp -> 10.0.0.2:53-54",
    ]


@pytest.mark.parametrize(("first", "second"), [("a0", "web0"), ("web0", "a0")])
def test_addresses_of_a_direct_link_are_in_the_order_of_its_ends(first: str, second: str) -> None:
    link = VETH.replace(netns=first, name="v0", peer_netns=second, peer_name="v1", master=None)
    near = LinkAddress(netns=first, ifname="v0", address=Address.parse("10.0.0.1"), length=30)
    far = LinkAddress(netns=second, ifname="v1", address=ADDRESS4, length=30)
    for ends in ((near, far), (far, near)):
        assert shown(Plan(steps=tuple(Add(item=one) for one in (link, *ends)))) == [
            f"+ link v0 in {first} to v1 in {second}  10.0.0.1/30, 10.0.0.2/30"
        ]


def test_verbose_gives_each_object_a_line() -> None:
    assert shown(Plan(steps=tuple(Remove(item=one) for one in NETWORK)), verbose=True) == [
        "- firewall table inet isthmus",
        "- bridge br0",
        "- element bridges { br0 }",
        "- element closed4 { 10.0.0.0/24 }",
        "- address 10.0.0.1/24 on br0",
        "- sysctl net/ipv4/conf/br0/forwarding 1",
    ]


def test_what_has_no_object_in_the_plan_has_its_own_line() -> None:
    plan = Plan(
        steps=(
            Add(item=element("bridges", "br0")),
            Remove(item=element("snat4", Prefix.parse("10.0.0.0/24"), data=(ADDRESS4,))),
            Add(item=ATTACHMENT[3]),
            Change(
                before=Sysctl(name="net/ipv4/conf/eth0/forwarding", value="0", borrowed=True),
                item=Sysctl(name="net/ipv4/conf/eth0/forwarding", value="1", borrowed=True),
            ),
            Change(before=VETH, item=VETH.replace(mtu=1400, up=False)),
            Change(
                before=File(path="/etc/netns/a/hosts", text=""), item=Symlink(path="/etc/netns/a/hosts", target="x")
            ),
        )
    )
    assert shown(plan) == [
        "+ element bridges { br0 }",
        "- element snat4 { 10.0.0.0/24 : 10.0.0.2 }",
        "+ address 10.0.0.2/24 on eth0 in a",
        "~ sysctl net/ipv4/conf/eth0/forwarding 0 -> 1",
        "~ link eth0 in a on br0: mtu 1500 -> 1400, up yes -> no",
        "~ file /etc/netns/a/hosts",
    ]
    assert summary(lines(plan)) == "2 added, 3 changed, 1 removed"


def test_a_plan_without_steps_is_nothing_to_change() -> None:
    assert summary(lines(Plan())) == "nothing to change"


def test_a_step_as_json() -> None:
    assert step_json(Add(item=ATTACHMENT[5])) == {
        "action": "add",
        "kind": "element",
        "object": {"name": "anyport4", "parts": [6, 8080], "data": ["10.0.0.2", 80]},
    }
    before = Sysctl(name="a/b/c/d/e", value="0")
    changed = step_json(Change(before=before, item=before.replace(value="1")))
    assert changed["before"] == {"name": "a/b/c/d/e", "value": "0", "borrowed": False}


def test_a_table_is_aligned_and_has_no_empty_cell() -> None:
    assert table(("NAME", "X"), [("a", ""), ("longer", "1")]) == ["NAME    X", "a       -", "longer  1"]
