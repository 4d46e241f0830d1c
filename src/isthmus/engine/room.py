"""The ports that bridges have left, counted before a declaration is made: the kernel would tell half-way."""

from __future__ import annotations

from isthmus.errors import Refused
from isthmus.model.host import HOST, TRASH_GROUP
from isthmus.netlink.rtnl import link as rtnl_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Final

    from isthmus.converge import Host
    from isthmus.model.network import Network

__all__ = ["Room"]

_PORTS: Final = 1023  # net/bridge/br_private.h, BR_MAX_PORTS: port numbers have ten bits, and 0 is none


class Room:
    """Counts what one declaration adds."""

    def __init__(self, host: Host) -> None:
        self._host = host
        # The host's ends of the pairs that it takes away.
        self.leaving: Container[str] = ()
        self._left: dict[str, int] = {}

    def take(self, network: Network) -> None:
        """Count one more port.

        Raises:
            Refused: the bridge has no room for it.
        """
        left = self._left.get(network.bridge)
        if left is None:
            left = _PORTS - self._staying(network.bridge)
        if left <= 0:
            raise Refused(
                f"bridge {network.bridge} has {_PORTS} ports by then, and a bridge holds no more",
                hint="make a second network",
            )
        self._left[network.bridge] = left - 1

    def _staying(self, bridge: str) -> int:
        access = self._host.access
        master = access.link(HOST, bridge)
        if master is None:
            return 0
        ports = [rtnl_link.decode(one) for one in access.route(HOST).dump(rtnl_link.ports_of(master.index))]
        return sum(one.master == master.index and not self._leaves(one) for one in ports)

    def _leaves(self, port: rtnl_link.Link) -> bool:
        return port.group == TRASH_GROUP or port.name in self.leaving
