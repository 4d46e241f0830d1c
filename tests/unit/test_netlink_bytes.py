"""What we send, beside what iproute2 6.1 and nft 1.0.6 send for the command above it (seen by strace, Linux 6.18).

A message is compared as a tree: their order of attributes is another, the meaning is not. What one side has and
the other has not is named in the case. A failure shows both trees side by side.
"""

from __future__ import annotations

from typing import Any, Final

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.host import LIVE_GROUP, Element, Rule
from isthmus.netlink import nft
from isthmus.netlink.rtnl import address, link, neighbour, route, rule
from isthmus.netlink.wire import MESSAGE_HEADER, NLM_F_ACK, NLM_F_ECHO, NLM_F_REQUEST, Request, attribute_list

MAC1, MAC2, MAC3 = (Mac.parse(f"02:00:00:00:00:0{number}") for number in (1, 2, 3))
ANY: Final = Prefix(family=4, number=0, length=0)

# Which attributes hold attributes; a number first: a header of so many bytes comes before them.
Nesting = dict[int, Any]
_LINK: Final[Nesting] = {18: {2: {1: (16, {})}}}
_BRIDGE: Final[Nesting] = {18: {2: {}}}
_KEY: Final[Nesting] = {}
_SET: Final[Nesting] = {3: {1: {1: _KEY, 2: _KEY, 10: _KEY}}}


def tree(data: bytes, nesting: Nesting, path: str = "") -> list[str]:
    """Return a line for each attribute that holds no others: its path and its bytes, sorted."""
    lines = []
    for number, (kind, payload) in enumerate(attribute_list(data)):
        here = f"{path}{kind}" if path.count("/") != 1 or not path.startswith("3/") else f"{path}{kind}[{number}]"
        inner = nesting.get(kind)
        if inner is None:
            lines.append(f"{here} {payload.hex()}")
        elif isinstance(inner, tuple):
            lines += [f"{here} {payload[: inner[0]].hex()}", *tree(payload[inner[0] :], inner[1], f"{here}/")]
        else:
            lines += tree(payload, inner, f"{here}/")
    return sorted(lines)


def compare(
    request: Request, sent: str, head: int, nesting: Nesting, *, ours: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    """Hold a request against a message that another program sent."""
    size, kind, flags, _, _ = MESSAGE_HEADER.unpack_from(bytes.fromhex(sent))
    payload = bytes.fromhex(sent)[16:size]
    left = [f"type {request.kind}", f"flags {(request.flags & ~NLM_F_ECHO) | NLM_F_REQUEST:#x}"]
    right = [f"type {kind}", f"flags {flags & ~NLM_F_ACK:#x}"]
    left += [f"head {request.payload[:head].hex()}", *tree(request.payload[head:], nesting)]
    right += [f"head {payload[:head].hex()}", *tree(payload[head:], nesting)]
    assert set(ours) <= set(left), side_by_side(left, right)
    assert set(theirs) <= set(right), side_by_side(left, right)
    left, right = [one for one in left if one not in ours], [one for one in right if one not in theirs]
    assert left == right, side_by_side(left, right)


def side_by_side(left: list[str], right: list[str]) -> str:
    lines = [f"{'ours':<60}   theirs"]
    for one in dict.fromkeys((*left, *right)):
        a, b = one if one in left else "", one if one in right else ""
        lines.append(f"{a[:60]:<60} {'=' if a == b else '|'} {b[:60]}")
    return "\n" + "\n".join(lines)


# ip link add name br0 address 02:00:00:00:00:01 mtu 1499 group 1769174120 type bridge stp_state 0
BRIDGE: Final = (
    "6000000010000506eaf8076b00000000000000000000000000000000000000000a000100020000000001000008000400db05000008001b00"
    "6874736908000300627230001c0012000a00010062726964676500000c0002000800050000000000"
)
# ip link add name v0 address 02:00:00:00:00:02 mtu 1500 group 1769174120 numtxqueues 1 numrxqueues 1 master br0
#   type veth peer name eth0 address 02:00:00:00:00:03 mtu 1500 numtxqueues 1 numrxqueues 1 netns capns
VETH: Final = (
    "b8000000100005061072086b00000000000000000000000000000000000000000a000100020000000002000008000400dc05000008001b00"
    "6874736908001f0001000000080020000100000008000a000200000007000300763000005c0012000800010076657468500002004c000100"
    "000000000000000000000000000000000a000100020000000003000008000400dc05000008001f0001000000080020000100000008001c00"
    "04000000090003006574683000000000"
)
# ip address add 10.1.0.1/24 broadcast + dev br0
ADDRESS4: Final = "3000000014000506eaf8076b000000000218000002000000080002000a010001080001000a010001080004000a0100ff"
# ip address add fd01::1/64 dev br0 nodad
ADDRESS6: Final = (
    "4000000014000506eaf8076b000000000a4002000200000014000200fd01000000000000000000000000000114000100fd01000000000000"
    "0000000000000001"
)
# ip -4 route add default via 10.1.0.2 dev br0 protocol 105
ROUTE: Final = (
    "3400000018000506eaf8076b0000000002000000fe690001000000000800010000000000080005000a0100020800040002000000"
)
# ip -4 rule add priority 26880 from 10.0.0.2 lookup 1761607681 suppress_prefixlength 0 protocol 105
RULE4: Final = (
    "4400000020000506eaf8076b0000000002002000000000010000000008000600006900000800"
    "02000a00000208000f000100006908000e00000000000500150069000000"
)
# ip -6 rule add priority 26881 from fd01::2 lookup main suppress_prefixlength 0 protocol 105
RULE6: Final = (
    "4800000020000506eaf8076b000000000a008000fe0000010000000008000600016900001400"
    "0200fd01000000000000000000000000000208000e00000000000500150069000000"
)
# ip neigh delete 10.1.0.9 dev br0
NEIGHBOUR: Final = "240000001d000500ebf8076b00000000020000000200000080000000080001000a010009"
# ip link delete dev v0
DELETE: Final = "2000000011000500eaf8076b0000000000000000030000000000000000000000"

# nft add element inet isthmus anyport4 { tcp . 8080 : 10.1.0.2 . 80 }
ANYPORT4: Final = (
    "600000000c0a01040100000000000000010000000c000100697374686d7573000d000200616e79706f727434000000000800040000000001"
    "2800038024000180100001800c000100060000001f900000100002800c0001000a01000200500000"
)
# nft add element inet isthmus closed4 { 10.1.0.0/24 }
CLOSED4: Final = (
    "780000000c0a01040100000000000000010000000c000100697374686d7573000c000200636c6f7365643400080004000000000244000380"
    "1800018008000300000000010c0001800800010000000000100002800c000180080001000a0100001800038008000300000000010c000180"
    "080001000a010100"
)
# nft add element inet isthmus onlink4 { "br0" . 10.1.0.0/24 }
ONLINK4: Final = (
    "740000000c0a01040100000000000000010000000c000100697374686d7573000c0002006f6e6c696e6b3400080004000000000340000380"
    "3c0001801c00018018000100627230000000000000000000000000000a0100001c000a801800010062723000000000000000000000000000"
    "0a0100ff"
)
# nft add element inet isthmus bridges { "br0" }
BRIDGES: Final = (
    "540000000c0a01040100000000000000010000000c000100697374686d7573000c0002006272696467657300080004000000000420000380"
    "1c000180180001801400010062723000000000000000000000000000"
)
# nft delete element inet isthmus bridges { "br0" }
BRIDGES_GONE: Final = (
    "4c0000000e0a01000100000000000000010000000c000100697374686d7573000c0002006272696467657300200003801c00018018000180"
    "1400010062723000000000000000000000000000"
)


def test_a_bridge_is_made_as_by_ip() -> None:
    request = link.create_bridge("br0", mac=MAC1, mtu=1499, group=LIVE_GROUP)
    # ip leaves the NUL after the kind out.
    compare(request, BRIDGE, 16, _BRIDGE, ours=("18/1 62726964676500",), theirs=("18/1 627269646765",))


def test_a_veth_pair_is_made_as_by_ip() -> None:
    request = link.create_veth(
        "v0", mac=MAC2, mtu=1500, group=LIVE_GROUP, master=2, peer_name="eth0", peer_mac=MAC3, peer_netns_fd=4
    )
    compare(request, VETH, 16, _LINK, ours=("18/1 7665746800",), theirs=("18/1 76657468",))


def test_the_echo_of_a_pair_goes_to_no_socket_but_the_senders() -> None:
    for netns_fd, echo in ((None, NLM_F_ECHO), (5, 0)):
        request = link.create_veth(
            "v0",
            mac=MAC2,
            mtu=1500,
            group=0,
            master=0,
            peer_name="v0",
            peer_mac=MAC3,
            peer_netns_fd=4,
            netns_fd=netns_fd,
        )
        assert request.flags & NLM_F_ECHO == echo


def test_an_ipv4_address_is_added_as_by_ip() -> None:
    request = address.add(2, Address.parse("10.1.0.1"), 24, "")
    # Ours replaces. IFA_FLAGS: no duplicate-address detection; IFA_PROTO: ours.
    compare(request, ADDRESS4, 8, {}, ours=("flags 0x501", "8 02000000", "11 69"), theirs=("flags 0x601",))


def test_an_ipv6_address_is_added_as_by_ip() -> None:
    request = address.add(2, Address.parse("fd01::1"), 64, "")
    # ip sets the flag in the header, we in the attribute, which holds the newer ones too.
    ours = ("flags 0x501", "head 0a40000002000000", "8 02000000", "11 69")
    compare(request, ADDRESS6, 8, {}, ours=ours, theirs=("flags 0x601", "head 0a40020002000000"))


def test_a_default_route_is_added_as_by_ip() -> None:
    request = route.add(ANY, Address.parse("10.1.0.2"), 2, "")
    compare(request, ROUTE, 12, {}, ours=(), theirs=("1 00000000",))


@pytest.mark.parametrize(
    ("source", "priority", "table", "sent"), [("10.0.0.2", 26880, 0x69000001, RULE4), ("fd01::2", 26881, 0, RULE6)]
)
def test_a_rule_is_added_as_by_ip(source: str, priority: int, table: int, sent: str) -> None:
    one = Rule(netns="a", priority=priority, source=Address.parse(source), table=table, specific=True)
    compare(rule.add(one), sent, 12, {}, ours=(), theirs=())


def test_a_neighbour_is_forgotten_as_by_ip() -> None:
    request = neighbour.delete(2, Address.parse("10.1.0.9"))
    # ip says NUD_PERMANENT, which the kernel does not look at.
    ours, theirs = ("head 020000000200000000000000",), ("head 020000000200000080000000",)
    compare(request, NEIGHBOUR, 12, {}, ours=ours, theirs=theirs)


def test_a_link_is_deleted_by_name_where_ip_asks_for_its_index_first() -> None:
    ours = ("head 00000000000000000000000000000000", "3 763000")
    compare(link.delete("v0"), DELETE, 16, {}, ours=ours, theirs=("head 00000000030000000000000000000000",))


@pytest.mark.parametrize(
    ("one", "sent", "only_ours", "only_theirs"),
    [
        (
            Element(name="anyport4", parts=(6, 8080), data=(Address.parse("10.1.0.2"), 80)),
            ANYPORT4,
            (),
            ("4 00000001",),
        ),
        (Element(name="onlink4", parts=("br0", Prefix.parse("10.1.0.0/24"))), ONLINK4, (), ("4 00000003",)),
        (Element(name="bridges", parts=("br0",)), BRIDGES, (), ("4 00000004",)),
    ],
    ids=["anyport4", "onlink4", "bridges"],
)
def test_an_element_is_added_as_by_nft(
    one: Element, sent: str, only_ours: tuple[str, ...], only_theirs: tuple[str, ...]
) -> None:
    """Nft numbers the sets of a batch (attribute 4), for sets that are made in the same one."""
    (request,) = nft.add_elements([one])
    compare(request, sent, 4, _SET, ours=only_ours, theirs=only_theirs)


def test_an_interval_is_two_elements_where_nft_adds_the_end_of_what_is_before_it() -> None:
    """In an empty set nft marks 0.0.0.0 as the end of an interval, which changes nothing; its order is by number."""
    (request,) = nft.add_elements([Element(name="closed4", parts=(Prefix.parse("10.1.0.0/24"),))])
    keys = []
    for payload in (request.payload, bytes.fromhex(CLOSED4)[16:]):
        (body,) = [part for kind, part in attribute_list(payload, 4) if kind == 3]
        keys.append([tree(part, {1: {}}) for _, part in attribute_list(body)])
    start, end, zero = ["1/1 0a010000"], ["1/1 0a010100", "3 00000001"], ["1/1 00000000", "3 00000001"]
    assert keys == [[start, end], [zero, start, end]]


def test_an_element_is_deleted_as_by_nft() -> None:
    (request,) = nft.delete_elements([Element(name="bridges", parts=("br0",))])
    compare(request, BRIDGES_GONE, 4, _SET, ours=(), theirs=())


def full(request: Request) -> bytes:
    flags = request.flags | NLM_F_REQUEST | NLM_F_ACK
    return MESSAGE_HEADER.pack(16 + len(request.payload), request.kind, flags, 1, 0) + request.payload


def decoded(kind: Any, request: Request) -> Any:
    """Decode by pyroute2, a second reader of the wire."""
    found = kind(full(request))
    found.decode()
    return found


def test_pyroute2_reads_a_veth_pair_as_it_was_meant() -> None:
    request = link.create_veth(
        "v0", mac=MAC2, mtu=1400, group=LIVE_GROUP, master=2, peer_name="eth0", peer_mac=MAC3, peer_netns_fd=4
    )
    found = decoded(ifinfmsg, request)
    names = ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU", "IFLA_MASTER", "IFLA_GROUP")
    assert [found.get_attr(name) for name in names] == ["v0", str(MAC2), 1400, 2, LIVE_GROUP]
    info = found.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    inside = ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU", "IFLA_NET_NS_FD")
    assert [peer.get_attr(name) for name in inside] == ["eth0", str(MAC3), 1400, 4]


def test_pyroute2_reads_a_bridge_as_it_was_meant() -> None:
    found = decoded(ifinfmsg, link.create_bridge("br0", mac=MAC1, mtu=1400, group=LIVE_GROUP))
    assert [found.get_attr(name) for name in ("IFLA_IFNAME", "IFLA_ADDRESS", "IFLA_MTU")] == ["br0", str(MAC1), 1400]
    data = found.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert data.get_attr("IFLA_BR_STP_STATE") == 0


@pytest.mark.parametrize("text", ["10.1.0.1", "fd01::1"])
def test_pyroute2_reads_addresses_routes_and_neighbours_as_they_were_meant(text: str) -> None:
    one = Address.parse(text)
    found = decoded(ifaddrmsg, address.add(3, one, 24, ""))
    assert (found["index"], found["prefixlen"], found.get_attr("IFA_LOCAL")) == (3, 24, text)
    assert found.get_attr("IFA_FLAGS") == 0x02
    found = decoded(rtmsg, route.add(Prefix.around(one, 16), one, 3, ""))
    assert (found["dst_len"], found["proto"], found["table"]) == (16, route.RTPROT_ISTHMUS, 254)
    assert (found.get_attr("RTA_GATEWAY"), found.get_attr("RTA_OIF")) == (text, 3)
    found = decoded(ndmsg, neighbour.delete(3, one))
    assert (found["ifindex"], found.get_attr("NDA_DST")) == (3, text)


def test_the_dump_shows_what_differs() -> None:
    request = link.create_bridge("br0", mac=MAC1, mtu=1500, group=LIVE_GROUP)
    with pytest.raises(AssertionError, match=r"4 dc050000 +\| \n"):
        compare(request, BRIDGE, 16, _BRIDGE, ours=(), theirs=())
