"""The MAC of a bridge that is somebody else's and has no port: the first one would change it.

Source: sysfs-class-net (addr_assign_type 3 is NET_ADDR_SET), net/bridge/br_sysfs_if.c (brif).
"""

from __future__ import annotations

import os

from isthmus.kernel.access import Access
from isthmus.kernel.files import read_text
from isthmus.kernel.nic import read_carried
from isthmus.model.host import HOST, PinnedMac
from isthmus.netlink.rtnl import carried as rtnl
from isthmus.netlink.rtnl import link as rtnl_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.netlink.rtnl.link import Link

__all__ = ["pin", "read_unpinned"]

_SET: Final = "3"


def read_unpinned(access: Access, bridge: str) -> PinnedMac | None:
    """Return how the MAC of a bridge is kept; None: the kernel keeps it, or there is none."""
    link = access.link(HOST, bridge)
    if link is None or link.mac is None or not any(link.mac.packed) or _is_kept(access, link):
        return None
    neighbours = tuple(one for one in read_carried(access, bridge) if one.kind == rtnl.NEIGHBOUR)
    return PinnedMac(bridge=bridge, mac=link.mac, neighbours=neighbours)


def _is_kept(access: Access, link: Link) -> bool:
    """Whether a bridge's MAC was set, or is that of a port."""
    folder = f"/sys/class/net/{link.name}"
    index, mac, kind = (read_text(f"{folder}/{name}").strip() for name in ("ifindex", "address", "addr_assign_type"))
    if (index, mac) != (str(link.index), str(link.mac)):  # what is mounted on /sys may be of another namespace
        return bool(access.route(HOST).dump(rtnl_link.ports_of(link.index)))
    with os.scandir(f"{folder}/brif") as ports:
        return kind == _SET or any(ports)


def pin(access: Access, item: PinnedMac) -> None:
    """Set a bridge's MAC to what it is, and put its neighbours back, in one send.

    Raises:
        KernelError: the kernel refused it.
    """
    subject = f"bridge {item.bridge}"
    here = access.index(HOST, item.bridge), item.bridge
    back = [rtnl.hang(one.kind, one.payload, here, here) for one in item.neighbours]
    access.route(HOST).do(rtnl_link.change(0, by_name=item.bridge, subject=subject, mac=item.mac), *back)
