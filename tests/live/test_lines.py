"""Lines of what isthmus promises that no other test holds: limits, drift, owners, targets, rights."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.live.driving import EngineRefused, Sniffer, drive, up, wait_for

from isthmus.testing import HOST4, LAN4, Lab, Place, snapshot


def listing(lab: Lab, *argv: str) -> Any:
    return json.loads(lab.host.isthmus(*argv, "--format", "json").stdout)


def addresses(place: Place, link: str) -> list[str]:
    (found,) = place.ip_json("addr", "show", "dev", link)
    return [str(one["local"]) for one in found["addr_info"] if one["scope"] == "global"]


def default_link(place: Place, family: int) -> str:
    found = place.ip_json(f"-{family}", "route", "show", "default")
    return str(found[0]["dev"]) if found else ""


# Limits


def test_the_1024th_port_of_a_bridge_is_refused_and_nothing_changes(lab: Lab) -> None:
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/16")); do(create_namespace, "a")')
    lines = [f"link add p{number} type veth peer name q{number}\nlink set p{number} master n" for number in range(1022)]
    lab.host.run("ip", "-batch", "-", input="\n".join(lines) + "\n")
    drive(lab.host, 'do(create_namespace, "b"); do(attach, AttachmentWish(network="n"), "b")')
    before = snapshot(lab.host)
    with pytest.raises(EngineRefused, match=r"Refused: .*bridge n.*1023 ports"):
        drive(lab.host, 'do(attach, AttachmentWish(network="n"), "a", (port("80:80"),))')
    assert lab.host.netns("a").ip_json("link", "show") == lab.host.netns("a").ip_json("link", "show", "dev", "lo")
    drive(lab.host, "reap(state_directory())")
    assert snapshot(lab.host) == before
    told = 'do(detach, "n", "b"); do(attach, AttachmentWish(network="n"), "a")'
    drive(lab.host, told)  # a dead pair is no port


def test_the_1024th_port_of_a_bridge_is_an_error_of_the_file(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/16")
    lines = [f"link add p{number} type veth peer name q{number}\nlink set p{number} master n" for number in range(1022)]
    lab.host.run("ip", "-batch", "-", input="\n".join(lines) + "\n")
    file = lab.host.path / "full.yaml"

    def text(*names: str) -> str:
        return "namespaces:\n" + "".join(f"  {name}: {{networks: {{n: {{}}}}}}\n" for name in names)

    file.write_text(text("a"))
    lab.host.isthmus("up", str(file))
    before = snapshot(lab.host)
    file.write_text(text("a", "b", "c"))
    refused = lab.host.isthmus("up", str(file), check=False)
    why = "bridge n has 1023 ports by then, and a bridge holds no more"
    assert (refused.returncode, refused.stderr.splitlines()) == (
        3,
        [
            f"error: {file}:3:18: namespaces.b.networks.n: {why}",
            f"error: {file}:4:18: namespaces.c.networks.n: {why}",
            "hint: make a second network",
        ],
    )
    assert snapshot(lab.host) == before
    file.write_text(text("c"))
    lab.host.isthmus("up", str(file))


def test_addresses_are_given_in_turn_rest_and_are_given_again_when_nothing_else_is_free(lab: Lab) -> None:
    drive(
        lab.host, 'do(create_network, network("n", "10.1.0.0/29")); [do(create_namespace, f"a{i}") for i in range(7)]'
    )

    def attach(number: int) -> str:
        source = f'out = str(do(attach, AttachmentWish(network="n"), "a{number}").attachment.addresses[0])'
        return str(drive(lab.host, source))

    assert [attach(number) for number in range(3)] == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    drive(lab.host, 'do(detach, "n", "a0")')
    assert attach(0) == "10.1.0.5"
    assert attach(3) == "10.1.0.6"
    # 10.1.0.2 alone is left, and it rests.
    assert attach(4) == "10.1.0.2"
    with pytest.raises(EngineRefused, match=r"subnet 10\.1\.0\.0/29 is full.*larger subnet"):
        attach(5)


# Several networks

_TWO: Final = """
do(create_network, network("n", "10.1.0.0/24", "fd01::/64")); do(create_network, network("o", "10.2.0.0/24"))
do(create_network, network("p", "10.3.0.0/24", "fd03::/64")); do(create_namespace, "a")
"""


def test_the_default_route_and_what_is_published_follow_the_attachments(lab: Lab) -> None:
    drive(lab.host, f'{_TWO}\ndo(attach, AttachmentWish(network="n"), "a", (port("8080:80"),))')
    a = lab.host.netns("a")
    a.serve("a", 80)
    drive(lab.host, 'do(attach, AttachmentWish(network="o"), "a"); do(attach, AttachmentWish(network="p"), "a")')
    assert (default_link(a, 4), default_link(a, 6)) == ("eth0", "eth0")
    assert lab.lan.probe(HOST4, 8080) == f"a {LAN4} 80"

    def leads_to() -> set[str]:
        found = [one for one in listing(lab, "network", "inspect", "n")["elements"] if "anyport" in one["set"]]
        found += [one for one in listing(lab, "network", "inspect", "o")["elements"] if "anyport" in one["set"]]
        found += [one for one in listing(lab, "network", "inspect", "p")["elements"] if "anyport" in one["set"]]
        return {match for one in found for match in re.findall(r"10\.\d\.0\.\d|fd0\d::\d", json.dumps(one))}

    assert leads_to() == {"10.1.0.2", "fd01::2"}
    drive(lab.host, 'do(detach, "n", "a")')
    # Without IPv6 on the next, that of the one after it.
    assert (default_link(a, 4), default_link(a, 6)) == ("eth1", "eth2")
    assert leads_to() == {"10.2.0.2", "fd03::2"}
    assert lab.lan.probe(HOST4, 8080) == f"a {LAN4} 80"
    drive(lab.host, 'do(attach, AttachmentWish(network="n", default_route=True), "a")')
    assert (default_link(a, 4), default_link(a, 6)) == ("eth0", "eth0")
    assert lab.lan.probe(HOST4, 8080) == f"a {LAN4} 80"
    drive(lab.host, 'do(detach, "n", "a"); do(attach, AttachmentWish(network="n", default_route=False), "a")')
    assert (default_link(a, 4), default_link(a, 6)) == ("eth1", "eth2")


# Commands


def published(lab: Lab) -> list[str]:
    return [f"{one['namespace']} {one['spec']} {' '.join(one['targets'])}" for one in listing(lab, "ls")["ports"]]


def test_a_publish_does_not_come_to_lead_to_where_it_could_not_be_had(lab: Lab) -> None:
    for name, argv in {"n": (), "r": ("--uplink", "routed")}.items():
        subnet = {"n": "10.1.0.0/24", "r": "10.2.0.0/24"}[name]
        lab.host.isthmus("network", "create", name, "--subnet", subnet, *argv)
    for name in ("a", "b"):
        lab.host.isthmus("ns", "create", name)
    lab.host.isthmus("attach", "n", "a", "-p", "8000:80")
    done = lab.host.isthmus("attach", "r", "a", "--default-route", check=False)
    assert (done.returncode, published(lab)) == (3, ["a 8000:80/tcp 10.1.0.2:80"])
    assert "a publishes 8000:80/tcp, and by then could not: network r is routed" in done.stderr
    assert "hint: isthmus unpublish a 8000:80/tcp" in done.stderr
    lab.host.isthmus("unpublish", "a", "8000:80")
    lab.host.isthmus("publish", "a", "127.0.0.1:80:80")
    done = lab.host.isthmus("attach", "r", "a", "--default-route", check=False)
    assert "a publishes 127.0.0.1:80:80/tcp, and by then could not: network r is routed" in done.stderr
    lab.host.isthmus("unpublish", "a", "127.0.0.1:80:80")
    lab.host.isthmus("attach", "r", "a", "--default-route", "-p", "80:80", "-p", "81:81")
    lab.host.isthmus("attach", "n", "b", "-p", "80:80")
    # One cannot have the host's port by then, and goes with the attachment.
    lab.host.isthmus("detach", "r", "a")
    assert published(lab) == ["b 80:80/tcp 10.1.0.3:80", "a 81:81/tcp 10.1.0.2:81"]
    assert drive(lab.host, "out = steps(do(repair))") == []


@pytest.mark.parametrize("uplink", ["nat", "routed", "none"])
def test_no_port_leads_to_a_network_that_the_host_is_not_on(lab: Lab, uplink: str) -> None:
    """What came to it would leave by the host's default route."""
    switch = f"sw: {{subnets: [10.3.0.0/24, 'fd03::/64'], gateway: none, uplink: {uplink}}}"
    file = lab.host.path / "s.yaml"
    file.write_text(f"networks: {{{switch}}}\nnamespaces: {{a: {{networks: [sw], publish: ['80:80']}}}}\n")
    why = "cannot publish on network sw: its bridge has no address of its IPv4 subnet"
    done = lab.host.isthmus("up", str(file), check=False)
    assert done.returncode == 3
    assert f"s.yaml:2:44: namespaces.a.publish[0]: {why}\n" in done.stderr
    file.write_text(f"networks: {{n: {{subnet: 10.1.0.0/24}}, {switch}}}\nnamespaces: {{a: {{networks: [n, sw]}}}}\n")
    lab.host.isthmus("up", str(file))
    for more in ("[fd00::1]:80:80 --allow-nonlocal", "80:80 --network sw"):
        done = lab.host.isthmus("publish", "a", *more.split(), check=False)
        assert "network sw" in done.stderr
    # It leads where it can, and goes with that.
    lab.host.isthmus("publish", "a", "80:80")
    assert published(lab) == ["a 80:80/tcp 10.1.0.2:80"]
    assert lab.host.run("nft", "list", "map", "inet", "isthmus", "anyport6").stdout.count("elements") == 0
    lab.host.isthmus("detach", "n", "a")
    assert published(lab) == []


def test_what_is_published_goes_with_a_declared_attachment(lab: Lab) -> None:
    text = "name: x\nnetworks: {m: {subnet: 10.2.0.0/24}, o: {subnet: 10.3.0.0/24}}\nnamespaces: {w: {networks: [%s]}}"
    up(lab.host, text % "m")
    drive(lab.host, 'do(publish, "w", port("8012:80")); do(publish, "w", port("8013:80", network="m"))')
    up(lab.host, text % "o")
    assert published(lab) == ["w 8012:80/tcp 10.3.0.2:80"]
    up(lab.host, text % "")
    assert published(lab) == []
    assert lab.host.run("nft", "list", "map", "inet", "isthmus", "anyport4").stdout.count("elements") == 0


def test_an_ended_command_is_no_drift_and_restart_starts_it_again(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"namespaces: {{a: {{command: [sh, -c, 'echo x >> {tmp_path}/said']}}}}\n")
    said = tmp_path / "said"
    lab.host.isthmus("up", "c.yaml", cwd=tmp_path)

    def ended(times: int) -> bool:
        (one,) = listing(lab, "ls")["commands"]
        return one["state"] != "running" and said.exists() and said.read_text() == "x\n" * times

    wait_for(lambda: ended(1), "the command's end")
    assert lab.host.isthmus("plan", "c.yaml", cwd=tmp_path).returncode == 0
    assert lab.host.isthmus("up", "c.yaml", cwd=tmp_path).stdout == "nothing to change\n"
    assert ended(1)
    lab.host.isthmus("up", "c.yaml", "--restart", cwd=tmp_path)
    wait_for(lambda: ended(2), "the command's second end")


def test_a_command_is_started_again_with_its_namespace(lab: Lab, tmp_path: Path) -> None:
    command = f"[{sys.executable}, -m, http.server, --bind, 10.1.0.2, '80']"
    text = f"networks: {{n: {{subnet: 10.1.0.0/24}}}}\nnamespaces: {{c: {{networks: [n], command: {command}}}}}\n"
    (tmp_path / "c.yaml").write_text(text)
    for verb in (("up", "c.yaml"), ("repair",)):
        lab.host.isthmus("up", "c.yaml", cwd=tmp_path)
        (before,) = listing(lab, "ls")["commands"]
        lab.host.run("ip", "netns", "del", "c")
        assert "started again" in lab.host.isthmus(*verb, cwd=tmp_path).stdout
        (after,) = listing(lab, "ls")["commands"]
        assert after["state"] == "running"
        assert after["pid"] != before["pid"]
        wait_for(lambda: lab.host.probe("10.1.0.2", 80) != "refused", "the server")
        assert lab.host.isthmus("plan", "c.yaml", cwd=tmp_path).stdout == "nothing to change\n"


def test_down_ends_double_forked_descendants(lab: Lab, tmp_path: Path) -> None:
    source = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n"
    source += f"open('{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(1000)\n"
    (tmp_path / "daemon.py").write_text(source)
    command = json.dumps([sys.executable, "-I", "-S", str(tmp_path / "daemon.py")])
    (tmp_path / "c.yaml").write_text(f"namespaces: {{a: {{command: {command}}}}}\n")
    lab.host.isthmus("up", "c.yaml", cwd=tmp_path)
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text() != "", "the daemon")
    assert os.path.exists(f"/proc/{pid.read_text()}")
    lab.host.isthmus("down", "c", cwd=tmp_path)
    assert not os.path.exists(f"/proc/{pid.read_text()}")


# Owners


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("networks: {n: {}}", "network n belongs to declaration one"),
        ("namespaces: {a: {}}", "namespace a belongs to declaration one"),
        ("networks: {m: {}}\nnamespaces: {b: {networks: {m: {}}, publish: ['8080:80']}}", "taken: a publishes 8080:80"),
        ("namespaces: {mine: {}}", "namespace mine belongs to nobody"),
    ],
)
def test_what_another_declaration_claims_is_refused_with_its_owner(lab: Lab, text: str, words: str) -> None:
    one = "name: one\nnetworks: {n: {subnets: [10.1.0.0/24]}}\n"
    up(lab.host, f"{one}namespaces: {{a: {{networks: {{n: {{}}}}, publish: ['8080:80']}}}}\n")
    drive(lab.host, 'do(create_namespace, "mine")')
    before = snapshot(lab.host)
    two = f"name: two\n{text}"
    for verb in ("up", "plan"):
        with pytest.raises(EngineRefused, match=words):
            drive(lab.host, f"do({verb}, load_text({two!r}))")
    assert snapshot(lab.host) == before


_SWAP: Final = """
name: swap
networks: {{n: {{subnets: [10.1.0.0/24]}}}}
namespaces:
  a: {{networks: {{n: {{ip: {0}}}}}}}
  b: {{networks: {{n: {{ip: {1}}}}}}}
"""


def test_namespaces_of_one_declaration_exchange_their_addresses(lab: Lab) -> None:
    up(lab.host, _SWAP.format("10.1.0.2", "10.1.0.3"))
    up(lab.host, _SWAP.format("10.1.0.3", "10.1.0.2"))
    assert [addresses(lab.host.netns(name), "eth0") for name in "ab"] == [["10.1.0.3"], ["10.1.0.2"]]
    assert lab.host.netns("a").pings("10.1.0.2")
    assert up(lab.host, _SWAP.format("10.1.0.3", "10.1.0.2")) == []
    up(lab.host, _SWAP.format("10.1.0.2", "10.1.0.4").replace("  a: {networks: {n: {ip: 10.1.0.2}}}\n", ""))
    assert addresses(lab.host.netns("b"), "eth0") == ["10.1.0.4"]


def test_the_name_of_an_address_is_that_of_who_has_it_now(lab: Lab) -> None:
    names = lab.host.path / "run" / "hosts" / "n"
    for lines in (["10.1.0.9 a", "10.1.0.8 b"], ["10.1.0.8 a", "10.1.0.9 b"], ["10.1.0.9 c"]):
        spaces = "".join(f"  {name}: {{networks: {{n: {{ip: {ip}}}}}}}\n" for ip, name in map(str.split, lines))
        up(lab.host, f"name: f\nnetworks: {{n: {{subnets: [10.1.0.0/24]}}}}\nnamespaces:\n{spaces}")
        assert sorted(names.read_text().splitlines()[4:]) == sorted(lines)
    lab.host.isthmus("down", "f")
    assert not names.exists()


def test_a_declaration_exchanges_macs_and_names_of_links(lab: Lab) -> None:
    text = """
name: swap
networks: {{n: {{subnets: [10.1.0.0/24]}}, m: {{subnets: [10.2.0.0/24]}}}}
namespaces:
  a: {{networks: {{n: {{ifname: {0}, mac: "02:00:00:00:00:0{2}"}}, m: {{ifname: {1}}}}}}}
  b: {{networks: {{n: {{mac: "02:00:00:00:00:0{3}"}}}}}}
"""
    up(lab.host, text.format("x0", "x1", "5", "6"))
    for first, second, *macs in (("x1", "x0", "6", "5"), ("x0", "x2", "5", "6"), ("x2", "x3", "6", "7")):
        up(lab.host, text.format(first, second, *macs))
        a, b = lab.host.netns("a"), lab.host.netns("b")
        assert [addresses(a, one) for one in (first, second)] == [["10.1.0.2"], ["10.2.0.2"]]
        links = a.ip_json("link", "show", "dev", first), b.ip_json("link", "show", "dev", "eth0")
        assert [one["address"][-1] for (one,) in links] == macs
        assert up(lab.host, text.format(first, second, *macs)) == []


def test_a_network_that_others_use_stays_unless_forced(lab: Lab) -> None:
    empty = snapshot(lab.host)
    up(lab.host, "name: one\nnetworks: {n: {subnets: [10.1.0.0/24]}}\nnamespaces: {a: {networks: {n: {}}}}\n")
    drive(lab.host, 'do(create_namespace, "b"); do(attach, AttachmentWish(network="n"), "b", (port("80:80"),))')
    before = snapshot(lab.host)
    done = lab.host.isthmus("down", "one", check=False)
    assert (done.returncode, snapshot(lab.host)) == (3, before)
    assert "b on n" in done.stderr
    assert "a on n" not in done.stderr
    assert "--force" in done.stderr
    lab.host.isthmus("down", "one", "--force")
    assert [one["name"] for one in listing(lab, "ns", "ls")] == ["b"]
    assert listing(lab, "network", "ls") == []
    wait_for(lambda: len(lab.host.netns("b").ip_json("link", "show")) == 1, "the end of b's link")
    lab.host.isthmus("ns", "rm", "b")
    assert snapshot(lab.host) == empty


def test_what_others_have_on_a_namespace_or_run_in_it_stays_unless_forced(lab: Lab) -> None:
    one = "name: one\nnetworks: {n: {subnets: [10.1.0.0/24]}}\nnamespaces: {"
    up(lab.host, one + "a: {networks: [n]}, b: {}}\n")
    up(lab.host, "name: two\nnamespaces: {c: {}}\nlinks: [[{ns: b, ip: 10.9.0.1/30}, {ns: c, ip: 10.9.0.2/30}]]\n")
    drive(lab.host, 'do(create_network, network("o", "10.2.0.0/24")); do(attach, AttachmentWish(network="o"), "b")')
    drive(lab.host, 'do(publish, "a", port("80:80"))')
    before = snapshot(lab.host)
    done = lab.host.isthmus("down", "one", check=False)
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == (
        "error: namespaces a, b are in use: "
        "b on o (by command), 80:80/tcp of a (by command), the link of b to c (of two)"
    )
    with pytest.raises(EngineRefused, match=r"namespace b is in use: b on o .*, or isthmus down one --force"):
        up(lab.host, one + "a: {networks: [n]}}\n")
    assert snapshot(lab.host) == before
    drive(lab.host, 'do(detach, "o", "b"); do(unpublish, "a", port("80:80")); do(down, "two")')
    sleeper = lab.host.netns("b").spawn("sleep", "100")
    with pytest.raises(EngineRefused, match=rf"namespace b has processes inside: {sleeper.pid} \(sleep\)"):
        up(lab.host, one + "a: {networks: [n]}}\n")
    assert lab.host.isthmus("down", "one", check=False).returncode == 3
    lab.host.isthmus("down", "one", "--force")
    assert sleeper.wait(timeout=10) != 0
    assert lab.host.run("ip", "netns", "list").stdout == ""


def test_all_that_stands_against_down_is_said_at_once(lab: Lab) -> None:
    text = "name: one\nnetworks: {n: {subnets: [10.1.0.0/24]}}\nnamespaces: {a: {networks: [n]}}\n"
    up(lab.host, text)
    drive(lab.host, 'do(create_namespace, "b"); do(attach, AttachmentWish(network="n"), "b")')
    drive(lab.host, 'do(publish, "a", port("80:80"))')
    sleeper = lab.host.netns("a").spawn("sleep", "100")
    wait_for(lambda: lab.host.run("ip", "netns", "pids", "a").stdout.split() == [str(sleeper.pid)], "the sleeper")
    said = [
        "namespace a is in use: 80:80/tcp of a (by command)",
        "network n is in use: b on n",
        f"namespace a has processes inside: {sleeper.pid} (sleep)",
    ]
    done = lab.host.isthmus("down", "one", check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "hint: " not in line]) == (
        3,
        [f"error: {one}" for one in said],
    )
    with pytest.raises(EngineRefused) as caught:
        up(lab.host, "name: one\nnetworks: {}\n")
    assert all(one in str(caught.value) for one in said)


def test_down_all_takes_what_declarations_have_on_each_other(lab: Lab) -> None:
    empty = snapshot(lab.host)
    up(lab.host, "name: one\nnamespaces: {a: {}}\n")
    up(lab.host, "name: two\nnamespaces: {b: {}}\nlinks: [[{ns: a, ip: 10.9.0.1/30}, {ns: b, ip: 10.9.0.2/30}]]\n")
    lab.host.isthmus("down", "--all")
    assert snapshot(lab.host) == empty


def test_a_network_to_talk_with_that_is_not_there_is_noted(lab: Lab) -> None:
    done = lab.host.isthmus("network", "create", "m", "--subnet", "10.1.0.0/24", "--allow", "nix")
    assert "note: no network nix yet: m may talk with it when it is made\n" in done.stderr
    text = "networks: {o: {subnet: 10.2.0.0/24, allow: [p, m, nix]}, p: {subnet: 10.3.0.0/24}}"
    note = "no network nix yet: o may talk with it when it is made"
    assert drive(lab.host, f"out = do(up, load_text({text!r})).notes") == [note]
    lab.host.isthmus("network", "create", "nix", "--subnet", "10.4.0.0/24")
    assert drive(lab.host, f"out = do(up, load_text({text!r})).notes") == []


def test_an_address_to_translate_to_that_the_host_lacks_is_noted(lab: Lab) -> None:
    note = "leave as {}, which this host does not have"
    made = lab.host.isthmus("network", "create", "n", "--subnet", "10.1.0.0/24", "--snat", HOST4)
    assert "leave as" not in made.stderr
    made = lab.host.isthmus("network", "create", "m", "--subnet", "10.2.0.0/24", "--snat", "198.51.100.7")
    assert note.format("198.51.100.7") in made.stderr
    text = "name: f\nnetworks: {k: {subnets: [10.3.0.0/24], snat: 198.51.100.8}}\n"
    for verb, status in (("plan", 2), ("up", 0), ("plan", 0)):
        done = lab.host.isthmus(verb, "-", input=text, check=False)
        assert (done.returncode, note.format("198.51.100.8") in done.stderr) == (status, True)


# Drift

_DRIFT_TEXT: Final = """
name: d
networks: {n: {subnets: [10.1.0.0/24, "fd01::/64"]}, o: {subnets: [10.2.0.0/24]}}
namespaces:
  a: {networks: {n: {ip: [10.1.0.7, "fd01::7"], mac: "02:00:00:00:00:07"}}, publish: ["8080:80"]}
  b: {networks: {n: {}, o: {}}}
links: [[{ns: a, ip: 10.9.0.1/30, name: v}, {ns: b, ip: 10.9.0.2/30, name: v}]]
"""
_PORT: Final = "$(ip -o link show master n | sed -n '1s/^[0-9]*: \\([^@]*\\)@.*/\\1/p')"
_DRIFT: Final = {
    "link-deleted": "ip -n a link del eth0",
    "direct-link-deleted": "ip -n a link del v",
    "port-taken-off": f"ip link set {_PORT} nomaster",
    "port-down": f"ip link set {_PORT} down",
    "hairpin-off": f"bridge link set dev {_PORT} hairpin off",
    "inner-link-down": "ip -n a link set eth0 down",
    "address-deleted": "ip -n a addr del 10.1.0.7/24 dev eth0",
    "address6-deleted": "ip -n a addr del fd01::7/64 dev eth0",
    "gateway-deleted": "ip addr del 10.1.0.1/24 dev n",
    "route-deleted": "ip -n a route del default",
    "route6-deleted": "ip -n a -6 route del default",
    "bridge-down": "ip link set dev n down",
    "bridge-deleted": "ip link del dev n",
    "bridge-mtu": "ip link set dev n mtu 1300",
    "inner-mtu": "ip -n a link set eth0 mtu 1300",
    "mac-changed": "ip -n a link set eth0 address 02:00:00:00:00:99",
    "bridge-mac-changed": "ip link set dev n address 02:00:00:00:00:98",
    "renamed": "ip -n a link set eth0 down; ip -n a link set eth0 name other",
    "element-deleted": "nft delete element inet isthmus anyport4 '{ tcp . 8080 }'",
    "isolation-element-deleted": "nft delete element inet isthmus bridges '{ n }'",
    "rule-deleted": "nft flush chain inet isthmus wire",
    "table-deleted": "nft delete table inet isthmus",
    "sysctl-changed": "echo 0 > /proc/sys/net/ipv4/conf/n/forwarding",
    "uplink-sysctl-changed": "echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding",
    "hosts-line-deleted": "sed -i '/10.1.0.7/d' \"$ISTHMUS_RUN_DIR\"/hosts/n",
    "resolv-conf-deleted": "rm /etc/netns/a/resolv.conf",
    "namespace-deleted": "ip netns del a",
    "loopback-down": "ip -n a link set lo down",
    "stp-on": "ip link set dev n type bridge stp_state 1",
    "bridge-in-another-group": "ip link set dev n group default",
    "port-in-another-group": f"ip link set dev {_PORT} group default",
}


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, list[str]]]:
    with Lab(tmp_path_factory.mktemp("drift")) as lab:
        up(lab.host, _DRIFT_TEXT)
        yield lab, sorted_lines(steady(lab))


def steady(lab: Lab) -> str:
    """Return what a snapshot says of host and namespaces, without the numbers of links."""
    text = "".join(snapshot(place) for place in (lab.host, lab.host.netns("a"), lab.host.netns("b")))
    moving = (
        r'"(ifindex|link|link_index|link_netnsid|no|port_no|id|port_id|designated_port|tso_max_size|state|operstate)": '
    )
    text = re.sub(moving + r'("[^"]*"|\d+),? ?', "", text)
    return re.sub(r'"(NO-CARRIER|LOWER_UP|linkdown)",? ?', "", text)


def sorted_lines(text: str) -> list[str]:
    return sorted(line for line in text.splitlines() if "ff00::/8" not in line and "33:33:" not in line)


@pytest.mark.parametrize("kind", _DRIFT)
def test_drift_is_shown_by_plan_and_mended_by_up(drifting: tuple[Lab, list[str]], kind: str) -> None:
    lab, good = drifting
    lab.host.run("sh", "-ec", _DRIFT[kind])
    file = lab.host.path / "d.yaml"
    file.write_text(_DRIFT_TEXT)
    planned = lab.host.isthmus("plan", str(file), check=False)
    lab.host.isthmus("up", str(file))
    drive(lab.host, "reap(state_directory())")
    assert planned.returncode == 2, planned.stdout + planned.stderr
    assert lab.host.isthmus("plan", str(file)).returncode == 0
    now = sorted_lines(steady(lab))
    assert [one for one in good if one not in now] == []
    assert [one for one in now if one not in good] == []


def test_a_bridge_that_was_renamed_is_told_by_plan_and_named_again_by_up(drifting: tuple[Lab, list[str]]) -> None:
    lab, good = drifting
    lab.host.run("ip", "link", "set", "dev", "n", "name", "stolen")
    file = lab.host.path / "d.yaml"
    file.write_text(_DRIFT_TEXT)
    planned = lab.host.isthmus("plan", str(file), check=False)
    assert (planned.returncode, planned.stderr.splitlines()) == (
        1,
        ["error: bridge n is called stolen now", "hint: isthmus repair gives it its name again"],
    )
    lab.host.isthmus("ns", "create", "late")
    refused = lab.host.isthmus("attach", "n", "late", check=False)
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (3, "hint: isthmus repair")
    done = lab.host.isthmus("up", str(file))
    assert done.stderr == "note: bridge n was called stolen: it has its name again\n"
    assert lab.host.isthmus("plan", str(file)).returncode == 0
    lab.host.isthmus("ns", "rm", "late")
    drive(lab.host, "reap(state_directory())")
    assert sorted_lines(steady(lab)) == good


def test_a_bridge_that_was_deleted_stands_in_nobodys_way(lab: Lab) -> None:
    """A change looks at other namespaces of several networks, too, for their hosts files: their ports wait."""
    host = lab.host
    for name in ("n", "m"):
        host.isthmus("network", "create", name)
    for name in ("a", "b", "c"):
        host.isthmus("ns", "create", name)
    for pair in (("n", "a"), ("m", "a"), ("n", "b")):
        host.isthmus("attach", *pair)
    host.run("ip", "link", "del", "dev", "n")
    refused = host.isthmus("attach", "n", "c", check=False)
    assert (refused.returncode, refused.stderr.splitlines()) == (
        3,
        ["error: bridge n is not there: somebody deleted or renamed it", "hint: isthmus repair"],
    )
    host.isthmus("ns", "rm", "b")
    assert host.isthmus("repair").stdout.splitlines()[-1] == "1 added, 1 changed, 0 removed"
    assert host.isthmus("repair").stdout == "nothing to change\n"
    host.isthmus("attach", "n", "c")
    address = listing(lab, "network", "inspect", "n")["members"][0]["addresses"][0].partition("/")[0]
    lab.host.netns("c").run("ping", "-c1", "-W2", address)


# Targets


def test_a_target_is_named_by_name_path_pid_and_id(lab: Lab) -> None:
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/24")); do(create_namespace, "a")')
    identity = str(drive(lab.host, 'out = do(attach, AttachmentWish(network="n"), "a").attachment.id'))
    pid = lab.host.netns("a").spawn("sleep", "1000").pid
    nameless = lab.host.unnamed()
    lab.host.isthmus("attach", "n", str(nameless.pid))
    wait_for(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes(), "the sleeper")
    for number, target in enumerate(("a", "/run/netns/a", f"/proc/{pid}/ns/net", str(pid), identity)):
        lab.host.isthmus("publish", target, f"{8000 + number}:80")
        assert (
            lab.host.isthmus("exec", target, "--", "ip", "-br", "addr", "show", "eth0").stdout.split()[2]
            == "10.1.0.2/24"
        )
    assert len(lab.host.nft_json("list", "map", "inet", "isthmus", "anyport4")[0]["map"]["elem"]) == 5
    lab.host.isthmus("detach", "n", identity)
    assert [one["namespace"] for one in listing(lab, "network", "inspect", "n")["members"]] != ["a"]
    lab.host.isthmus("detach", "n", f"/proc/{nameless.pid}/ns/net")
    assert listing(lab, "network", "inspect", "n")["members"] == []


def test_detach_succeeds_when_the_namespace_is_gone(lab: Lab) -> None:
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/24"))')
    lab.host.run("ip", "netns", "add", "theirs")
    before = snapshot(lab.host)
    lab.host.isthmus("attach", "n", "theirs", "-p", "8080:80")
    lab.host.run("ip", "netns", "del", "theirs")
    lab.host.isthmus("detach", "n", "theirs")
    assert listing(lab, "ls")["namespaces"] == []
    lab.host.run("ip", "netns", "add", "theirs")
    wait_for(lambda: len(lab.host.ip_json("link", "show")) == 3, "the end of the link")
    now = snapshot(lab.host).splitlines()
    assert [
        one for one in now if one not in before.splitlines() and "tso_max_size" not in one and "ff00::/8" not in one
    ] == []
    lab.host.isthmus("attach", "n", "theirs", "-p", "8080:80")


def test_a_nonlocal_address_is_published_only_when_asked(lab: Lab) -> None:
    drive(lab.host, f'{_TWO}\ndo(attach, AttachmentWish(network="n"), "a")')
    lab.host.netns("a").serve("a", 80)
    refused = lab.host.isthmus("publish", "a", "203.0.113.77:80:80", check=False)
    assert (refused.returncode, "--allow-nonlocal" in refused.stderr) == (3, True)
    lab.host.isthmus("publish", "a", "203.0.113.77:80:80", "--allow-nonlocal")
    lab.host.run("ip", "addr", "add", "203.0.113.77/24", "dev", "eth0")
    assert lab.lan.probe("203.0.113.77", 80) == f"a {LAN4} 80"


def test_a_process_that_binds_a_published_port_afterwards_is_reported(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(
        "networks: {n: {subnets: [10.1.0.0/24]}}\nnamespaces: {a: {networks: {n: {}}, publish: ['8080:80']}}\n"
    )
    lab.host.isthmus("up", "d.yaml", cwd=tmp_path)
    pid = lab.host.serve("late", 8080, protocols=("tcp",)).pid
    for argv in (("plan", "d.yaml"), ("repair",), ("up", "d.yaml")):
        done = lab.host.isthmus(*argv, cwd=tmp_path)
        assert "8080/tcp" in done.stderr, argv
        assert str(pid) in done.stderr, argv
    assert str(pid) in lab.host.isthmus("ls", "--format", "json").stdout


def test_a_default_route_by_a_network_without_a_way_out_is_refused(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "10.5.0.0/24", "--uplink", "none")
    lab.host.isthmus("ns", "create", "a")
    refused = lab.host.isthmus("attach", "n", "a", "--default-route", check=False)
    assert (refused.returncode, "network n has no way out" in refused.stderr) == (3, True)


# As many ports as one publish may have, which is more than the kernel takes in one message by itself

MANY: Final = "4000-8095:4000-8095"


def test_as_many_ports_as_one_publish_may_have(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "n", "--subnet", "10.5.0.0/24", "--subnet", "fd00:5::/64")
    lab.host.isthmus("ns", "create", "a")
    lab.host.isthmus("attach", "n", "a")
    for protocol in ("tcp", "udp"):
        lab.host.isthmus("publish", "a", f"{MANY}/{protocol}")
    held = json.loads(lab.host.run("nft", "-j", "list", "map", "inet", "isthmus", "anyport6").stdout)
    (found,) = [one["map"]["elem"] for one in held["nftables"] if "map" in one]
    assert len(found) == 2 * 4096
    lab.host.isthmus("unpublish", "a", MANY)
    lab.host.isthmus("network", "rm", "n", "--force")


def test_as_many_ports_where_messages_stay_short(lab: Lab) -> None:
    # So it is without root where net.core.wmem_max is small, which no namespace has of its own.
    taken = drive(
        lab.host,
        f"""
from isthmus.netlink.socket import Socket
Socket._make_room = lambda *_: None
do(create_network, network('n', '10.5.0.0/24', 'fd00:5::/64'))
do(create_namespace, 'a')
ports = [port('{MANY}'), port('{MANY}/udp')]
do(attach, AttachmentWish(network='n'), 'a', ports)
import subprocess
held = json.loads(subprocess.check_output(['nft', '-j', 'list', 'map', 'inet', 'isthmus', 'anyport6']))
out = [len(one['map']['elem']) for one in held['nftables'] if 'map' in one]
do(remove_namespace, 'a')
do(remove_network, 'n')
""",
    )
    assert taken == [2 * 4096]
    assert lab.host.nft_json() == []


# Rights and features


def test_it_works_in_a_user_namespace(lab: Lab, tmp_path: Path) -> None:
    state, run = tmp_path / "s", tmp_path / "r"
    source = (
        "set -e; ip link set lo up; mount -t tmpfs tmpfs /run; export ISTHMUS_STATE_DIR=$1 ISTHMUS_RUN_DIR=$2;"
        ' i="$3 -m isthmus.doors.cli"; $i network create n --subnet 10.1.0.0/24; $i ns create a;'
        " $i attach n a -p 8080:80; ping -c1 -W2 10.1.0.2; $i network inspect n"
    )
    argv = (
        "unshare",
        "-Urnm",
        "--propagation",
        "private",
        "sh",
        "-c",
        source,
        "sh",
        str(state),
        str(run),
        sys.executable,
    )
    done = lab.host.run(*argv, check=False)
    if done.returncode:
        assert "error: " in done.stderr
        assert "hint: " in done.stderr
    else:
        assert "1 received" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_nft_it_says_so_with_its_own_status(lab: Lab) -> None:
    before = snapshot(lab.host)
    source = 'mount --bind /dev/null "$(readlink -f /usr/sbin/nft)"; exec "$@"'
    command = (sys.executable, "-m", "isthmus.doors.cli", "network", "create", "n", "--subnet", "10.1.0.0/24")
    done = lab.host.run("unshare", "-m", "--propagation", "private", "sh", "-c", source, "sh", *command, check=False)
    assert (done.returncode, done.stderr.count("error: ")) == (6, 1)
    assert "nft" in done.stderr
    assert snapshot(lab.host) == before


def test_a_read_only_proc_is_a_matter_of_rights(lab: Lab) -> None:
    before = snapshot(lab.host)
    source = 'mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@"'
    command = (sys.executable, "-m", "isthmus.doors.cli", "network", "create", "n", "--subnet", "10.1.0.0/24")
    done = lab.host.run("unshare", "-m", "--propagation", "private", "sh", "-c", source, "sh", *command, check=False)
    assert done.returncode == 5
    assert "/proc/sys" in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(lab.host) == before


# Links


@pytest.mark.parametrize("mtu", [1000, 1279, 1280, 1281, 9000])
def test_an_mtu_of_choice_is_on_bridge_and_both_ends_and_pinned(lab: Lab, mtu: int) -> None:
    drive(lab.host, f'do(create_network, network("n", "10.1.0.0/24", mtu={mtu})); do(create_namespace, "a")')
    drive(lab.host, 'do(attach, AttachmentWish(network="n"), "a")')
    assert {one["mtu"] for one in lab.host.ip_json("link", "show", "group", str(0x69737468))} == {mtu}
    assert lab.host.netns("a").ip_json("link", "show", "eth0")[0]["mtu"] == mtu
    lab.host.run("ip", "link", "add", "small", "mtu", str(mtu - 100), "type", "veth", "peer", "name", "other")
    lab.host.run("ip", "link", "set", "small", "master", "n", "up")
    assert lab.host.ip_json("link", "show", "n")[0]["mtu"] == mtu


def test_a_bridge_that_gets_its_first_port_again_forwards_at_once(lab: Lab) -> None:
    lab.host.isthmus("network", "create", "br0", "--subnet", "10.7.0.0/24")
    lab.host.isthmus("ns", "create", "a")
    rounds = """
wish = AttachmentWish(network="br0", ips=(Address.parse("10.7.0.9"),))
out = []
for _ in range(30):
    do(attach, wish, "a")
    out.append(os.system("ping -n -q -c1 -W0.5 10.7.0.9 >/dev/null"))
    do(detach, "br0", "a")
    reap(HOST.directory)
"""
    assert drive(lab.host, rounds) == [0] * 30


def test_the_mac_of_a_bridge_does_not_follow_its_ports(lab: Lab) -> None:
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/24"))')
    mac = lab.host.ip_json("link", "show", "n")[0]["address"]
    lab.host.run("ip", "link", "add", "low", "address", "00:00:00:00:00:02", "type", "veth", "peer", "name", "far")
    lab.host.run("ip", "link", "set", "low", "master", "n", "up")
    assert lab.host.ip_json("link", "show", "n")[0]["address"] == mac
    lab.host.run("ip", "link", "del", "low")
    assert lab.host.ip_json("link", "show", "n")[0]["address"] == mac


@pytest.mark.parametrize("name", ["a-name-too-long-for-a-link", "all", "default", "eth0"])
def test_a_network_whose_name_is_no_free_link_name_gets_another_bridge(lab: Lab, name: str) -> None:
    lab.host.isthmus("network", "create", name, "--subnet", "10.1.0.0/24")
    found = listing(lab, "network", "inspect", name)
    assert re.fullmatch("isth[0-9a-f]{8}", found["bridge"])
    assert lab.host.ip_json("link", "show", found["bridge"])[0]["address"] == found["mac"]


# Packets


def test_the_mss_is_clamped_to_a_narrower_way_out(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/24", mtu=1500)); do(create_namespace, "a")')
    drive(lab.host, 'do(attach, AttachmentWish(network="n"), "a")')
    for place in (lab.host, lab.lan):
        place.run("ip", "link", "set", "eth0", "mtu", "1300")
    lab.lan.serve("lan", 9000, protocols=("tcp",))
    sniffer = Sniffer(lab.lan, "eth0")
    assert lab.host.netns("a").probe(LAN4, 9000) == f"lan {HOST4} 9000"

    def is_syn(frame: bytes) -> bool:
        return (
            frame[12:14] == b"\x08\x00"
            and frame[23] == 6
            and frame[36:38] == (9000).to_bytes(2, "big")
            and frame[47] == 2
        )

    syn = sniffer.wait(is_syn)
    assert syn is not None
    assert syn[54:58] == b"\x02\x04" + (1300 - 40).to_bytes(2, "big")


def test_multicast_is_not_translated(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/24")); [do(create_namespace, x) for x in "ab"]')
    drive(lab.host, '[do(attach, AttachmentWish(network="n"), x) for x in "ab"]')
    sniffer = Sniffer(lab.host.netns("b"), "eth0")
    source = "import socket; s = socket.socket(2, 2); s.sendto(b'x', ('239.1.2.3', 5000))"
    lab.host.netns("a").python(source)
    frame = sniffer.wait(lambda one: one[30:34] == bytes((239, 1, 2, 3)))
    assert frame is not None
    assert frame[26:30] == bytes((10, 1, 0, 2))


_STREAM: Final = r"""
import socket, sys, threading, time
tcp = socket.create_connection((sys.argv[1], 7000))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect((sys.argv[1], 7000))
udp.setblocking(False)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
print("ready", flush=True)
begin, sent, got, turns, last = time.monotonic(), 0, 0, 0, 0
while not over.is_set() or (got < sent and time.monotonic() < last + 2):
    if not over.is_set() and time.monotonic() >= begin + sent / 1000:
        udp.send(b"x")
        sent, last = sent + 1, time.monotonic()
        if sent % 20 == 0:
            tcp.sendall(b"x\n")
            tcp.recv(100)
            turns += 1
    try:
        udp.recv(100)
        got += 1
    except BlockingIOError:
        pass
print(sent, got, turns, flush=True)
"""


def test_a_change_to_one_namespace_does_not_disturb_another(lab: Lab, bridge_nf: int) -> None:
    assert bridge_nf in (0, 1)
    text = "name: d\nnetworks: {n: {subnets: [10.1.0.0/24]}}\nnamespaces:\n"
    text += "  a: {networks: {n: {}}, publish: ['7000:7000', '7000:7000/udp']}\n"
    up(lab.host, f"{text}  b: {{networks: {{n: {{}}}}, publish: ['8080:80']}}\n")
    lab.host.netns("a").serve("a", 7000)
    lab.lan.probe(HOST4, 7000, "udp")
    stream = lab.lan.spawn(sys.executable, "-I", "-S", "-c", _STREAM, HOST4)
    assert stream.stdout is not None
    assert stream.stdout.readline() == "ready\n"
    up(lab.host, f"{text}  b: {{networks: {{n: {{mac: '02:00:00:00:00:09'}}}}, publish: ['8081:80/udp']}}\n")
    up(lab.host, f"{text}  c: {{networks: {{n: {{}}}}, publish: ['8082:80']}}\n")
    output, errors = stream.communicate(timeout=30)
    assert errors == ""
    sent, got, turns = map(int, output.split())
    assert (got, turns) == (sent, sent // 20)
    assert sent > 300


def test_a_port_that_is_published_twice_is_withdrawn_by_its_host_port(lab: Lab) -> None:
    host = lab.host
    host.isthmus("network", "create", "n", "--subnet", "10.3.0.0/24")
    host.isthmus("ns", "create", "a")
    host.isthmus("attach", "n", "a", "-p", "8080:80", "-p", "9090:80")
    done = host.isthmus("unpublish", "a", "80", check=False)
    assert (done.returncode, "more than once: 8080:80/tcp, 9090:80/tcp" in done.stderr) == (3, True)
    host.isthmus("unpublish", "a", "9090:80")
    assert "8080" in host.isthmus("unpublish", "a", "80").stdout
    assert published(lab) == []
