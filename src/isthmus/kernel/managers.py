"""Who manages a link of the host, by the traces that each program leaves itself: nothing is asked of any of them.

A trace is believed while its program runs in the host's network namespace; what a dead one left (a pid file,
/run/systemd/netif) is no manager. Plain DHCP clients are dhcp_clients.py's. Sources:

    NetworkManager    src/core/nm-config.c, nm_config_device_state_write: /run/NetworkManager/devices/IFINDEX;
                      nm-settings-keyfile(5)
    systemd-networkd  src/network/networkd-state-file.c; src/libsystemd-network/sd-dhcp-lease.c, dhcp_lease_save
    ifupdown          interfaces(5), ifup(8)
    connman           connman.conf(5), src/ipconfig.c, __connman_ipconfig_save

Each was run, and looked at: docs/decisions/0012 has the versions.
"""

from __future__ import annotations

import os

from isthmus.kernel.processes import processes
from isthmus.model.network import HOST_END
from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from isthmus.netlink.rtnl.link import Link

__all__ = ["Manager", "managers_of", "read_lines", "read_settings"]

_NM_STATE: Final = "/run/NetworkManager/devices"
# The first one that has a profile's UUID counts.
_NM_PROFILES: Final = (
    "/run/NetworkManager/system-connections",
    "/etc/NetworkManager/system-connections",
    "/usr/lib/NetworkManager/system-connections",
)
_NM_LEASES: Final = "/var/lib/NetworkManager"
_NETIF: Final = "/run/systemd/netif"
_INTERFACES: Final = "/etc/network/interfaces"
_FILE_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_CONNMAN: Final = "/var/lib/connman"
# connman's own default, where main.conf says nothing (src/main.c, default_blacklist); 1.41 is without the last two.
_CONNMAN_BLACKLIST: Final = "vmnet,vboxnet,virbr,ifb,ve-,vb-,ham,veth"


class Manager(Value):
    """A program that manages a link.

    `leases`: it gives the link an address by DHCP; `clears`: it takes its addresses, fixed ones too, off a link that
    leaves a bridge. `remedy` makes it let go, the address left on the link where that can be had; `lasts`: at the next
    reboot, too. `returns` says what of it comes back then (empty: nothing that is known).
    `identifier` is the DHCP client identifier that it sends, in hex digits (empty: none; None: unknown). `only6`: it
    does so for IPv6 alone. `takes_along`: the remedy takes the address off the link nevertheless.
    """

    name: str
    leases: bool = False
    clears: bool = False
    remedy: str = ""
    lasts: bool = False
    returns: str = ""
    identifier: str | None = None
    only6: bool = False
    takes_along: bool = False


def managers_of(link: Link, bridges: tuple[str, ...] = ()) -> list[Manager]:
    """Return who manages a link of the host: services first, then DHCP clients that none of these runs.

    `bridges` are ours, the link's to be among them: a remedy has them left alone, too, where that must be said.
    """
    from isthmus.kernel.dhcp_clients import clients_of

    running = processes("/proc/self/ns/net")
    pids = {name: pid for pid, name in running}
    found = [
        *(_network_manager(link) if "NetworkManager" in pids else ()),
        *(_networkd(link) if "systemd-network" in pids else ()),  # a process's name has 15 characters
        *(_connman(link, pids["connmand"], bridges) if "connmand" in pids else ()),
    ]
    if not any(one.leases for one in found):  # NetworkManager may run dhclient or dhcpcd itself
        found += clients_of(link, running)
    return [*found, *_ifupdown(link)]


def read_lines(path: str) -> list[str]:
    """Return a file's lines; none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def read_settings(path: str) -> dict[str, str]:
    """Return KEY=VALUE lines, keys as SECTION.KEY where a section is open."""
    found, section = {}, ""
    for line in read_lines(path):
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            section = f"{text[1:-1]}."
        elif "=" in text and text[0] not in "#;":
            key, _, value = text.partition("=")
            found[section + key.strip()] = value.strip()
    return found


def _listed(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in sorted(os.listdir(folder))]
    except OSError:
        return []


# NetworkManager


def _network_manager(link: Link) -> Iterator[Manager]:
    state = read_settings(f"{_NM_STATE}/{link.index}")
    uuid = state.get("device.connection-uuid", "")
    if state.get("device.managed") != "true" or not uuid:
        return  # it leaves the link alone, or waits for its first address
    path, profile = _nm_profile(uuid)
    if profile.get(".nmmeta.external") == "true":
        return  # it wrote down what somebody else gave the link
    asks = profile.get("ipv4.method", "auto") == "auto" if path else _nm_asked(uuid, link)
    leases = asks or "dhcp4.dhcp4.ip_address" in state
    only6 = not leases and "dhcp6.dhcp6.ip6_address" in state
    sent = state.get("dhcp4.dhcp4.dhcp_client_identifier") or profile.get("ipv4.dhcp-client-id", "mac")
    path = profile.get(".nmmeta.shadowed-storage", path)
    kept = profile.get("connection.autoconnect") != "false"
    section = f"isthmus-{link.name}"
    yield Manager(
        name="NetworkManager",
        leases=leases or only6,
        # managed=0 counts from its next start, the other until a reboot; both leave the address where it is (1.42),
        # which unmanaged-devices= does not.
        remedy=(
            f"printf '[device-{section}]\\nmatch-device=interface-name:{link.name}\\nmanaged=0\\n' "
            f">/etc/NetworkManager/conf.d/{section}.conf && nmcli device set {link.name} managed no"
        ),
        lasts=True,
        returns=f"its profile {path or uuid} gives {link.name} its address again" if kept else "",
        identifier=_nm_identifier(sent, link) if path or "dhcp4.dhcp4.ip_address" in state else None,
        only6=only6,
    )


def _nm_asked(uuid: str, link: Link) -> bool:
    """Return whether a profile that no file has (a plugin's) was ever given a lease."""
    return any(uuid in one and link.name in one for one in _listed(_NM_LEASES))


def _nm_profile(uuid: str) -> tuple[str, dict[str, str]]:
    for folder in _NM_PROFILES:
        for path in _listed(folder):
            profile = read_settings(path)
            if profile.get("connection.uuid") == uuid:
                return path, profile
    return "", {}


def _nm_identifier(text: str, link: Link) -> str | None:
    """Source: nm-settings(5), ipv4.dhcp-client-id: hex octets with colons, words with a meaning, else a string."""
    if text in ("mac", "perm-mac"):
        return f"01{link.mac.packed.hex()}" if link.mac is not None else None
    if text in ("duid", "ipv6-duid", "stable"):
        return None
    octets = text.split(":")
    if len(octets) > 1 and all(len(one) <= 2 and _is_hex(one) for one in octets):
        return "".join(one.zfill(2) for one in octets).lower()
    return None if text == "none" else f"00{text.encode().hex()}"


def _is_hex(text: str) -> bool:
    return bool(text) and all(one in "0123456789abcdefABCDEF" for one in text)


# systemd-networkd


def _networkd(link: Link) -> Iterator[Manager]:
    state = read_settings(f"{_NETIF}/links/{link.index}")
    if state.get("ADMIN_STATE", "unmanaged") in ("unmanaged", "linger", "pending", "initialized"):
        return
    lease = read_settings(f"{_NETIF}/leases/{link.index}")
    file = state.get("NETWORK_FILE", "")
    drop_in = f"/etc/systemd/network/{os.path.basename(file)}.d/isthmus.conf"
    write = f"mkdir -p {os.path.dirname(drop_in)} && printf '[Link]\\nUnmanaged=yes\\n' >{drop_in} && networkctl reload"
    yield Manager(
        name="systemd-networkd",
        leases="ADDRESS" in lease,
        remedy=write if file else "networkctl reload, when no file of /etc/systemd/network matches it",
        returns=f"{file} gives {link.name} its address again" if file else "",
        identifier=lease.get("CLIENTID"),
        lasts=True,
        takes_along=True,  # seen with 252, whatever KeepConfiguration= says
    )


# connman


def _connman(link: Link, pid: int, bridges: tuple[str, ...]) -> Iterator[Manager]:
    if link.mac is None:
        return
    conf = read_settings("/etc/connman/main.conf")
    unwanted = conf.get("General.NetworkInterfaceBlacklist", _CONNMAN_BLACKLIST).split(",")
    if any(link.name.startswith(one.strip()) for one in unwanted if one.strip()):
        return
    service = f"ethernet_{link.mac.packed.hex()}_cable"
    path = f"{_CONNMAN}/{service}/settings"
    settings = read_settings(path)
    if not settings:
        return  # it never had this cable
    # When it starts it clears bridges and host ends and sets them down (src/device.c, cleanup_devices).
    names = dict.fromkeys([*(one.strip() for one in unwanted if one.strip()), link.name, HOST_END, *bridges])
    yield Manager(
        name="connman",
        leases=settings.get(f"{service}.IPv4.method", "dhcp") == "dhcp",
        clears=True,  # seen with 1.41: it takes the end of a port for the end of the cable
        # One that is told to end takes the address off the link, and sets the link down.
        remedy=(
            f"NetworkInterfaceBlacklist={','.join(names)} below [General] of /etc/connman/main.conf"
            f"; kill -KILL {pid}; systemctl restart connman"
        ),
        lasts=True,
        returns=f"{path} gives {link.name} its address again",
        # gdhcp sends hardware type and MAC.
        identifier=f"01{link.mac.packed.hex()}",
    )


# ifupdown


def _ifupdown(link: Link) -> Iterator[Manager]:
    """One that only writes down: who renews a lease of its is a DHCP client, and found by itself."""
    stanzas = list(_stanzas(_INTERFACES, set()))
    boot = [word for _, words in stanzas if words[0] in ("auto", "allow-auto", "allow-hotplug") for word in words[1:]]
    at_boot = {_logical(word, link) for word in boot} - {""}
    up = {_logical(line, link) for line in read_lines("/run/network/ifstate")} - {""}
    given = [(place, words) for place, words in stanzas if words[0] == "iface" and words[1:2] and len(words) > 3]
    for place, words in given:
        if words[1] in at_boot | up and words[3] not in ("manual", "loopback"):
            remedy = f"say `{' '.join(words[:3])} manual` at {place}"
            returns = f"{place} gives {link.name} its address again" if words[1] in at_boot else ""
            yield Manager(name="ifupdown", remedy=remedy, returns=returns)
            return


def _logical(word: str, link: Link) -> str:
    """Return the stanza that a word of interface selection has for a link; nothing where the link is not meant.

    A word is LINK, /PATTERN or VARIABLE/PATTERN (`mac`, else a file of the link in sysfs), perhaps /OPTIONS behind a
    pattern, and perhaps =STANZA. Which of several links an option chooses is not looked at: it may be this one.
    """
    from fnmatch import fnmatchcase

    selected, _, stanza = word.partition("=")
    variable, slash, rest = selected.partition("/")
    pattern = rest.partition("/")[0]
    if not slash:
        is_meant = selected == link.name
    elif variable == "mac":
        is_meant = fnmatchcase(str(link.mac), pattern.lower())
    elif variable:
        is_meant = any(fnmatchcase(line, pattern) for line in read_lines(f"/sys/class/net/{link.name}/{variable}"))
    else:
        is_meant = fnmatchcase(link.name, pattern)
    return (stanza or link.name) if is_meant else ""


def _stanzas(path: str, seen: set[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield (FILE:LINE, words) of a file of interfaces(5) and of those that it names; a backslash joins lines."""
    if path in seen:
        return
    seen.add(path)
    words: list[str] = []
    for number, line in enumerate(read_lines(path), 1):
        if line.lstrip().startswith("#") and not words:
            continue
        words += line.removesuffix("\\").split()
        if line.endswith("\\"):
            continue
        if words[:1] == ["source"] or words[:1] == ["source-directory"]:
            for pattern in words[1:]:
                for other in _named(pattern, path, is_folder=words[0] == "source-directory"):
                    yield from _stanzas(other, seen)
        elif words:
            yield f"{path}:{number}", words
        words = []


def _named(pattern: str, path: str, *, is_folder: bool) -> list[str]:
    """Return the files that a pattern of the shell names, or those in the folders that it names.

    Of a folder only names of letters, digits, `_` and `-` count: no backup of an editor, and no .cfg either.
    """
    from glob import glob

    found = sorted(glob(os.path.join(os.path.dirname(path), pattern)))
    if not is_folder:
        return found
    files = [one for folder in found for one in _listed(folder) if os.path.isfile(one)]
    return [one for one in files if _FILE_LETTERS.issuperset(os.path.basename(one))]
