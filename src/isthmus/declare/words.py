"""The small words that the command line and the declared file share: text in, checked value out.

Each takes the text and the field it stood in (`--ifname`, `networks.br0.mtu`) and raises InvalidInput
with the allowed range. What needs more than the one word is check.py's; what needs the kernel the engine's.
The hot commands load this: it imports errors and nouns alone.

Source: `dev_valid_name` and `__dev_alloc_name` in net/core/dev.c, `sysctl_dev_name_is_allowed` in
net/ipv4/devinet.c; `ETH_MIN_MTU` in linux/if_ether.h; names of namespaces are file names under /run/netns.
"""

from __future__ import annotations

from isthmus.errors import InvalidInput
from isthmus.model.address import IPV4, IPV6, Address, Prefix
from isthmus.model.declared import PublishWish
from isthmus.model.network import MTU_MIN, NAT, NIC, NONE, ROUTED
from isthmus.model.ruleset import PROTOCOLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from isthmus.model.network import Uplink

__all__ = [
    "DHCP",
    "MTU_MAX",
    "MTU_MIN",
    "PUBLISH_MAX",
    "address_range",
    "addresses",
    "confirm_within",
    "dhcp",
    "families",
    "ifname",
    "ips",
    "is_multicast",
    "leases",
    "link_address",
    "link_name",
    "mtu",
    "namespace_name",
    "network_name",
    "publish",
    "seconds",
    "target",
    "uplink",
]

MTU_MAX: Final = 65535
PUBLISH_MAX: Final = 4096
_NAME_BYTES: Final = 63
_FILE_NAME_BYTES: Final = 255
_IFNAME_BYTES: Final = 15
_DAY_S: Final = 86400
_ALTIFNAME_BYTES: Final = 127
_OPTION_BYTES: Final = 255
_HEX: Final = frozenset("0123456789abcdefABCDEF")
DHCP: Final = {"dhcp": IPV4, "dhcp6": IPV6}
_ALPHANUMERIC: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NAME: Final = _ALPHANUMERIC | frozenset("_.-")
# The kernel's isspace() is Latin-1: the byte a0 is a space to it, also as the second half of a UTF-8 letter.
_KERNEL_SPACES: Final = frozenset(b"\t\n\v\f\r \xa0")
_PUBLISH_FORM: Final = "write [HOSTIP:]HOSTPORT:PORT[/PROTO], as in 8080:80, 127.0.0.1:8080:80/tcp or [fd00::1]:53:53"


def network_name(text: str, field: str) -> str:
    """Check the name of a network (or of a declaration).

    Raises:
        InvalidInput: not 1 to 63 of A-Z a-z 0-9 _ . - beginning with a letter or digit.
    """
    if not 1 <= len(text) <= _NAME_BYTES:
        raise InvalidInput(field, text, f"a name has 1 to {_NAME_BYTES} characters, this one {len(text)}")
    if text[0] not in _ALPHANUMERIC or not _NAME.issuperset(text):
        raise InvalidInput(field, text, "a name is made of A-Z a-z 0-9 _ . - and begins with a letter or digit")
    return text


def namespace_name(text: str, field: str) -> str:
    """Check the name of a namespace, which is a file name under /run/netns.

    Raises:
        InvalidInput: empty, over 255 bytes, '.' or '..', begins with '-', or has '/', space or control characters.
    """
    size = len(_utf8(text, field))
    if not 1 <= size <= _FILE_NAME_BYTES:
        raise InvalidInput(field, text, f"a namespace's name has 1 to {_FILE_NAME_BYTES} bytes, this one {size}")
    if text in (".", ".."):
        raise InvalidInput(field, text, "a namespace's name is a file name, other than . and ..")
    if text[0] == "-":
        raise InvalidInput(field, text, "a namespace's name does not begin with -")
    if "/" in text or " " in text or not text.isprintable():
        raise InvalidInput(field, text, "a namespace's name has no /, space, newline or control character")
    return text


def target(text: str, field: str) -> str:
    """Check what names a namespace: a name (or pid, or id), or an absolute path."""
    if text[:1] != "/":
        if "/" in text:
            raise InvalidInput(field, text, "a path begins with /, and a namespace's name has none")
        return namespace_name(text, field)
    _utf8(text, field)
    if not text.isprintable():
        raise InvalidInput(field, text, "a path has no newline or control character here")
    return text


def ifname(text: str, field: str) -> str:
    """Check the name of a link as the kernel would.

    Raises:
        InvalidInput: empty, over 15 bytes, '.', '..', with '/', ':', '%', space or control characters,
            or a name that no new link can have (`lo`, `all`, `default`).
    """
    octets = _utf8(text, field)
    if not 1 <= len(octets) <= _IFNAME_BYTES:
        why = f"an interface name has 1 to {_IFNAME_BYTES} bytes, this one {len(octets)}"
        raise InvalidInput(field, text, why)
    if text in (".", ".."):
        raise InvalidInput(field, text, "an interface name is neither . nor ..")
    if not _KERNEL_SPACES.isdisjoint(octets) or not text.isprintable():
        raise InvalidInput(field, text, "an interface name has no space or control character")
    # The kernel takes % for the place of a number ("eth%d").
    for sign in "/:%":
        if sign in text:
            raise InvalidInput(field, text, f"an interface name has no {sign}")
    if text in ("all", "default"):
        raise InvalidInput(field, text, "the kernel keeps this name for its settings of every link")
    if text == "lo":
        raise InvalidInput(field, text, "every namespace has a link of this name, its loopback")
    return text


def uplink(text: str, field: str) -> tuple[Uplink, str]:
    """Check the kind of a network's way out; return it, and the name of the interface for `nic:LINK`."""
    kinds: dict[str, Uplink] = {NAT: NAT, ROUTED: ROUTED, NONE: NONE}
    if text in kinds:
        return kinds[text], ""
    kind, _, link = text.partition(":")
    if kind == NIC and link:
        return NIC, link_name(link, field)
    raise InvalidInput(field, text, "the uplink is nat, routed, none or nic:LINK")


def link_name(text: str, field: str) -> str:
    """Check a name that a link may have: an alternative one has up to 127 bytes. Source: linux/if.h, ALTIFNAMSIZ."""
    octets = _utf8(text, field)
    if not 1 <= len(octets) <= _ALTIFNAME_BYTES or not _KERNEL_SPACES.isdisjoint(octets) or "/" in text:
        raise InvalidInput(field, text, f"a link's name has 1 to {_ALTIFNAME_BYTES} bytes, no space and no /")
    return text


def known_ifname(text: str, field: str) -> str:
    """Check a name of a link that is there: its own as `ifname` does, or an alternative one, which may be longer."""
    return link_name(text, field) if len(_utf8(text, field)) > _IFNAME_BYTES else ifname(text, field)


def address_range(text: str, field: str) -> tuple[Address, Address]:
    """Read FIRST-LAST, two addresses of one family."""
    first, dash, last = text.partition("-")
    if not dash:
        raise InvalidInput(field, text, "a range is FIRST-LAST")
    low, high = Address.parse(first.strip(), field), Address.parse(last.strip(), field)
    if low.family != high.family or low.number > high.number:
        raise InvalidInput(field, text, "a range goes from an address to a later one of its family")
    return low, high


def confirm_within(text: str | None, field: str) -> int | None:
    """Read a number of seconds, or `none`, which is 0."""
    if text is None:
        return None
    if text == "none":
        return 0
    if text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= _DAY_S:
        return int(text)
    raise InvalidInput(field, text, f"not a number of seconds from 1 to {_DAY_S}, nor none")


def mtu(value: str | int, field: str) -> int:
    """Read an MTU in bytes; that IPv6 needs 1280 is check.py's.

    Raises:
        InvalidInput: no decimal number, or not 68 to 65535.
    """
    number = value if type(value) is int else _decimal(str(value))
    if number is None or not MTU_MIN <= number <= MTU_MAX:
        raise InvalidInput(field, value, f"an MTU is a number of {MTU_MIN} to {MTU_MAX} bytes")
    return number


def seconds(text: str, field: str) -> float:
    """Read a time in whole seconds.

    Raises:
        InvalidInput: no decimal number, or over 999999.
    """
    number = _decimal(text)
    if number is None:
        raise InvalidInput(field, text, "a time is a number of 0 to 999999 seconds")
    return float(number)


def addresses(texts: Iterable[str], field: str) -> tuple[Address, ...]:
    """Read addresses of which each family has one at most, as `--ip` and `--snat` take them.

    Raises:
        InvalidInput: not an address, or a second one of its family.
    """
    found: dict[int, Address] = {}
    for text in texts:
        address = Address.parse(text, field)
        if address.family in found:
            raise InvalidInput(field, text, f"a second IPv{address.family} address: at most one a family")
        found[address.family] = address
    return tuple(found.values())


def families(*, ipv4: bool, ipv6: bool) -> tuple[int, ...]:
    """Return the families that are meant: both where none is named."""
    return (*((4,) if ipv4 or not ipv6 else ()), *((6,) if ipv6 or not ipv4 else ()))


def leases(texts: Iterable[str]) -> tuple[int, ...]:
    """Return the families of which a DHCP server shall give the address, by the words among some addresses."""
    return tuple(sorted({DHCP[one] for one in texts if one in DHCP}))


def ips(texts: Iterable[str], field: str) -> tuple[tuple[Address, ...], tuple[int, ...]]:
    """Read addresses as `--ip` takes them; return them, and the families for which `dhcp` or `dhcp6` stands."""
    listed = list(texts)
    found = addresses([one for one in listed if one not in DHCP], field)
    leased = leases(listed)
    for one in found:
        if one.family in leased:
            raise InvalidInput(field, str(one), f"a second IPv{one.family} address: at most one a family")
    return found, leased


def dhcp(text: str, field: str) -> str:
    """Read a DHCP client identifier, octets in hex with colons between; return its digits, `auto` or `none`.

    Source: RFC 2132 section 9.14: at least two octets; an option has 255 at most.
    """
    if text in ("auto", "none"):
        return text
    octets = text.split(":")
    if 2 <= len(octets) <= _OPTION_BYTES and all(len(one) == 2 and _HEX.issuperset(one) for one in octets):
        return "".join(octets).lower()
    raise InvalidInput(
        field, text, "a client identifier is written as 01:02:03, two octets at least; or say auto or none"
    )


def link_address(text: str, field: str) -> tuple[Address, int]:
    """Read `ADDRESS/LENGTH` as the address of a direct link's end, and its prefix length.

    Raises:
        InvalidInput: no such thing, or the network, broadcast, unspecified, a loopback or a multicast address.
    """
    address, prefix = Prefix.parse_host(text, field)
    if prefix.length == 0:
        raise InvalidInput(field, text, f"the prefix length of a link's address is 1 to {prefix.bits}")
    if address.is_unspecified or address.is_loopback or is_multicast(address):
        raise InvalidInput(field, text, "not a unicast address that a link can have")
    if address.number not in prefix.hosts:
        kind = "network" if address.number == prefix.number else "broadcast"
        hosts = f"{prefix.address(prefix.hosts.start)} to {prefix.address(prefix.hosts.stop - 1)}"
        raise InvalidInput(field, text, f"is the {kind} address of {prefix}: hosts are {hosts}")
    return address, prefix.length


def is_multicast(address: Address) -> bool:
    """Whether this is in 224.0.0.0/4 or ff00::/8, or is the broadcast address."""
    if address.family == IPV4:
        return address.number >> 28 == 0xE or address.number == 0xFFFFFFFF
    return address.number >> 120 == 0xFF


def publish(text: str, field: str, *, allow_nonlocal: bool = False) -> PublishWish:
    """Read `[HOSTIP:]HOSTPORT:PORT[/PROTO]`; `PORT` or `HOSTIP::PORT` leave the host's port to be chosen.

    Ports may be ranges of equal length (`8000-8010:80-90`); an IPv6 HOSTIP stands in brackets.
    Without PROTO it is tcp.

    Raises:
        InvalidInput: another form, a port out of 1 to 65535, ranges that differ or hold over 4096 ports,
            a range without a host range, or a host address that cannot be published on.
    """
    head, slash, protocol = text.partition("/")
    if slash and protocol not in PROTOCOLS:
        raise InvalidInput(field, text, f"the protocol is {', '.join(PROTOCOLS)}, not {protocol!r}")
    host_text, host_ports, ports = _split_publish(head, text, field)
    host = None if host_text is None else _publish_host(host_text, text, field)
    port, count = _port_range(ports, text, field)
    host_port = None
    if host_ports:
        host_port, host_count = _port_range(host_ports, text, field)
        if host_count != count:
            raise InvalidInput(field, text, f"the ranges differ in length: {host_count} and {count} ports")
    elif count > 1:
        raise InvalidInput(field, text, "a range needs a range of host ports", hint=f"write {ports}:{ports}")
    return PublishWish(
        port=port,
        protocol=protocol or "tcp",
        host=host,
        host_port=host_port,
        count=count,
        allow_nonlocal=allow_nonlocal,
    )


def _split_publish(head: str, text: str, field: str) -> tuple[str | None, str, str]:
    """Cut into host address (or None), host ports (or nothing) and ports."""
    if head[:1] == "[":
        host, bracket, rest = head[1:].partition("]:")
        parts = rest.split(":")
        if bracket and len(parts) == 2 and ":" in host:
            return host, parts[0], parts[1]
    else:
        parts = head.split(":")
        if len(parts) == 1:
            return None, "", parts[0]
        if len(parts) == 2 and parts[0]:
            return None, parts[0], parts[1]
        if len(parts) == 3 and parts[0]:
            return parts[0], parts[1], parts[2]
        if len(parts) > 3:
            raise InvalidInput(field, text, "an IPv6 address stands in brackets here", hint=_PUBLISH_FORM)
    raise InvalidInput(field, text, "not a publish", hint=_PUBLISH_FORM)


def _publish_host(host: str, text: str, field: str) -> Address:
    try:
        address = Address.parse(host)
    except InvalidInput:
        raise InvalidInput(field, text, f"{host!r} is not an IPv4 or IPv6 address", hint=_PUBLISH_FORM) from None
    if address.is_unspecified:
        hint = "leave the host address out to publish on all of them"
        raise InvalidInput(field, text, f"{host} is no address of a host", hint=hint)
    if is_multicast(address):
        raise InvalidInput(field, text, f"{host} is not a unicast address")
    if address.family == IPV6 and address.is_loopback:
        raise InvalidInput(field, text, "the kernel cannot translate ::1", hint="publish on 127.0.0.1")
    return address


def _port_range(ports: str, text: str, field: str) -> tuple[int, int]:
    """Read `PORT` or `FIRST-LAST` as the first port and how many."""
    first_text, dash, last_text = ports.partition("-")
    first = _port(first_text, text, field)
    last = _port(last_text, text, field) if dash else first
    if last < first:
        raise InvalidInput(field, text, f"the range {ports} runs backwards", hint=f"write {last}-{first}")
    if last - first >= PUBLISH_MAX:
        raise InvalidInput(field, text, f"a publish has at most {PUBLISH_MAX} ports, this one {last - first + 1}")
    return first, last - first + 1


def _port(port: str, text: str, field: str) -> int:
    number = _decimal(port)
    if number is None or not 1 <= number <= 65535:
        raise InvalidInput(field, text, f"a port is a number of 1 to 65535, not {port!r}")
    return number


def _decimal(text: str) -> int | None:
    """Read a plain decimal number of at most six digits, without a leading zero."""
    if not (text.isascii() and text.isdigit()) or len(text) > 6 or (text[0] == "0" and text != "0"):
        return None
    return int(text)


def _utf8(text: str, field: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(field, text, "is not UTF-8") from None
