"""The declared file: what it says becomes nouns, and all that is wrong with it is named by line and field."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.declare.file import SIZE_MAX, DeclarationErrors, load, load_placed, loads
from isthmus.declare.places import in_keys
from isthmus.errors import InvalidInput, NotFound, Refused
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.declared import (
    AttachmentWish,
    Declaration,
    ForwardingWish,
    LinkEndWish,
    LinkWish,
    NamespaceWish,
    NetworkWish,
    PublishWish,
)

NOTE = """\
name: note
networks:
  br0:
    subnets: [192.168.2.0/24, "fd00:2::/64"]
    gateway: 192.168.2.1
    uplink: nat
namespaces:
  net0:
    networks: {br0: {ip: 192.168.2.11}}
    publish: ["8080:80/tcp"]
    command: [python3, -m, http.server, "80"]
  net1:
    networks: {br0: {}}
links:
  - [{ns: net0, ip: 10.0.0.1/30, name: veth0}, {ns: net1, ip: 10.0.0.2/30, name: veth0}]
"""


def test_note_is_read() -> None:
    def end(namespace: str, address: str) -> LinkEndWish:
        return LinkEndWish(namespace=namespace, addresses=((Address.parse(address), 30),), ifname="veth0")

    expected = Declaration(
        name="note",
        networks=(
            NetworkWish(
                name="br0",
                subnets=(Prefix.parse("192.168.2.0/24"), Prefix.parse("fd00:2::/64")),
                gateways=(Address.parse("192.168.2.1"),),
            ),
        ),
        namespaces=(
            NamespaceWish(
                name="net0",
                attachments=(AttachmentWish(network="br0", ips=(Address.parse("192.168.2.11"),)),),
                publishes=(PublishWish(port=80, host_port=8080),),
                command=("python3", "-m", "http.server", "80"),
            ),
            NamespaceWish(name="net1", attachments=(AttachmentWish(network="br0"),)),
        ),
        links=(LinkWish(a=end("net0", "10.0.0.1"), b=end("net1", "10.0.0.2")),),
        source="note.yaml",
    )
    assert loads(NOTE, "note.yaml") == expected


def test_every_option_has_a_key() -> None:
    text = """\
networks:
  a:
    subnet: 10.0.0.0/24
    no-gateway: true
    bridge: br7
    uplink: nat
    snat: 192.0.2.1
    isolate-ports: true
    allow: c
    mtu: 1400
    allow-overlap: true
  b: {gateway: none, uplink: none}
namespaces:
  n:
    networks:
      a: {ip: [10.0.0.9], mac: "02:00:00:00:00:01", ifname: eth7, default-route: true}
      b: {no-default-route: true}
    publish: {port: 80, network: a}
"""
    found = loads(text.replace("port: 80", 'port: "127.0.0.1::80"'), "x.yaml")
    assert found.name == "x"
    assert found.networks[0] == NetworkWish(
        name="a",
        subnets=(Prefix.parse("10.0.0.0/24"),),
        gateways=(),
        bridge="br7",
        snat=(Address.parse("192.0.2.1"),),
        isolate_ports=True,
        allow=frozenset({"c"}),
        mtu=1400,
        allow_overlap=True,
    )
    assert found.networks[1].gateways == ()
    assert found.namespaces[0].attachments == (
        AttachmentWish(
            network="a",
            ips=(Address.parse("10.0.0.9"),),
            mac=Mac.parse("02:00:00:00:00:01"),
            ifname="eth7",
            default_route=True,
        ),
        AttachmentWish(network="b", default_route=False),
    )
    assert found.namespaces[0].publishes == (PublishWish(port=80, host=Address.parse("127.0.0.1"), network="a"),)


def test_forwarding_is_one_or_several() -> None:
    both = ForwardingWish(families=(4, 6), persist=True)
    assert loads("forwarding: {persist: true}\n", "x.yaml").forwarding == (both,)
    text = "forwarding:\n- {ipv4: true}\n- {ipv6: true, link: [eth0, eth1]}\n"
    assert loads(text, "x.yaml").forwarding == (
        ForwardingWish(families=(4,)),
        ForwardingWish(families=(6,), links=("eth0", "eth1")),
    )


def test_networks_may_be_a_list_of_names() -> None:
    found = loads("namespaces: {n: {networks: [a, b]}}", "x.yaml")
    assert [one.network for one in found.namespaces[0].attachments] == ["a", "b"]


def test_alias_stands_for_a_value() -> None:
    found = loads("namespaces: {n: {networks: &all [a, b]}, m: {networks: *all}}", "x.yaml")
    assert found.namespaces[0].attachments == found.namespaces[1].attachments


def _net(rest: str) -> str:
    return f"networks:\n  br0: {{subnets: [10.0.0.0/24], {rest}}}\n"


def _member(rest: str) -> str:
    return f"networks:\n  br0: {{subnets: [10.0.0.0/24]}}\nnamespaces:\n  n: {{networks: {{br0: {{{rest}}}}}}}\n"


def _subnets(text: str) -> str:
    return f"networks:\n  br0:\n    subnets: [{text}]\n"


BAD = [
    # YAML itself
    ("", 1, "", "is empty"),
    ("# nothing\n", 1, "", "is empty"),
    ("- a\n", 1, "", "must be a mapping"),
    ("text\n", 1, "", "must be a mapping"),
    ("name: a\n---\nname: b\n", 2, "", "a second document"),
    ("name: [\n", 2, "", "not YAML"),
    ("name: a: b\n", 1, "", "not YAML"),
    ("\tname: a\n", 1, "", "not YAML"),
    ("name: \0\n", 1, "", "not YAML"),
    ("name: \ud800\n", 1, "", "not UTF-8"),
    ("name: a\nname: b\n", 2, "name", "stands twice, first in line 1"),
    ("networks:\n  br0: {}\n  br0: {}\n", 3, "networks.br0", "stands twice, first in line 2"),
    ("name: !!str a\n", 1, "name", "tags are not read"),
    ("name: !x a\n", 1, "name", "tags are not read"),
    ("networks: !!python/object:os.system {}\n", 1, "networks", "tags are not read"),
    ("name: *a\n", 1, "name", "alias of nothing"),
    ("networks: &a {br0: *a}\n", 1, "networks.br0", "alias of nothing"),
    ("networks: {a: &a {}, b: {<<: *a}}\n", 1, "networks.b.<<", "merge keys are not read"),
    ("? [a]\n: b\n", 1, "", "a key is a text"),
    ("networks: " + "[" * 40, 1, "networks" + "[0]" * 31, "nested more than 32 deep"),
    # what YAML takes for something else
    ("networks: {no: {}}\n", 1, "networks.no", "YAML reads this key as a boolean"),
    ("networks: {1: {}}\n", 1, "networks.1", "YAML reads this key as a number"),
    ("namespaces:\n  2024-01-01: {}\n", 2, "namespaces.2024-01-01", "YAML reads this key as a date"),
    ("name: yes\n", 1, "name", "YAML reads this as a boolean"),
    ("name: 0123\n", 1, "name", "YAML reads this as a number"),
    ("name: 1e3\n", 1, "name", "YAML reads this as a number"),
    ("name: 0o17\n", 1, "name", "YAML reads this as a number"),
    ("name: 2024-01-01\n", 1, "name", "YAML reads this as a date"),
    ("name: null\n", 1, "name", "YAML reads this as null"),
    ("name: ~\n", 1, "name", "YAML reads this as null"),
    ("name:\n", 1, "name", "nothing is written here"),
    ("networks:\n", 1, "networks", "nothing is written here"),
    ("networks:\n  br0:\n", 2, "networks.br0", "nothing is written here"),
    ("namespaces:\n  n:\n    networks: [a]\n    publish:\n    - 22:22\n", 5, "namespaces.n.publish[0]", "a number"),
    ("namespaces:\n  n:\n    command: [sleep, 80]\n", 3, "namespaces.n.command[1]", "a number"),
    (_net("isolate-ports: yes"), 2, "networks.br0.isolate-ports", "must be true or false"),
    (_net('isolate-ports: "true"'), 2, "networks.br0.isolate-ports", "must be true or false"),
    (_net("mtu: 0x5dc"), 2, "networks.br0.mtu", "68 to 65535"),
    (_net("mtu: 1_500"), 2, "networks.br0.mtu", "68 to 65535"),
    (_net('mtu: "1500"'), 2, "networks.br0.mtu", "unquoted"),
    ("forwarding: {persist: yes}\n", 1, "forwarding.persist", "must be true or false"),
    # keys and types
    ("forwarding: true\n", 1, "forwarding", "must be a mapping"),
    ("forwarding:\n  family: 4\n", 2, "forwarding.family", "unknown key"),
    ("forwarding:\n- ipv4: true\n- link: a/b\n", 3, "forwarding[1].link", "has no /"),
    ("forwarding:\n- {ipv4: true}\n- {}\n", 3, "forwarding[1]", "IPv4 forwarding a second time"),
    ("forwarding:\n- {link: a}\n- {link: [a], ipv6: true}\n", 3, "forwarding[1]", "IPv6 forwarding on a a second"),
    ("network: {}\n", 1, "network", "unknown key"),
    (_net("gatway: 10.0.0.1"), 2, "networks.br0.gatway", "unknown key"),
    ("networks: [br0]\n", 1, "networks", "must be a mapping"),
    ("networks: {br0: []}\n", 1, "networks.br0", "must be a mapping"),
    ("links: {}\n", 1, "links", "must be a list"),
    ("name: [a]\n", 1, "name", "must be a text, not a list"),
    ("namespaces: {n: {command: python3}}\n", 1, "namespaces.n.command", "must be a list of arguments"),
    ("namespaces: {n: {command: []}}\n", 1, "namespaces.n", "names no program"),
    ("namespaces: {n: {networks: [a, a]}}\n", 1, "namespaces.n.networks", "names a network twice"),
    ("namespaces: {n: {networks: [[a]]}}\n", 1, "namespaces.n.networks", "names of networks"),
    ("links: [[{ns: a}]]\n", 1, "links[0]", "two ends"),
    ("links: [[{ns: a}, {ns: b}, {ns: c}]]\n", 1, "links[0]", "two ends"),
    ("links:\n- - {ns: a}\n  - {name: x}\n", 3, "links[0][1].ns", "is missing"),
    ("links:\n- ends:\n  - {ns: a}\n  - {ns: b, nz: c}\n", 4, "links[0].ends[1].nz", "unknown key"),
    (_net("subnet: 10.0.0.0/24"), 2, "networks.br0", "both subnet and subnets"),
    (_net("gateway: 10.0.0.1, no-gateway: true"), 2, "networks.br0", "both gateway and no-gateway"),
    # names
    ("name: a b\n", 1, "name", "a name is made of"),
    ("networks: {a/b: {}}\n", 1, "networks.a/b", "a name is made of"),
    ("namespaces: {..: {}}\n", 1, "namespaces...", "other than . and .."),
    ('namespaces: {"a\\nb": {}}\n', 1, "namespaces.a\\nb", "no /, space, newline"),
    (_member("ifname: sixteen-letters-"), 4, "namespaces.n.networks.br0.ifname", "1 to 15 bytes, this one 16"),
    (_member('ifname: "a:b"'), 4, "namespaces.n.networks.br0.ifname", "no :"),
    (_member("mac: 01:00:00:00:00:00"), 4, "namespaces.n.networks.br0.mac", "not a unicast MAC"),
    # subnets
    (_subnets("10.0.0.1/24"), 3, "networks.br0.subnets[0]", "host bits set"),
    (_subnets("10.0.0.0"), 3, "networks.br0.subnets[0]", "lacks a prefix length"),
    (_subnets("10.0.0.0/33"), 3, "networks.br0.subnets[0]", "0 to 32"),
    (_subnets("10.0.0.0/24, 10.0.1.0/24"), 3, "networks.br0.subnets[1]", "at most one subnet a family"),
    (_subnets("0.0.0.0/0"), 3, "networks.br0.subnets[0]", "at least 1"),
    (_subnets('"::/0"'), 3, "networks.br0.subnets[0]", "at least 1"),
    (_subnets("127.0.0.0/24"), 3, "networks.br0.subnets[0]", "loopback addresses (127.0.0.0/8)"),
    (_subnets("169.254.1.0/24"), 3, "networks.br0.subnets[0]", "link-local"),
    (_subnets("224.0.0.0/24"), 3, "networks.br0.subnets[0]", "multicast"),
    (_subnets("128.0.0.0/1"), 3, "networks.br0.subnets[0]", "link-local"),
    (_subnets('"fe80::/64"'), 3, "networks.br0.subnets[0]", "link-local"),
    (_subnets("10.0.0.0/32"), 3, "networks.br0.subnets[0]", "at most 31"),
    (_subnets('"fd00::/128"'), 3, "networks.br0.subnets[0]", "at most 127"),
    (
        "networks:\n  a: {subnets: [10.0.0.0/16]}\n  b: {subnet: 10.0.1.0/24}\n",
        3,
        "networks.b.subnet",
        "overlaps 10.0.0.0/16 of network a",
    ),
    ("networks:\n  a: {bridge: br9}\n  b: {bridge: br9}\n", 3, "networks.b.bridge", "the bridge of network a"),
    # gateway, snat, mtu, allow
    (_net("gateway: 10.0.1.1"), 2, "networks.br0.gateway", "outside the subnets of network br0 (10.0.0.0/24)"),
    (_net("gateway: 10.0.0.0"), 2, "networks.br0.gateway", "network address"),
    (_net("gateway: 10.0.0.255"), 2, "networks.br0.gateway", "broadcast address"),
    (_net("gateway: [10.0.0.1, 10.0.0.2]"), 2, "networks.br0.gateway[1]", "at most one a family"),
    (_net("gateway: nonee"), 2, "networks.br0.gateway", "nor none"),
    ("networks: {br0: {gateway: 10.0.0.1}}\n", 1, "networks.br0.gateway", "needs a subnet"),
    (_net("uplink: bridged"), 2, "networks.br0.uplink", "nat, routed, none or nic:LINK"),
    (_net("uplink: routed, snat: 192.0.2.1"), 2, "networks.br0.snat", "only an uplink of kind nat"),
    (_net('snat: "2001:db8::1"'), 2, "networks.br0.snat", "has no IPv6 subnet"),
    (_net("snat: [192.0.2.1, 192.0.2.2]"), 2, "networks.br0.snat[1]", "at most one a family"),
    (_net("mtu: 67"), 2, "networks.br0.mtu", "68 to 65535"),
    ("networks: {br0: {mtu: 1279}}\n", 1, "networks.br0.mtu", "at least 1280"),
    (_net("allow: br0"), 2, "networks.br0.allow", "with itself"),
    ("networks:\n  p: {allow: [q]}\n  q: {uplink: none}\n", 2, "networks.p.allow", "q has no way out"),
    ("networks:\n  p: {allow: [q], uplink: none}\n  q: {}\n", 2, "networks.p.allow", "p has no way out"),
    # attachments
    (_member("ip: 10.0.1.1"), 4, "namespaces.n.networks.br0.ip", "outside the subnets"),
    (_member("ip: 10.0.0.0"), 4, "namespaces.n.networks.br0.ip", "network address"),
    (_member("ip: 10.0.0.255"), 4, "namespaces.n.networks.br0.ip", "broadcast address"),
    (_member("ip: 10.0.0.1"), 4, "namespaces.n.networks.br0.ip", "gateway address"),
    (_member("ip: 10.0.0.300"), 4, "namespaces.n.networks.br0.ip", "not an IPv4 or IPv6 address"),
    (_member("ip: [10.0.0.3, 10.0.0.4]"), 4, "namespaces.n.networks.br0.ip[1]", "at most one a family"),
    (
        "namespaces:\n  n: {networks: {a: {ip: 10.0.0.3}}}\n  m: {networks: {a: {ip: 10.0.0.3}}}\n",
        3,
        "namespaces.m.networks.a.ip",
        "taken by namespace n",
    ),
    (
        "namespaces:\n  n: {networks: {a: {ifname: e}, b: {ifname: e}}}\n",
        2,
        "namespaces.n.networks.b.ifname",
        "the attachment to a in namespace n",
    ),
    (
        "namespaces:\n  n: {networks: {a: {default-route: true}, b: {default-route: true}}}\n",
        2,
        "namespaces.n.networks.b.default-route",
        "only one attachment",
    ),
    (
        "networks: {a: {uplink: none}}\nnamespaces:\n  n: {networks: {a: {default-route: true}}}\n",
        3,
        "namespaces.n.networks.a.default-route",
        "no way out",
    ),
    # publishes
    ("namespaces: {n: {publish: 8080:80}}\n", 1, "namespaces.n.publish", "is on no network"),
    ('namespaces: {n: {networks: [a], publish: "0:80"}}\n', 1, "namespaces.n.publish", "1 to 65535"),
    (
        "namespaces:\n  n:\n    networks: [a]\n    publish:\n    - {port: 8080:80, network: b}\n",
        5,
        "namespaces.n.publish[0].network",
        "is not on that network",
    ),
    (
        "namespaces:\n  n: {networks: {a: {mac: '02:00:00:00:00:01'}, b: {mac: '02:00:00:00:00:01'}}}\n",
        2,
        "namespaces.n.networks.b.mac",
        "is taken by namespace n on network a",
    ),
    (
        (
            "networks: {a: {}}\nnamespaces:\n  n: {networks: [a], publish: 8080:80}\n"
            "  m: {networks: [a], publish: 127.0.0.1:8080:81}\n"
        ),
        4,
        "namespaces.m.publish",
        "overlaps a publish of namespace n",
    ),
    (
        "networks: {a: {}}\nnamespaces:\n n: {networks: [a], publish: 80:80}\n m: {networks: [a], publish: 80:81}\n",
        4,
        "namespaces.m.publish",
        "overlaps a publish of namespace n",
    ),
    (
        "namespaces:\n  n:\n    networks: [a]\n    publish: [8005:80, 8000-8010:8000-8010]\n",
        4,
        "namespaces.n.publish[0]",
        "overlaps a publish of namespace n",
    ),
    (
        "networks: {a: {uplink: routed}}\nnamespaces:\n  n: {networks: [a], publish: 8080:80}\n",
        3,
        "namespaces.n.publish",
        "must equal the container's",
    ),
    (
        "networks: {a: {uplink: routed}}\nnamespaces:\n  n: {networks: [a], publish: 127.0.0.1:80:80}\n",
        3,
        "namespaces.n.publish",
        "the address is the container's",
    ),
    (
        """networks: {a: {uplink: routed}, b: {subnet: 10.0.0.0/24}}
namespaces: {n: {networks: [b, a], publish: '[2001:db8::1]:80:80'}}
""",
        2,
        "namespaces.n.publish",
        "the address is the container's",
    ),
    (
        "networks: {a: {subnet: 10.0.0.0/24}}\nnamespaces:\n  n: {networks: [a], publish: '[fd00::1]:8080:80'}\n",
        3,
        "namespaces.n.publish",
        "no IPv6 address",
    ),
    # links
    ("links: [[{ns: a}, {ns: a}]]\n", 1, "links[0][1].ns", "two different namespaces"),
    ("links: [[{ns: a, ip: 10.0.0.0/30}, {ns: b}]]\n", 1, "links[0][0].ip", "network address"),
    ("links: [[{ns: a, ip: 10.0.0.1/30}, {ns: b, ip: 10.0.0.1/30}]]\n", 1, "links[0][1].ip", "on this link already"),
    (
        "links:\n- [{ns: a, name: x}, {ns: b}]\n- ends:\n  - {ns: c}\n  - {ns: a, name: x}\n",
        5,
        "links[1].ends[1].name",
        "the name of links[0] in namespace a",
    ),
    ("links:\n- ends: [{ns: a, ip: 'fd00::1/64'}, {ns: b}]\n  mtu: 1000\n", 3, "links[0].mtu", "at least 1280"),
]


@pytest.mark.parametrize(("text", "line", "field", "why"), BAD)
def test_bad_input_is_named_by_line_and_field(text: str, line: int, field: str, why: str) -> None:
    with pytest.raises(DeclarationErrors) as caught:
        loads(text, "x.yaml")
    (only,) = caught.value.errors
    assert (only.line, only.field) == (line, field)
    assert why in only.why
    assert str(only) == str(caught.value)
    assert str(only).startswith(f"x.yaml:{line}:{only.column}: {field}")


def test_what_a_whole_lacks_is_said_beside_the_faults_of_its_parts() -> None:
    with pytest.raises(DeclarationErrors) as caught:
        loads("namespaces: {n: {publish: 8080, command: []}}\n", "x.yaml")
    assert {one.field for one in caught.value.errors} == {"namespaces.n.publish", "namespaces.n"}


def test_all_errors_are_said_at_once() -> None:
    text = """\
networks:
  br0:
    subnets: [192.168.2.0/24]
    mtu: 12
    isolate_ports: true
  br1: {subnet: 10.3.0.0/16, gateway: 10.4.0.1}
namespaces:
  net0:
    networks: {br1: {ip: 10.3.0.0, ifname: "eth:0"}}
    command: python3
  net0: {}
links:
  - [{ns: a}, {ns: a}]
"""
    with pytest.raises(DeclarationErrors) as caught:
        loads(text, "x.yaml")
    assert [(one.line, one.field) for one in caught.value.errors] == [
        (4, "networks.br0.mtu"),
        (5, "networks.br0.isolate_ports"),
        (6, "networks.br1.gateway"),
        (9, "namespaces.net0.networks.br1.ip"),
        (9, "namespaces.net0.networks.br1.ifname"),
        (10, "namespaces.net0.command"),
        (11, "namespaces.net0"),
        (13, "links[0][1].ns"),
    ]
    assert str(caught.value).splitlines()[0].startswith("x.yaml:4:10: networks.br0.mtu: '12': an MTU is")
    assert "did you mean isolate-ports?" in caught.value.hint


def test_faulty_item_of_a_list_hides_no_fault_of_the_others() -> None:
    text = """
networks: {br0: {subnets: 10.3.0.0/24}}
namespaces:
  a:
    networks: {br0: {ip: [10.3.0.300, 10.4.0.1, "fd00::1"]}}
    publish: [":::", "8080:80", "99999:80", {port: "8080:81", netwrk: br0}, "81:80", "8080-8082:1-3"]
forwarding: [{link: [":"]}, {ipv4: true}, {}]
"""
    with pytest.raises(DeclarationErrors) as caught:
        loads(text, "x.yaml")
    assert [(one.line, one.field, one.why.partition(" ")[0]) for one in caught.value.errors] == [
        (5, "namespaces.a.networks.br0.ip[0]", "not"),
        (5, "namespaces.a.networks.br0.ip[1]", "is"),
        (5, "namespaces.a.networks.br0.ip[2]", "is"),
        (6, "namespaces.a.publish[0]", "an"),
        (6, "namespaces.a.publish[2]", "a"),
        (6, "namespaces.a.publish[3].netwrk", "unknown"),
        (6, "namespaces.a.publish[5]", "overlaps"),
        (7, "forwarding[0].link[0]", "an"),
        (7, "forwarding[2]", "says"),
    ]


def test_faulty_link_hides_no_fault_of_the_others_and_they_are_called_by_their_numbers() -> None:
    text = """
links:
  - [{ns: a}]
  - [{ns: a, ip: [10.0.0.0/30, 10.0.0.1/30], name: x}, {ns: b, ip: 10.0.0.1/30, mac: x}]
  - [{ns: b}, {ns: c, nam: y}]
  - {ends: [{ns: a, name: x}, {ns: a}], mtu: big}
"""
    with pytest.raises(DeclarationErrors) as caught:
        loads(text, "x.yaml")
    assert [(one.line, one.field, one.why.partition(":")[0]) for one in caught.value.errors] == [
        (3, "links[0]", "a link has two ends"),
        (4, "links[1][0].ip[0]", "is the network address of 10.0.0.0/30"),
        (4, "links[1][1].ip", "is on this link already"),
        (4, "links[1][1].mac", "not a MAC address"),
        (5, "links[2][1].nam", "unknown key"),
        (6, "links[3].ends[0].name", "is the name of links[1] in namespace a already"),
        (6, "links[3].ends[1].ns", "a link joins two different namespaces"),
        (6, "links[3].mtu", "an MTU is a number of 68 to 65535 bytes"),
    ]


def test_faulty_uplink_hides_no_fault_of_the_network_that_holds_for_any_other() -> None:
    text = "networks:\n  a: {subnet: 10.0.0.0/24, gateway: 10.9.0.1, uplink: %s}\n"
    for written, fields in (("no", ["gateway", "uplink"]), ("ntt", ["gateway", "uplink"]), ("'nic:'", ["uplink"])):
        with pytest.raises(DeclarationErrors) as caught:
            loads(text % written, "x.yaml")
        assert [one.field for one in caught.value.errors] == [f"networks.a.{field}" for field in fields]


def test_fault_causes_no_further_objections() -> None:
    text = "networks: {a: {subnts: 10.0.0.0/24, gateway: 10.0.0.1}}\nnamespaces: {n: {networks: {a: {ip: 10.0.0.2}}}}\n"
    with pytest.raises(DeclarationErrors) as caught:
        loads(text, "x.yaml")
    assert [one.why for one in caught.value.errors] == ["unknown key"]
    assert caught.value.hint == "did you mean subnets?"


def test_aliases_are_bounded() -> None:
    lines = ["name: x", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(DeclarationErrors, match="aliases stand for more than 100000 values"):
        loads("\n".join(lines), "x.yaml")


def test_name_comes_from_the_stem() -> None:
    assert loads("networks: {}", "/etc/isthmus/web.prod.yaml").name == "web.prod"
    with pytest.raises(DeclarationErrors, match="the file's stem is none"):
        loads("networks: {}", "my file.yaml")


def test_message_shows_a_long_value_short() -> None:
    with pytest.raises(DeclarationErrors) as caught:
        loads(f"name: {'a' * 5000}", "x.yaml")
    assert len(str(caught.value)) < 300


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "note.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + NOTE.encode())
    assert load(str(path)).source == str(path)


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        load(str(tmp_path / "none.yaml"))


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    latin, large = tmp_path / "latin.yaml", tmp_path / "large.yaml"
    latin.write_bytes("name: a\n# \u00fc\n".encode("latin-1"))
    large.write_bytes(b"#" * (SIZE_MAX + 1))
    for path, why in [(tmp_path, "is a directory"), (latin, "not UTF-8: line 2"), (large, "over 4 MiB")]:
        with pytest.raises(InvalidInput, match=why):
            load(str(path))
    with pytest.raises(InvalidInput, match="cannot be read"):
        load("a\0b")


WORDS = [
    "name",
    "networks",
    "namespaces",
    "links",
    "br0",
    "subnets",
    "subnet",
    "gateway",
    "ip",
    "publish",
    "ns",
    "ends",
    "mtu",
    "command",
    "none",
    "true",
    "yes",
    "null",
    "22:22",
    "10.0.0.0/24",
    "10.0.0.1",
    "fd00::/64",
    "8080:80",
    "&a",
    "*a",
    "!!int",
    "<<",
    "~",
    ":",
    ",",
    "-",
    "[",
    "]",
    "{",
    "}",
    "?",
    "|",
    ">",
    "'",
    '"',
    "#",
    "%",
    "@",
]
SCRAPS = st.sampled_from([*WORDS, "\n", "\n  ", "\t", "\0", " "])


@given(st.text() | st.lists(SCRAPS).map(" ".join) | st.lists(SCRAPS).map("".join))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        loads(text, "x.yaml")
    except InvalidInput as error:
        assert isinstance(error, DeclarationErrors)  # noqa: PT017 - that nothing else is raised is the point


KEYS = st.sampled_from([*WORDS[:17], "port", "network", "default-route", "a"])
LEAVES = st.sampled_from(["br0", "a", "10.0.0.0/24", "10.0.0.1", "80", "8080:80", "[]", "{}", "none", "true", '"x y"'])


def _flow(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(children, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    pairs = st.lists(st.tuples(KEYS, children), max_size=3)
    return lists | pairs.map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items) + "}")


@given(st.dictionaries(st.sampled_from(["networks", "namespaces", "links"]), st.recursive(LEAVES, _flow)))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_structure_is_read_or_refused(tree: dict[str, str]) -> None:
    try:
        loads("".join(f"{key}: {value}\n" for key, value in tree.items()), "x.yaml")
    except InvalidInput as error:
        assert isinstance(error, DeclarationErrors)  # noqa: PT017 - that nothing else is raised is the point


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("choose another, or say --allow-overlap", "choose another, or say allow-overlap: true"),
        ("give one with --ip, or --ip dhcp", "give one with ip, or ip: dhcp"),
        ("give it a --range FIRST-LAST", "give it a range: FIRST-LAST"),
        ("isthmus forwarding off --persist", "isthmus forwarding off --persist"),
        ("tool --unknown-key", "tool --unknown-key"),
    ],
)
def test_a_hint_names_keys_where_it_named_options(hint: str, said: str) -> None:
    assert in_keys(hint) == said


def test_what_the_engine_says_gets_its_line_and_is_told_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(NOTE)
    _, places = load_placed(str(path))
    error = Refused("all of it")
    error.several = (
        Refused("taken", field="namespaces.net0.publish[0]"),
        InvalidInput("networks.br0.range", "x", "outside"),
        Refused("full", field="networks.br0.subnets[1]", hint="say --allow-overlap"),
        Refused("in use"),
    )
    told = places.tell(error)
    assert [one.message for one in told] == [
        "in use",
        f"{path}:3:3: networks.br0: 'x': outside",
        f"{path}:4:31: networks.br0.subnets[1]: full",
        f"{path}:10:15: namespaces.net0.publish[0]: taken",
    ]
    assert told[2].hint == "say allow-overlap: true"
