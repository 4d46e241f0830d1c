"""What a resident keeps in mind between its verbs, and what others change meanwhile.

`HOST` is the resident; `other()` makes the verbs of another process, which holds the lock in between.
"""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from tests.live.driving import drive

from isthmus.testing import Lab

_OTHERS: Final = """
import subprocess

def other(*words):
    subprocess.run([sys.executable, "-m", "isthmus.doors.cli", *words], check=True, stdout=subprocess.DEVNULL)

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def value(name):
    with open(f"/proc/sys/{name}") as file:
        return file.read().strip()

def join(namespace, network="n", *ports):
    return do(attach, AttachmentWish(network=network), namespace, [port(one) for one in ports])

do(create_network, network("n", "10.1.0.0/24"))
for name in "abcd":
    do(create_namespace, name)
first = join("a")
"""


def resident(lab: Lab, source: str) -> Any:
    return drive(lab.host, _OTHERS + source)


def test_it_sees_what_another_process_has_made(lab: Lab) -> None:
    out = resident(
        lab,
        """
other("network", "create", "m", "--subnet", "10.2.0.0/24")
other("attach", "n", "b", "-p", "8080:80")
out = [str(join("c", "m").attachment.addresses[0]), str(join("d").attachment.addresses[0])]
try:
    join("b", "m", "8080:81")
except IsthmusError as error:
    out.append(str(error))
""",
    )
    assert out == ["10.2.0.2", "10.1.0.4", "host port 8080/tcp is taken: b publishes 8080:80/tcp"]


def test_it_knows_who_was_attached_twice_meanwhile(lab: Lab) -> None:
    # Nothing of the firewall changes with that: the state file alone tells.
    out = resident(
        lab,
        """
do(create_network, network("m", "10.2.0.0/24"))
join("b")
other("attach", "m", "a")
join("c")
out = open("/etc/netns/a/hosts").read().split()
""",
    )
    assert "c" in out


def test_it_does_not_see_what_another_process_took_away(lab: Lab) -> None:
    out = resident(
        lab,
        """
other("network", "create", "m", "--subnet", "10.2.0.0/24")
join("b", "m")
other("network", "rm", "m", "--force")
try:
    join("c", "m")
except IsthmusError as error:
    out = str(error)
""",
    )
    assert out == "no network 'm'"


@pytest.mark.parametrize("family", [4, 6])
def test_it_is_told_of_default_routes_alone_and_follows_them(lab: Lab, family: int) -> None:
    out = resident(
        lab,
        f"""
ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
ip("link", "set", "up1", "up")
ip("addr", "add", "198.51.100.1/24", "dev", "up0")
ip("addr", "add", "2001:db8:1::1/64", "dev", "up0", "nodad")
ip("link", "set", "up0", "up")
known = HOST.outlook.links
join("b")
same = HOST.outlook.links is known
gateway = "198.51.100.9" if {family} == 4 else "2001:db8:1::9"
ip("-{family}", "route", "replace", "default", "via", gateway, "dev", "up0", "metric", "1")
out = [same, entered(), HOST.outlook.links.text()]
""",
    )
    same, notes, links = out
    assert same, "read again although no default route had changed"
    if family == 4:  # the network has no IPv6
        assert len(notes) == 1
        assert "net/ipv4/conf/up0/forwarding" in notes[0]
    assert "up0" in links.split()


def test_a_value_that_a_stranger_wrote_is_seen(lab: Lab) -> None:
    name = "net/ipv4/conf/n/route_localnet"
    out = resident(
        lab,
        f"""
join("b", "n", "8080:80")
out = [value("{name}")]
open("/proc/sys/{name}", "w").write("0")
join("c", "n", "8081:80")
out.append(value("{name}"))
""",
    )
    assert out == ["1", "1"]


def test_the_value_of_a_bridge_that_was_made_anew_is_not_the_old_ones(lab: Lab) -> None:
    name = "net/ipv4/conf/n/route_localnet"
    out = resident(
        lab,
        f"""
join("b", "n", "8080:80")
other("network", "rm", "n", "--force")
other("network", "create", "n", "--subnet", "10.1.0.0/24")
out = [value("{name}")]
join("c", "n", "8081:80")
out.append(value("{name}"))
""",
    )
    assert out == ["0", "1"]
    links = json.loads(lab.host.run("ip", "-j", "link", "show", "n").stdout)
    assert [one["ifname"] for one in links] == ["n"]


def test_it_makes_no_port_on_a_bridge_that_is_gone(lab: Lab) -> None:
    out = resident(
        lab,
        """
ip("link", "del", "dev", "n")
try:
    join("b")
except IsthmusError as error:
    out = [str(error)]
do(repair)
out.append(str(join("b").attachment.ifname))
""",
    )
    assert out == ["bridge n is not there: somebody deleted or renamed it", "eth0"]
    assert [one["master"] for one in lab.host.ip_json("link", "show", "type", "veth") if "master" in one] == ["n", "n"]
