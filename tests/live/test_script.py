"""The commands that a change amounts to, run by sh: they give the engine's state, and their undo the state before.

Each verb is done by the engine, undone by its undo script, and done again by its script.
"""

from __future__ import annotations

import json
import random
import re
import time
from typing import Any, Final

import pytest
from tests.live.driving import DEADLINE_S, drive

from isthmus.testing import HOST4, HOST4_SECOND, HOST6, Host, Lab

# What moves by itself, and the numbers of links, which are the kernel's choice.
_MOVING: Final = re.compile(
    r".*_timer|.*_life_time|expires|handle|dynamic_neigh_lifetime|packets|bytes|tso_max_size|state|operstate"
    # That is the kernel's choice; `link` of `bridge link` is the far end's index, looked up in the wrong namespace.
    r"|ifindex|link_index|link_netnsid|no|id|designated_port|link"
)
_LOOK: Final = r"""
look() {
    "$@" ip -j -d addr show
    "$@" ip -j -d -4 route show table all
    "$@" ip -j -d -6 route show table all
}
look
bridge -j -d link show
bridge -j fdb show
nft -j list ruleset
for name in $(ls /run/netns 2>/dev/null); do
    echo "\"$name\""
    look ip netns exec "$name"
done
"""
_FILES: Final = r"""
cd /proc/sys && grep -rs "" net/ipv4/conf net/ipv6/conf net/ipv4/ip_forward | sort
for folder in /run/netns /etc/netns /etc/sysctl.d "$ISTHMUS_RUN_DIR/hosts"; do
    [ -d "$folder" ] && find "$folder" -mindepth 1 -printf '%y %m %p %l\n' | sort
    [ -d "$folder" ] && find "$folder" -type f -size -64k -exec grep -Hs '' {} + | sort
done
true
"""


def look(host: Host) -> list[str]:
    """Return the state of a host and of all its namespaces, one object a line."""
    found: list[str] = []
    text, decoder = host.run("sh", "-c", _LOOK).stdout, json.JSONDecoder()
    position = 0
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        position = len(text) - len(text[position:].lstrip())
        for one in value["nftables"] if isinstance(value, dict) else value if isinstance(value, list) else [value]:
            found += [json.dumps(_still(one), sort_keys=True)] * (not _moves(one))
    return sorted(found) + host.run("sh", "-c", _FILES).stdout.splitlines()


def _moves(one: Any) -> bool:
    """Tell a learned FDB entry, and the multicast route that a link gets with its first carrier and keeps."""
    if not isinstance(one, dict):
        return False
    return ("mac" in one and one.get("state") != "permanent") or one.get("dst") == "ff00::/8"


def _still(found: object) -> object:
    if isinstance(found, list):
        # Carrier follows up to a second later.
        return [_still(one) for one in found if one not in ("NO-CARRIER", "LOWER_UP", "linkdown")]
    if not isinstance(found, dict):
        return found
    still: dict[str, Any] = {key: _still(one) for key, one in found.items() if not _MOVING.fullmatch(key)}
    if isinstance(still.get("elem"), list):
        still["elem"] = sorted(still["elem"], key=lambda one: json.dumps(one, sort_keys=True))
    if isinstance(still.get("addr_info"), list):
        still["addr_info"] = sorted(still["addr_info"], key=lambda one: json.dumps(one, sort_keys=True))
    return still


def settled(host: Host) -> list[str]:
    """Look until nothing moves: carrier and the routes that come with it follow a link's end a moment later."""
    before: list[str] = []
    found = look(host)
    deadline = time.monotonic() + DEADLINE_S
    while found != before and time.monotonic() < deadline:
        found, before = look(host), found
    return found


def expect(host: Host, wanted: list[str], script: str = "") -> None:
    lines = [""]
    deadline = time.monotonic() + 2.0
    while lines and time.monotonic() < deadline:
        got = look(host)
        lines = [f"- {one}" for one in wanted if one not in got] + [f"+ {one}" for one in got if one not in wanted]
    if lines:
        tokens = [set(re.findall(r'"[^"]*": (?:"[^"]*"|[^,{}]*)', line)) for line in lines]
        new = set[str]().union(*tokens[1:]) if len(lines) == 2 else set()
        lines += sorted(tokens[0] ^ new)
        pytest.fail("\n".join([*lines, script]))


def shell(host: Host, script: str) -> None:
    done = host.run("sh", "-e", input=script, check=False)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stderr}\n{script}"


def check_scripts(host: Host, source: str) -> None:
    """Do a verb (Python that leaves its report in `report`), undo it by the script, and do it by the script."""
    before = settled(host)
    script, undo = drive(host, f"{source}\nreap(state_directory())\nout = commands(report)")
    after = settled(host)
    assert after != before
    shell(host, undo)
    expect(host, before, undo)
    shell(host, script)
    expect(host, after, script)


# Generated declarations

_PREFIX: Final = {4: "10.{0}.0.0/24", 6: "fd0{0}::/64"}
_HOSTS: Final = {4: (HOST4, HOST4_SECOND), 6: (HOST6,)}
_SNAT: Final = {4: HOST4_SECOND, 6: HOST6}
_KINDS: Final = ("nat", "snat", "routed", "none", "closed")


class Generator:
    """Makes a declaration from a seed: networks of all kinds, namespaces on several, ports, links, commands."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._port = 8000
        self.families: dict[str, tuple[int, ...]] = {}
        self.kinds: dict[str, str] = {}

    def declaration(self) -> dict[str, Any]:
        names = [f"net{number}" for number in range(self._random.randint(1, 3))]
        networks = {name: self._network(number, name, names[:number]) for number, name in enumerate(names)}
        spaces = [f"ns{number}" for number in range(self._random.randint(1, 3))]
        choices = {name: self._random.sample(names, self._random.randint(0, len(names))) for name in spaces}
        namespaces = {name: self._namespace(chosen) for name, chosen in choices.items()}
        links = [self._link(number, spaces) for number in range(self._random.randint(0, 2))] if len(spaces) > 1 else []
        return {"name": "gen", "networks": networks, "namespaces": namespaces, "links": links}

    def moved(self, declared: dict[str, Any]) -> dict[str, Any]:
        """Return a declaration again, with each namespace on the next networks: links of one name come and go."""
        names = list(declared["networks"])
        following = dict(zip(names, names[1:] + names[:1], strict=True))
        namespaces = {
            name: self._namespace([following[one] for one in before["networks"]] or names[:1])
            for name, before in declared["namespaces"].items()
        }
        return {**declared, "namespaces": namespaces}

    def _network(self, number: int, name: str, earlier: list[str]) -> dict[str, Any]:
        kind = self.kinds[name] = _KINDS[(self._seed + number) % len(_KINDS)]
        families = self.families[name] = ((4,), (6,), (4, 6), (4, 6))[(self._seed // 2 + number) % 4]
        found: dict[str, Any] = {"subnets": [_PREFIX[family].format(number + 1) for family in families]}
        if kind in ("routed", "none"):
            found["uplink"] = kind
        if kind == "snat":
            found["snat"] = [_SNAT[family] for family in families]
        if kind == "closed":
            found["gateway"] = "none"
        elif kind != "none":
            allowed = [one for one in earlier if self.kinds[one] not in ("none", "closed")]
            if allowed and self._random.random() < 0.7:
                found["allow"] = allowed
        if self._random.random() < 0.3:
            found["isolate-ports"] = True
        if self._random.random() < 0.3:
            found["mtu"] = self._random.choice((1280, 1400, 9000) if 6 in families else (1000, 1280, 9000))
        return found

    def _namespace(self, chosen: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {"networks": {name: {} for name in chosen}}
        ports = [self._publish(name) for name in chosen if self.kinds[name] != "closed" for _ in range(3)]
        if ports:
            found["publish"] = ports
        if self._random.random() < 0.4:
            found["command"] = ["sh", "-c", "exec sleep '1000'"]
        return found

    def _publish(self, name: str) -> dict[str, Any]:
        self._port += 20
        count = self._random.choice((1, 1, 2, 5))
        protocol = self._random.choice(("", "/tcp", "/udp", "/sctp"))
        family = self._random.choice(self.families[name])
        hosts = ["", *(f"[{one}]:" if family == 6 else f"{one}:" for one in _HOSTS[family])]
        hosts += ["127.0.0.1:"] if family == 4 else []
        routed = self.kinds[name] == "routed"
        inner = self._port if routed else 80
        host = "" if routed else self._random.choice(hosts)
        return {"port": f"{host}{_range(self._port, count)}:{_range(inner, count)}{protocol}", "network": name}

    def _link(self, number: int, spaces: list[str]) -> list[dict[str, Any]]:
        a, b = self._random.sample(spaces, 2)
        found = []
        for side, name in enumerate((a, b)):
            ips = [f"172.16.{number}.{side + 1}/30", f"fd99:{number}::{side + 1}/64"]
            ips = self._random.sample(ips, self._random.randint(0, 2))
            found.append({"ns": name, "ip": ips, "name": f"veth{number}"} if ips else {"ns": name})
        return found


def _range(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


@pytest.mark.parametrize("seed", range(12))
def test_the_script_of_up_gives_the_state_of_the_engine(lab: Lab, seed: int) -> None:
    text = json.dumps(Generator(seed).declaration())
    empty = look(lab.host)
    drive(lab.host, f"wish = load_text({text!r}); do(up, wish); do(down, wish.name); reap(state_directory())")
    expect(lab.host, empty)
    check_scripts(lab.host, f"report = do(up, load_text({text!r}))")


@pytest.mark.parametrize("seed", [seed for seed in range(16) if len(Generator(seed).declaration()["networks"]) > 1])
def test_the_script_of_a_move_between_networks_gives_the_state_of_the_engine(lab: Lab, seed: int) -> None:
    generator = Generator(seed)
    declared = generator.declaration()
    moved = json.dumps(generator.moved(declared))
    drive(lab.host, f"do(up, load_text({json.dumps(declared)!r})); reap(state_directory())")
    check_scripts(lab.host, f"report = do(up, load_text({moved!r}))")


def test_the_generator_has_all_kinds() -> None:
    text = json.dumps([Generator(seed).declaration() for seed in range(12)])
    for word in ("routed", "none", "snat", "allow", "isolate-ports", "mtu", "127.0.0.1:", "/udp", "/sctp", "command"):
        assert word in text, word
    assert re.search(r"\d+-\d+:\d+-\d+", text)
    assert '"gateway": "none"' in text
    assert "fd99" in text


_BASE: Final = """
do(create_network, network("nat0", "10.1.0.0/24", "fd01::/64"))
do(create_network, network("routed0", "10.2.0.0/24", "fd02::/64", uplink="routed"))
do(create_network, network("none0", "10.3.0.0/24", uplink="none"))
do(create_namespace, "a"); do(create_namespace, "b")
do(attach, AttachmentWish(network="nat0"), "a", (port("8000:80"),))
"""
# What an interface may carry.
_RICH: Final = """
import subprocess as s
for line in (
    "address add 203.0.113.7/24 dev eth0 label eth0:7",
    "address add 198.51.100.1 peer 198.51.100.2/32 dev eth0",
    "address add 198.51.100.129/25 dev eth0 metric 50 noprefixroute",
    "address add 2001:db8:5::7/64 dev eth0 metric 77 nodad noprefixroute",
    "route add default via 203.0.113.9 src 203.0.113.7 metric 7 mtu lock 1400 table 100",
    "route add 192.0.2.0/24 via 192.0.2.77 dev eth0 onlink protocol static",
    "route add 10.66.0.0/16 nexthop via 203.0.113.9 dev eth0 weight 3 nexthop via 203.0.113.10 dev eth0",
    "-6 route add 2001:db8:98::/64 via 2001:db8::9 dev eth0 metric 33 mtu 1300 pref high",
    "nexthop add id 5 via 203.0.113.9 dev eth0",
    "route add 10.56.0.0/16 via 203.0.113.9 dev eth0 realm 7 rto_min 30ms features ecn",
    "route add 10.57.0.0/16 nexthop via 203.0.113.9 dev eth0 realm 3/4 nexthop via 203.0.113.10 dev eth0",
    "route add 10.55.0.0/16 nhid 5",
    "neighbour add 203.0.113.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent extern_learn protocol 42",
):
    s.run(["ip", *line.split()], check=True)
"""
_VERBS: Final = {
    "attach": ("", 'report = do(attach, AttachmentWish(network="nat0"), "b", (port("8080-8082:80-82/udp"),)).report'),
    "attach-second": (
        'do(unpublish, "a", port("8000:80")); do(publish, "a", port("80:80"))',
        'report = do(attach, AttachmentWish(network="routed0", default_route=True), "a").report',
    ),
    "attach-without-default": (
        "",
        'report = do(attach, AttachmentWish(network="nat0", default_route=False), "b", (port("8001:80"),)).report',
    ),
    "attach-none": ("", 'report = do(attach, AttachmentWish(network="none0", ifname="x"), "b", (port("1:1"),)).report'),
    "attach-apart": (
        'do(create_network, network("apart0", "10.5.0.0/24", isolate_ports=True))',
        'report = do(attach, AttachmentWish(network="apart0"), "b", (port("8081:80"),)).report',
    ),
    "attach-portless": (
        (
            "import subprocess as s;"
            " [s.run(['ip', *one.split()], check=True) for one in ('link add far0 type bridge', 'link set far0 up',"
            " 'neigh add 10.6.0.9 lladdr 02:00:00:00:00:77 dev far0 nud permanent router')];"
            ' do(create_network, network("ours0", "10.6.0.0/24", bridge="far0"))'
        ),
        'report = do(attach, AttachmentWish(network="ours0"), "b").report',
    ),
    "detach": ("", 'report = do(detach, "nat0", "a")'),
    "detach-apart": (
        (
            'do(create_network, network("apart0", "10.5.0.0/24", isolate_ports=True));'
            ' do(attach, AttachmentWish(network="apart0"), "b")'
        ),
        'report = do(detach, "apart0", "b")',
    ),
    "detach-moves": (
        'do(attach, AttachmentWish(network="none0"), "a"); do(attach, AttachmentWish(network="routed0"), "a")',
        'report = do(detach, "nat0", "a")',
    ),
    "publish": ("", 'report = do(publish, "a", port("[2001:db8::2]:8081:81/sctp"))[1]'),
    "publish-loopback": (
        'do(unpublish, "a", port("8000:80"))',
        'report = do(publish, "a", port("127.0.0.1:8081:81"))[1]',
    ),
    "unpublish": ("", 'report = do(unpublish, "a", port("8000:80"))'),
    "network-create": ("", 'report = do(create_network, network("more", "10.4.0.0/24", allow=frozenset({"nat0"})))[1]'),
    "network-create-long": ("", 'report = do(create_network, network("a-name-too-long-for-a-link", "10.4.0.0/24"))[1]'),
    "network-create-apart": (
        "",
        'report = do(create_network, network("apart0", "10.5.0.0/24", isolate_ports=True))[1]',
    ),
    "network-rm-apart": (
        (
            'do(create_network, network("apart0", "10.5.0.0/24", isolate_ports=True));'
            ' do(attach, AttachmentWish(network="apart0"), "b")'
        ),
        'report = do(remove_network, "apart0", force=True)',
    ),
    "network-rm": ("", 'report = do(remove_network, "none0")'),
    "network-rm-force": ("", 'report = do(remove_network, "nat0", force=True)'),
    "network-rm-last": (
        'do(remove_network, "none0"); do(remove_network, "routed0")',
        'report = do(remove_network, "nat0", force=True)',
    ),
    "network-create-nic": (
        _RICH,
        'report = do(create_network, NetworkWish(name="lan", uplink="nic", nic="eth0"), confirm_within=0)[1]',
    ),
    "network-rm-nic": (
        f'{_RICH}do(create_network, NetworkWish(name="lan", uplink="nic", nic="eth0"), confirm_within=0)',
        'report = do(remove_network, "lan", confirm_within=0)',
    ),
    "ns-create": ("", 'report = do(create_namespace, "c")'),
    "ns-rm": ("", 'report = do(remove_namespace, "a")'),
    "connect": (
        "",
        (
            'report = do(connect, LinkWish(a=LinkEndWish(namespace="a", addresses=((Address.parse("10.9.0.1"), 30),)),'
            ' b=LinkEndWish(namespace="b", addresses=((Address.parse("fd99::2"), 64),), ifname="x")))[1]'
        ),
    ),
    "forwarding-on": ("", "report = do(switch_forwarding, ForwardingWish(persist=True), on=True)"),
    "forwarding-link": ("", 'report = do(switch_forwarding, ForwardingWish(families=(4,), links=("lo",)), on=True)'),
    "forwarding-off": (
        "do(switch_forwarding, ForwardingWish(persist=True), on=True)",
        "report = do(switch_forwarding, ForwardingWish(persist=True), on=False)",
    ),
    "forwarding-off-somebody-elses": (
        "import subprocess as s; s.run(['sysctl', '-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'])",
        "report = do(switch_forwarding, ForwardingWish(), on=False)",
    ),
    "repair": (
        (
            "import subprocess as s; s.run(['ip', 'link', 'set', 'nat0', 'down', 'mtu', '1400']);"
            " s.run(['ip', '-n', 'a', 'addr', 'flush', 'dev', 'eth0'])"
        ),
        "report = do(repair)",
    ),
}


@pytest.mark.parametrize("verb", _VERBS)
def test_the_script_of_a_verb_gives_the_state_of_the_engine(lab: Lab, verb: str) -> None:
    first, source = _VERBS[verb]
    drive(lab.host, f"{_BASE}\n{first}\nreap(state_directory())")
    check_scripts(lab.host, source)


_BEFORE: Final = """
name: d
networks:
  n: {subnets: [10.1.0.0/24, "fd01::/64"]}
  o: {subnets: [10.2.0.0/24]}
namespaces:
  a: {networks: {n: {}, o: {}}, publish: ["8000:80", "9000-9009:90-99/udp"]}
  b: {networks: {n: {}}, publish: ["8001:80"]}
links: [[{ns: a, ip: 10.9.0.1/30, name: v}, {ns: b, ip: 10.9.0.2/30, name: v}]]
"""
_AFTER: Final = """
name: d
networks:
  n: {subnets: [10.1.0.0/24, "fd01::/64"], isolate-ports: true, snat: 203.0.113.3}
  p: {subnets: ["fd03::/64"], uplink: routed, allow: [n]}
namespaces:
  a:
    networks: {p: {}, n: {ip: 10.1.0.77, mac: "02:00:00:00:00:77", ifname: in0}}
    publish: [{port: "8000:81", network: n}, "90:90/udp"]
  b: {networks: {n: {}}, publish: ["8002:80"]}
forwarding: {persist: true}
links: [[{ns: a, ip: 10.9.0.5/30, name: v}, {ns: b, ip: 10.9.0.6/30, name: v}]]
"""


def test_the_script_of_a_changed_declaration_gives_the_state_of_the_engine(lab: Lab) -> None:
    drive(lab.host, f"do(up, load_text({_BEFORE!r})); reap(state_directory())")
    check_scripts(lab.host, f"report = do(up, load_text({_AFTER!r}))")


def test_the_script_of_changed_lengths_gives_the_state_of_the_engine(lab: Lab) -> None:
    drive(lab.host, f"do(up, load_text({_BEFORE!r})); reap(state_directory())")
    text = _BEFORE.replace("10.1.0.0/24", "10.1.0.0/25").replace("fd01::/64", "fd01::/80").replace("/30", "/29")
    check_scripts(lab.host, f"report = do(up, load_text({text!r}))")


def test_the_script_of_another_network_with_the_same_addresses_gives_the_state_of_the_engine(lab: Lab) -> None:
    before = "namespaces: {a: {networks: {n: {ip: [10.1.0.9, 'fd01::9']}}}}\nname: d\n"
    networks = "networks: {n: {subnets: [10.1.0.0/24, 'fd01::/64'], allow-overlap: true}}\n"
    drive(lab.host, f"do(up, load_text({before + networks!r})); reap(state_directory())")
    text = (before + networks).replace("n: {", "other: {")
    check_scripts(lab.host, f"report = do(up, load_text({text!r}))")


def test_show_commands_of_plan_is_the_script_of_up(lab: Lab) -> None:
    """What is chosen at random differs; the commands are the same, word for word otherwise."""
    planned, _ = drive(lab.host, f"out = commands(do(plan, load_text({_BEFORE!r})))")
    done, _ = drive(lab.host, f"out = commands(do(up, load_text({_BEFORE!r})))")
    drawn = re.compile(r"(02|fe)(:[0-9a-f]{2}){5}|isv[0-9a-f]{10}|[0-9a-f]{12}|fe80::[0-9a-f:]+|\b17\d{8}\b")
    assert drawn.sub("*", planned).splitlines() == drawn.sub("*", done).splitlines()
