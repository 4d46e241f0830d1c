"""The plain DHCP clients on a link: dhclient, dhcpcd, udhcpc; and what one that has ended left of its lease.

Which client identifier one sends is in its options, its configuration, or made of the MAC and the DUID that it keeps
(RFC 4361 section 6.1): servers that do not send it back (RFC 6842) leave no trace of it in a lease. Sources:
ISC dhcp client/dhclient.c (`-i`, form_duid, the default IAID); dhcpcd 9 src/dhcp.c, src/duid.c, src/if-options.c;
busybox networking/udhcp/dhcpc.c. Each was run, and looked at.
"""

from __future__ import annotations

import os

from isthmus.kernel.managers import Manager, read_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from isthmus.netlink.rtnl.link import Link

__all__ = ["clients_of", "last_identifier"]

_DHCLIENT_FOLDERS: Final = ("/var/lib/dhcp", "/var/lib/dhclient")
_DHCLIENT_CONF: Final = ("/etc/dhcp/dhclient.conf", "/etc/dhclient.conf")
_DHCPCD: Final = "/var/lib/dhcpcd"
_BOOT_UNITS: Final = "/etc/systemd/system/multi-user.target.wants"


def clients_of(link: Link, running: Iterable[tuple[int, str]]) -> Iterator[Manager]:
    """Yield the clients among some (pid, name) that are on a link."""
    seen = set()
    for pid, name in running:
        find = _CLIENTS.get(name)
        argv = _argv(pid) if find is not None else []
        made = find(pid, argv, link) if find is not None and argv else None
        if made is not None and made.remedy not in seen:
            seen.add(made.remedy)
            yield made


def _argv(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\0").split("\0")
    except OSError:
        return []  # ended meanwhile


def _after(argv: list[str], option: str) -> str:
    """Return the word after an option; nothing where it was not given."""
    return argv[argv.index(option) + 1] if option in argv[:-1] else ""


def last_identifier(link: Link) -> str | None:
    """Return the identifier that a client which has ended last sent for a link; None: none left a lease of it."""
    for folder in _DHCLIENT_FOLDERS:
        for name in _names(folder):
            if name.startswith("dhclient") and name.endswith((".leases", ".lease")):
                lines = read_lines(f"{folder}/{name}")
                if f'  interface "{link.name}";' in lines:
                    return _dhclient_identifier(lines, _dhclient_conf([]), link, by_duid=name != "dhclient.leases")
    if os.path.exists(f"{_DHCPCD}/{link.name}.lease"):
        return _dhcpcd_identifier(link)
    return None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder), key=lambda name: -os.stat(f"{folder}/{name}").st_mtime)
    except OSError:
        return []


# dhclient


def _dhclient(pid: int, argv: list[str], link: Link) -> Manager | None:
    with_value = {"-p", "-e", "-s", "-g", "-lf", "-pf", "-cf", "-sf", "-df", "-D", "-H", "-F", "-V", "--timeout"}
    bare = [one for at, one in enumerate(argv) if at and not one.startswith("-") and argv[at - 1] not in with_value]
    if bare and link.name not in bare:
        return None  # without any it is on all links
    options = {*argv}
    only6 = not options.isdisjoint({"-6", "-S", "-T", "-P", "-N"})
    if not options.isdisjoint({"-S", "-P"}) and options.isdisjoint({"-T", "-N"}):
        return None  # it asks for information or a prefix, not for an address
    file = f"dhclient{'6' * only6}.leases"
    files = [_after(argv, "-lf")] if "-lf" in argv else [f"{folder}/{file}" for folder in _DHCLIENT_FOLDERS]
    lines = [line for file in files for line in read_lines(file)]
    if f'  interface "{link.name}";' not in lines and not bare:
        return None
    return Manager(
        name=f"dhclient (pid {pid})",
        leases=True,
        remedy=f"kill {pid}",  # `dhclient -x` would take the address away
        identifier=_dhclient_identifier(lines, _dhclient_conf(argv), link, by_duid="-i" in argv),
        only6=only6,
    )


def _dhclient_conf(argv: list[str]) -> list[str]:
    named = _after(argv, "-cf")
    return [line for path in ((named,) if named else _DHCLIENT_CONF) for line in read_lines(path)]


def _dhclient_identifier(lines: list[str], conf: list[str], link: Link, *, by_duid: bool) -> str | None:
    """Return what its configuration says, or the lease, or with `-i` the default DUID; else none is sent."""
    mac = link.mac.packed.hex() if link.mac is not None else ""
    for line in (*conf, *reversed(lines)):
        words = line.replace(";", " ").replace("=", " ").split()
        if "dhcp-client-identifier" in words and words[0] in ("send", "option"):
            value = words[-1]
            if value == "hardware":
                return f"01{mac}"
            if value.startswith('"'):
                return _octets(line[line.index('"') + 1 : line.rindex('"')]).hex()
            return "".join(one.zfill(2) for one in value.lower().split(":"))
    for line in lines:
        if by_duid and line.startswith('default-duid "'):
            return f"ff{mac[-8:]}{_octets(line[14 : line.rindex(chr(34))]).hex()}"
    return ""


def _octets(text: str) -> bytes:
    r"""Read dhclient's strings: `\ooo` is an octet, `\x` is x. Source: ISC dhcp common/print.c, pretty_escape."""
    found, at = bytearray(), 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 4].isdigit():
            found.append(int(text[at + 1 : at + 4], 8))
            at += 4
        else:
            at += text[at] == "\\"
            found += text[at].encode()
            at += 1
    return bytes(found)


# dhcpcd


def _dhcpcd(pid: int, argv: list[str], link: Link) -> Manager | None:
    """Its processes call themselves `dhcpcd: LINK [ip4]` or `[ip6]`, or `dhcpcd: [manager] [ip4]` for all links."""
    _, _, title = argv[0].partition("dhcpcd: ")
    word = title.partition(" ")[0]
    if word not in (link.name, "[manager]", "[master]"):
        return None  # the helpers of one, which end with it
    only6 = title.endswith("[ip6]")
    if word != link.name and not os.path.exists(f"{_DHCPCD}/{link.name}.lease{'6' * only6}"):
        return None
    family = f"-{title[-2]} " if title.endswith(("[ip4]", "[ip6]")) and word == link.name else ""
    unit = "dhcpcd.service"
    return Manager(
        name=f"dhcpcd (pid {pid})",
        leases=True,
        # It keeps the addresses where it was started so, as Debian's configuration has it.
        remedy=f"dhcpcd {family}--persistent --exit {link.name}",
        returns=f"{unit} is started, and asks for an address" if os.path.lexists(f"{_BOOT_UNITS}/{unit}") else "",
        identifier=_dhcpcd_identifier(link),
        only6=only6,
    )


def _dhcpcd_identifier(link: Link) -> str | None:
    if link.mac is None:
        return None
    words = [line.split() for line in read_lines("/etc/dhcpcd.conf")]
    last = next((one for one in reversed(words) if one[:1] in (["duid"], ["clientid"])), None)
    mac = link.mac.packed.hex()
    if last is None:
        return f"01{mac}"
    if last[0] == "clientid":
        text = last[1] if len(last) > 1 else ""
        return "".join(one.zfill(2) for one in text.lower().split(":")) if text else f"01{mac}"
    duid = "".join(read_lines(f"{_DHCPCD}/duid")).strip().replace(":", "")
    return f"ff{mac[-8:]}{duid}" if duid else None


# udhcpc


def _udhcpc(pid: int, argv: list[str], link: Link) -> Manager | None:
    applet = next((one for one in argv[:2] if os.path.basename(one) == "udhcpc"), None)
    if applet is None or _udhcpc_link(argv) != link.name or link.mac is None:
        return None
    identifier = "" if {"-C", "--clientid-none"} & {*argv} else f"01{link.mac.packed.hex()}"
    for one in argv:
        option, _, value = one.partition(":")
        if option in ("0x3d", "61"):
            identifier = value.lower()
    return Manager(name=f"udhcpc (pid {pid})", leases=True, remedy=f"kill -KILL {pid}", identifier=identifier)


def _udhcpc_link(argv: list[str]) -> str:
    """Return the link that it was given: by `-i`, perhaps behind options without a value, or by `--interface`."""
    found = "eth0"
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        rest = word[1:].lstrip("CnqRSofbB")
        if option.startswith("--i") and "--interface".startswith(option):  # getopt_long takes what is unambiguous
            found = value if equals else after
        elif word.startswith("-") and rest.startswith("i"):
            found = rest[1:] or after
    return found


_CLIENTS: Final[dict[str, Callable[[int, list[str], Link], Manager | None]]] = {
    "dhclient": _dhclient,
    "dhcpcd": _dhcpcd,
    "udhcpc": _udhcpc,
    "busybox": _udhcpc,
}
