"""What a declared file asks for and this host cannot give: each named by file, line and field, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.live.driving import EngineRefused, drive, wait_for

from isthmus.testing import Lab, snapshot

HOST_SAYS = """\
networks:
  a: {subnets: [203.0.113.0/25]}
  b: {subnets: [10.2.0.0/16], bridge: nix}
namespaces: {c: {networks: {b: {}, q: {}}, publish: ["9.9.9.9:80:80"]}}
"""
OVERLAP = "subnet 203.0.113.0/25 overlaps the host's route to 203.0.113.0/24 by eth0"


def said(lab: Lab, folder: Path, text: str, status: int, *, verb: str = "up", name: str = "f.yaml") -> list[str]:
    """Return what is said of a file that is refused; the host is as before."""
    (folder / name).write_text(text)
    before = snapshot(lab.host)
    done = lab.host.isthmus(verb, name, check=False, cwd=folder)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert snapshot(lab.host) == before
    return done.stderr.splitlines()


@pytest.mark.parametrize(("verb", "status"), [("up", 64), ("plan", 1)])
def test_all_that_the_host_says_against_a_file_is_said_at_once(
    lab: Lab, tmp_path: Path, verb: str, status: int
) -> None:
    lines = said(lab, tmp_path, HOST_SAYS, status, verb=verb)
    assert lines == [
        f"error: f.yaml:2:17: networks.a.subnets[0]: {OVERLAP}",
        "hint: choose another, or say allow-overlap: true",
        "error: f.yaml:3:39: networks.b.bridge: cannot adopt bridge nix: there is no link of that name",
        "error: f.yaml:4:36: namespaces.c.networks.q: namespace c: no network 'q'",
        "error: f.yaml:4:54: namespaces.c.publish[0]: cannot publish on 9.9.9.9: this host has no such address",
        "hint: say allow-nonlocal: true if it will come",
    ]


def test_all_that_stands_against_one_network_is_said(lab: Lab, tmp_path: Path) -> None:
    lab.host.run("ip", "route", "add", "unreachable", "fd77::/64")
    lab.host.isthmus("network", "create", "n", "--subnet", "10.4.0.0/24", "--uplink", "none")
    text = "networks:\n  m: {subnets: [203.0.113.0/25, 'fd77::/80'], bridge: nix, allow: [n]}\n"
    lines = said(lab, tmp_path, text, 3)
    assert [line.split(": ")[1:3] for line in lines if line.startswith("error: ")] == [
        ["f.yaml:2:17", "networks.m.subnets[0]"],
        ["f.yaml:2:33", "networks.m.subnets[1]"],
        ["f.yaml:2:55", "networks.m.bridge"],
        ["f.yaml:2:60", "networks.m.allow"],
    ]
    typed = lab.host.isthmus("network", "create", "m", "--subnet", "203.0.113.0/25", "--bridge", "nix", check=False)
    assert typed.returncode == 3
    assert typed.stderr.splitlines() == [
        "error: cannot adopt bridge nix: there is no link of that name",
        f"error: {OVERLAP}",
        "hint: choose another, or say --allow-overlap",
    ]


def test_a_pair_that_the_host_makes_of_a_network_without_a_way_out_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.host.isthmus("network", "create", "p", "--subnet", "10.4.0.0/24", "--allow", "q")
    lines = said(lab, tmp_path, "networks:\n  q: {subnet: 10.5.0.0/24, uplink: none}\n", 3)
    assert lines[0] == "error: f.yaml:2:36: networks.q.uplink: networks q and p cannot be a pair: q has no way out"


def test_errors_of_one_class_keep_its_exit_status(lab: Lab, tmp_path: Path) -> None:
    refused = "networks:\n  a: {subnet: 203.0.113.0/25}\n  b:\n    bridge: nix\n"
    lines = said(lab, tmp_path, refused, 3)
    assert [line.split(": ")[1:3] for line in lines if line.startswith("error: ")] == [
        ["f.yaml:2:15", "networks.a.subnet"],
        ["f.yaml:4:13", "networks.b.bridge"],
    ]
    missing = "namespaces:\n  a: {networks: {p: {}}}\n  b: {networks: [q]}\n"
    lines = said(lab, tmp_path, missing, 4)
    assert [line.split(": ")[1:3] for line in lines] == [
        ["f.yaml:2:18", "namespaces.a.networks.p"],
        ["f.yaml:3:18", "namespaces.b.networks[0]"],
    ]


def test_what_is_full_taken_or_held_is_named_by_its_line(lab: Lab, tmp_path: Path) -> None:
    drive(lab.host, 'do(create_network, network("n", "10.1.0.0/29")); do(create_network, network("o", "10.3.0.0/24"))')
    drive(lab.host, '[do(create_namespace, f"a{i}") for i in range(5)]')
    drive(lab.host, '[do(attach, AttachmentWish(network="n"), f"a{i}") for i in range(5)]')
    drive(lab.host, 'do(attach, AttachmentWish(network="o", ips=(Address.parse("10.3.0.9"),)), "a0", (port("81:80"),))')
    listener = lab.host.spawn("python3", "-c", "import socket; s = socket.create_server(('', 7000)); s.accept()")
    wait_for(lambda: ":7000 " in lab.host.run("ss", "-Hltn").stdout, "a listener")
    text = """\
networks:
  o: {}
  mine: {subnet: 10.4.0.0/24}
namespaces:
  a1: {}
  b:
    networks: {n: {}}
  c:
    networks:
      o: {}
  d:
    networks: {mine: {}}
    publish:
      - 7000:80
      - 81:80
links:
  - [{ns: b}, {ns: elsewhere}]
"""
    lines = said(lab, tmp_path, text, 64)
    assert [line.split(": ")[1:4] for line in lines if line.startswith("error: ")] == [
        ["f.yaml:2:3", "networks.o", "network o belongs to nobody (a command made it), not to declaration f"],
        ["f.yaml:5:3", "namespaces.a1", "namespace a1 belongs to nobody (a command made it), not to declaration f"],
        ["f.yaml:7:16", "namespaces.b.networks.n", "subnet 10.1.0.0/29 is full"],
        ["f.yaml:14:9", "namespaces.d.publish[0]", f"host port 7000/tcp is taken by python3 (pid {listener.pid})"],
        ["f.yaml:15:9", "namespaces.d.publish[1]", "host port 81/tcp is taken"],
        ["f.yaml:17:20", "links[0][1].ns", "link between b and elsewhere"],
    ]
    listener.kill()
    listener.wait()
    taken = "namespaces:\n  b:\n    networks:\n      o:\n        ip: 10.3.0.9\n  c: {networks: {o: {ip: 10.9.0.1}}}\n"
    lines = said(lab, tmp_path, taken, 64)
    assert lines == [
        "error: f.yaml:5:13: namespaces.b.networks.o.ip: address 10.3.0.9 of network o is taken by a0",
        "error: f.yaml:6:26: namespaces.c.networks.o.ip: '10.9.0.1': outside network o (10.3.0.0/24)",
    ]


def test_what_was_up_before_is_not_in_the_way_of_what_is_said(lab: Lab, tmp_path: Path) -> None:
    before = 'networks: {m: {subnet: 10.1.0.0/24}}\nnamespaces: {a: {networks: [m], publish: ["80:80"]}}\n'
    (tmp_path / "f.yaml").write_text(before)
    lab.host.isthmus("up", "f.yaml", cwd=tmp_path)
    # n takes what m had, and the namespace's ports depend on m: neither is at fault.
    after = (
        "networks: {m: {subnet: 203.0.113.0/25}, n: {subnet: 10.1.0.0/24, allow-overlap: true}}\n"
        'namespaces: {a: {networks: [m, n], publish: ["80:80", "81:81"]}}\n'
    )
    lines = said(lab, tmp_path, after, 3)
    assert [line.split(": ")[1] for line in lines if line.startswith("error: ")] == ["f.yaml:1:24"]
    assert "overlaps the host's route" in lines[0]


@pytest.mark.parametrize(
    ("network", "place", "why"),
    [
        ("subnet: 10.40.0.0/24", "1:24: networks.m.subnet", "would be outside: b has 10.2.0.2"),
        ("subnet: 10.2.0.0/24, gateway: 10.2.0.2", "1:46: networks.m.gateway", "the gateway's address: b has 10.2.0.2"),
        ("subnet: 10.2.0.0/24, uplink: routed", "1:12: networks.m", "b publishes 8000:80/tcp, and by then could not"),
        (
            "subnet: 10.2.0.0/24, uplink: none, gateway: none",
            "1:12: networks.m",
            "b publishes 8000:80/tcp, and by then could not: cannot publish on network m: its bridge has no address",
        ),
    ],
)
def test_a_network_does_not_move_away_under_members_that_the_file_does_not_say(
    lab: Lab, tmp_path: Path, network: str, place: str, why: str
) -> None:
    text = "networks: {m: {%s}}\nnamespaces: {c: {networks: [m]}}\n"
    drive(lab.host, 'do(create_namespace, "b")')
    (tmp_path / "f.yaml").write_text("networks: {m: {subnet: 10.2.0.0/24}}\n")
    lab.host.isthmus("up", "f.yaml", cwd=tmp_path)
    lab.host.isthmus("attach", "m", "b", "-p", "8000:80")
    (tmp_path / "f.yaml").write_text(text % "subnet: 10.2.0.0/24")
    lab.host.isthmus("up", "f.yaml", cwd=tmp_path)
    (line, _) = said(lab, tmp_path, text % network, 3)
    assert line.startswith(f"error: f.yaml:{place}: ")
    assert why in line
    lab.host.isthmus("detach", "m", "b")
    lab.host.isthmus("up", "f.yaml", cwd=tmp_path)
    assert lab.host.isthmus("plan", "f.yaml", cwd=tmp_path).stdout == "nothing to change\n"


def test_without_a_file_the_place_is_the_path(lab: Lab) -> None:
    wish = 'Declaration(name="d", networks=(network("a", "203.0.113.0/25"), network("b", bridge="nix")))'
    with pytest.raises(EngineRefused) as caught:
        drive(lab.host, f"do(up, {wish})")
    text = str(caught.value)
    assert "Refused: networks.a.subnets[0]: subnet 203.0.113.0/25 overlaps the host's route" in text
    assert "\nnetworks.b.bridge: cannot adopt bridge nix" in text
