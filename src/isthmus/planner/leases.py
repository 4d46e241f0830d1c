"""The DHCP clients that ought to run: one on the bridge of a network that keeps the host's lease, one for each member.

It is udhcpc of busybox, for IPv6 dhcpcd (docs/decisions/0012); both do what lease.sh tells them at each event.
"""

from __future__ import annotations

from isthmus.model.host import HOST, Process
from isthmus.model.network import Network, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

__all__ = ["bridge_client", "bridge_name", "identifier_of", "member_clients", "member_name"]

_OURS: Final = "105"  # the protocol number of our routes: the engine may take it over
_SCRIPT: Final = f"{__file__.rpartition('/')[0]}/lease.sh"
_CLIENT6: Final = ("dhcpcd",)
_CLIENT: Final = ("busybox", "udhcpc", "-t", "4", "-T", "2", "-A", "10", "-S", "-O", "search")


def bridge_name(network: str) -> str:
    """Return what the client of a network's bridge is called: with a space, which no namespace's command has."""
    return f"dhcp {network}"


def member_name(attachment: str, family: int) -> str:
    """Return what the client of an attachment is called."""
    return f"dhcp {attachment}" if family == 4 else f"dhcp6 {attachment}"


def identifier_of(argv: Sequence[str]) -> str:
    """Return the identifier that a bridge's client was started with; empty: it was not."""
    return argv[-1].partition(":")[2] or ("none" if argv[-1] == "-C" else "")


def bridge_client(network: Network) -> Process:
    """Return the client that goes on with the host's lease; it leaves it as it is when it ends."""
    identifier = ("-C",) if network.dhcp == "none" else ("-C", "-x", f"0x3d:{network.dhcp}")
    argv = ("sh", _SCRIPT, network.bridge, "dhcp", *_CLIENT, *identifier)
    return Process(netns=HOST, argv=argv, name=bridge_name(network.name), lasting=True)


def member_clients(record: Record, namespace: str) -> Iterator[Process]:
    """Yield the clients of a namespace; they give their leases back when they end."""
    for one in record.attachments_of(namespace):
        if 4 in one.leased:
            route = _OURS if record.default_route_holder(namespace, 4) == one else "none"
            argv = ("sh", _SCRIPT, one.ifname, route, *_CLIENT, "-R")
            yield Process(netns=namespace, argv=argv, name=member_name(one.id, 4), lasting=True)
        if 6 in one.leased:
            argv6 = ("sh", _SCRIPT, one.ifname, "none", *_CLIENT6)
            yield Process(netns=namespace, argv=argv6, name=member_name(one.id, 6), lasting=True)
