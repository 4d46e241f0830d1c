"""Bridges, veth pairs, and what hangs on them: addresses, routes, and the rules that lead to routes.

Requests for the inside of a namespace are gathered and sent in one (`send`). A veth pair is born in its
place with its final name, MAC and MTU; its end in the host is never unmarked for longer than one message.
Orders and traps: docs/decisions/0003.
"""

from __future__ import annotations

import errno
import os

from isthmus.errors import IsthmusError, KernelError, NotFound, NotPermitted, Refused
from isthmus.kernel.access import Access
from isthmus.kernel.announce import announce
from isthmus.model.address import IPV6, Address, Mac
from isthmus.model.host import HOST, LIVE_GROUP, TRASH_GROUP, Bridge, LinkAddress, Route, Rule, Veth
from isthmus.model.network import MTU_MIN, MTU_MIN_IPV6
from isthmus.model.plan import Add, Change, Remove, Step
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl import route as rtnl_route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from isthmus.netlink.socket import Answer
    from isthmus.netlink.wire import Request

__all__ = ["LinkHands"]

_MISSING: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
_DOOM_GROUPS: Final = 0x6A000000
_PATIENCE_S: Final = 1.0


class LinkHands:
    """Makes, mends and takes away links; `trashed` tells whether some wait in the dead group.

    While `dooms` is set, pairs and bridges that go are gathered and deleted by one message: the kernel waits
    once for all of them.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._inner: dict[str, list[tuple[Request, bool]]] = {}
        self._indexes: dict[tuple[str, str], int] = {}
        self._announcements: dict[str, list[LinkAddress]] = {}
        self._added: dict[tuple[str, int], set[Address]] = {}  # of IPv6, by link: they may not be taken up yet
        self._carriers: dict[str, str] = {}  # bridges, and the first port that each was given; empty: it is seen
        # New ports. One whose carrier the kernel saw to be off, before its far end was up, forwards nothing until it
        # looks again, which may be long on a busy host: to read it makes it look.
        self._unseen: list[str] = []
        self._ports: dict[tuple[str, str], tuple[str, Mac]] = {}
        self._doomed: list[Bridge | Veth] = []
        self.dooms = False
        self.trashed = False

    def _index(self, netns: str, ifname: str) -> int:
        key = (netns, ifname)
        if key not in self._indexes:
            self._indexes[key] = self._access.index(netns, ifname)
        return self._indexes[key]

    def _bridge_index(self, name: str) -> int:
        indexes = self._access.indexes
        if name not in indexes:
            indexes[name] = self._access.index(HOST, name)
        return indexes[name]

    def bridge(self, step: Step, item: Bridge) -> None:
        self._access.indexes.pop(item.name, None)
        if self.dooms and isinstance(step, Remove):
            self._doomed.append(item)
            return
        self.send()
        if isinstance(step, Remove):
            _do_missing_ok(self._access, HOST, [rtnl_link.delete(item.name)])
            return
        socket = self._access.route(HOST)
        subject = f"bridge {item.name}"
        if isinstance(step, Add):
            # By itself: what follows goes by name, and would be done to somebody else's link of that name.
            # An MTU in this message does not pin it, nor does setting the value it has: so another first.
            made = rtnl_link.create_bridge(item.name, mac=item.mac, mtu=_other_mtu(item.mtu), group=LIVE_GROUP)
            answer = socket.ask([made])[0]
            if answer.errno == errno.EEXIST:
                raise Refused(
                    f"cannot make bridge {item.name}: a link of that name is there, and it is not ours",
                    hint=f"rename it or take it away (ip link show dev {item.name})",
                )
            if answer.errno:
                raise answer.error()
            if answer.payloads:
                self._indexes[HOST, item.name] = rtnl_link.decode(answer.payloads[0]).index
        # A MAC that is set flushes the neighbours, permanent ones too, and the same one does (net/core/neighbour.c).
        differs = isinstance(step, Change) and isinstance(step.before, Bridge) and step.before.mac != item.mac
        mac = item.mac if differs else None
        socket.do(
            *(() if isinstance(step, Add) else (rtnl_link.switch_stp(item.name, on=item.stp),)),
            # By itself, too: a link of a smaller MTU has no IPv6 that the second could be about.
            rtnl_link.change(0, by_name=item.name, subject=subject, mtu=item.mtu, mac=mac, group=LIVE_GROUP),
            rtnl_link.change(
                0, by_name=item.name, subject=subject, alias=item.alias, no_link_local=_has_ipv6(item.mtu)
            ),
            rtnl_link.change(0, by_name=item.name, subject=subject, operation="set up", up=True),
        )

    def veth(self, step: Step, item: Veth) -> None:
        if self._doomed and not isinstance(step, Remove):
            self.send()
        if isinstance(step, Add):
            self._make_veth(item)
        elif isinstance(step, Remove):
            self._cut_veth(item)
        elif isinstance(step.before, Veth) and not step.before.peer_name:
            self._cut_veth(item)
            self._make_veth(item)
        elif isinstance(step.before, Veth):
            self._mend_veth(step.before, item)

    def _make_veth(self, item: Veth) -> None:
        access = self._access
        for end in ((item.netns, item.name), (item.peer_netns, item.peer_name)):
            self._indexes.pop(end, None)  # that of a link which made way
        request = rtnl_link.create_veth(
            item.name,
            mac=item.mac,
            mtu=item.mtu,
            group=LIVE_GROUP,
            master=self._bridge_index(item.master) if item.master else 0,
            peer_name=item.peer_name,
            peer_mac=item.peer_mac,
            peer_netns_fd=access.fd(item.peer_netns),
            netns_fd=access.fd(item.netns) if item.netns != HOST else None,
        )
        followers = _near_end(item) if item.netns == HOST else []
        answers = access.route(HOST).ask([request, *followers])
        if answers[0].errno in (errno.EEXIST, errno.EXFULL):
            from isthmus.kernel.dead import clear_the_way, reap_links

            if answers[0].errno == errno.EXFULL:
                reap_links(access)
            else:
                clear_the_way(access, item)
                self.trashed = True
            answers = access.route(HOST).ask([request, *followers])
        for answer in answers:
            if answer.errno:
                raise _explained(answer.error(), item.master or "")
        if item.netns == HOST:
            self._indexes[item.peer_netns, item.peer_name] = rtnl_link.decode(answers[0].payloads[0]).peer
            if item.master:
                self._ports[item.peer_netns, item.peer_name] = item.master, item.peer_mac
                if item.master not in access.populated:
                    self._carriers.setdefault(item.master, item.name)
                self._unseen.append(item.name)
        else:
            self._queue(item.netns, *_far_end(item, item.name, item.alias))
        self._queue(item.peer_netns, *_far_end(item, item.peer_name, None if item.netns == HOST else item.alias))

    def _cut_veth(self, item: Veth) -> None:
        """Cut a pair off at once: its bridge takes no frame from it; in the group of the dead it is deleted later.

        The kernel makes the deleter of a veth wait some 20 ms.
        """
        if self.dooms and item.netns == HOST:
            self._doomed.append(item)
            return
        self.send()
        if item.netns == HOST:
            self._do_to_all([item], [rtnl_link.cut_off(item.name, TRASH_GROUP)])
            self.trashed = True
        elif self._access.is_alive(item.netns):
            _do_missing_ok(self._access, item.netns, [rtnl_link.delete(item.name)])

    def _mend_veth(self, before: Veth, item: Veth) -> None:
        requests = []
        if before.master != item.master:
            master = self._bridge_index(item.master) if item.master else 0
            requests.append(rtnl_link.change(0, by_name=item.name, subject=f"link {item.name}", master=master))
        if before.marked != item.marked:
            requests.append(rtnl_link.change(0, by_name=item.name, subject=f"link {item.name}", group=LIVE_GROUP))
        if before.mtu != item.mtu or before.mac != item.mac:
            mac = item.mac if before.mac != item.mac else None
            requests.append(rtnl_link.change(0, by_name=item.name, subject=f"link {item.name}", mtu=item.mtu, mac=mac))
        self._access.route(item.netns).do(*requests, *_near_end(item))
        inside = self._access.route(item.peer_netns)
        index, subject = self._index(item.peer_netns, before.peer_name), f"link {item.peer_name}"
        if before.peer_name != item.peer_name or before.peer_mac != item.peer_mac:
            renamed = item.peer_name if before.peer_name != item.peer_name else None
            requests = [rtnl_link.change(index, subject=subject, name=renamed, mac=item.peer_mac)]
            if renamed:  # before Linux 6.3 only while it is down, which takes its routes away; a MAC is set alive
                requests.insert(0, rtnl_link.change(index, subject=subject, up=False))
            inside.do(*requests)
            self._indexes[item.peer_netns, item.peer_name] = index
        inside.do(rtnl_link.change(index, subject=subject, mtu=item.mtu, up=True))

    def _queue(self, netns: str, *requests: Request, missing_ok: bool = False) -> None:
        self._inner.setdefault(netns, []).extend((request, missing_ok) for request in requests)

    def address(self, item: LinkAddress, *, comes: bool) -> None:
        if not comes:
            index = self._living_index(item)
            if index is not None:
                request = rtnl_address.delete(index, item.address, item.length, item)
                self._queue(item.netns, request, missing_ok=True)
            return
        index = self._index(item.netns, item.ifname)
        self._queue(item.netns, rtnl_address.add(index, item.address, item.length, item))
        self._announcements.setdefault(item.netns, []).append(item)
        if item.address.family == IPV6:
            self._added.setdefault((item.netns, index), set()).add(item.address)

    def route(self, step: Step, item: Route) -> None:
        if not isinstance(step, Add):
            old = step.before if isinstance(step, Change) else item
            assert isinstance(old, Route)
            index = self._living_index(old)
            if index is not None:
                request = rtnl_route.delete(old.prefix, old.via, index, item, table=old.table)
                self._queue(item.netns, request, missing_ok=True)
        if not isinstance(step, Remove):
            index = self._index(item.netns, item.ifname)
            self._queue(item.netns, rtnl_route.add(item.prefix, item.via, index, item, table=item.table))

    def rule(self, step: Step, item: Rule) -> None:
        from isthmus.netlink.rtnl import rule as rtnl_rule

        if not isinstance(step, Remove):
            self._queue(item.netns, rtnl_rule.add(item))
        elif self._access.is_alive(item.netns):
            self._queue(item.netns, rtnl_rule.delete(item), missing_ok=True)

    def _living_index(self, item: LinkAddress | Route) -> int | None:
        try:
            return self._index(item.netns, item.ifname)
        except NotFound:
            return None
        except KernelError as error:
            if error.errno != errno.ENODEV:  # it may well be there
                raise
            return None

    def _delete_doomed(self) -> None:
        """Delete many links at once: into a group that nobody else can be in, and away with it.

        One run of messages. A kill falls before or after: the kernel carries out all that one send brought.
        """
        doomed, self._doomed = self._doomed, []
        if not doomed:
            return
        group = int.from_bytes(os.urandom(3), "big") | _DOOM_GROUPS
        marks = [
            rtnl_link.change(0, by_name=one.name, subject=f"link {one.name}", operation="doom", group=group)
            for one in doomed
        ]
        self._do_to_all(doomed, [*marks, rtnl_link.delete_group(group)])

    def _do_to_all(self, items: list[Bridge | Veth], requests: list[Request]) -> None:
        """Take links away; of a pair whose end here has another name by now, what is left is cut off."""
        answers = _do_missing_ok(self._access, HOST, requests)
        for item, answer in zip(items, answers, strict=False):
            if answer.errno and isinstance(item, Veth):
                from isthmus.kernel.dead import cut_renamed

                cut_renamed(self._access, item)
                self.trashed = True

    def send(self) -> None:
        self._delete_doomed()
        queued, self._inner = self._inner, {}
        for netns, pairs in queued.items():
            answers = self._access.route(netns).ask([request for request, _ in pairs])
            for answer, (_, missing_ok) in zip(answers, pairs, strict=True):
                if answer.errno and not (missing_ok and answer.errno in _MISSING):
                    raise _explained(answer.error(), netns)
            items = self._announcements.pop(netns, ())
            if items and any(self._carriers.values()):
                self._see_carriers()
            told = [one for one in map(self._announce, items) if one is not None]
            if told:
                self._access.route(HOST).ask(told)

    def settle(self) -> None:
        """Wait until new ports forward, and packets to the IPv6 addresses that were added are taken up.

        The later it is asked, the more of it the kernel has done by itself: with many ports, 0.3 ms for each.
        """
        unseen, self._unseen = self._unseen, []
        if unseen:
            self._access.route(HOST).ask([rtnl_link.by_name(name) for name in unseen])
        added, self._added = self._added, {}
        if not added:
            return
        from isthmus.kernel.settling import await_usable

        for (netns, index), addresses in added.items():
            await_usable(self._access, netns, index, addresses, _PATIENCE_S)

    def _see_carriers(self) -> None:
        """Have the kernel see that bridges with a new port have a carrier."""
        requests = []
        for bridge, port in self._carriers.items():
            if port:
                requests += rtnl_link.see_carriers(port, self._bridge_index(bridge))
                self._carriers[bridge] = ""
        self._access.route(HOST).ask(requests)

    def _announce(self, item: LinkAddress) -> Request | None:
        """Tell the bridge that an address is new there, and return what tells the host; a direct link has neither."""
        if item.address in self._access.unannounced:
            return None
        if item.netns == HOST:
            bridge = self._access.link(HOST, item.ifname)
            if bridge is None or bridge.mac is None:
                return None
            return announce(self._access, item.ifname, bridge.index, item.address, bridge.mac)
        port = self._ports.get((item.netns, item.ifname)) or self._port(item)
        if port is None:
            return None
        bridge_name, mac = port
        return announce(self._access, bridge_name, self._bridge_index(bridge_name), item.address, mac)

    def _port(self, item: LinkAddress) -> tuple[str, Mac] | None:
        """Return the bridge that a link inside a namespace leads to, and the link's MAC."""
        inner = self._access.link(item.netns, item.ifname)
        outer = self._access.link_at(HOST, inner.peer) if inner is not None and inner.peer else None
        bridge = self._access.link_at(HOST, outer.master) if outer is not None and outer.master else None
        if inner is None or inner.mac is None or bridge is None or bridge.kind != "bridge":
            return None
        return bridge.name, inner.mac


def _has_ipv6(mtu: int) -> bool | None:
    """Whether the kernel has IPv6 on a link of that MTU; None: no, and a message about it gets EAFNOSUPPORT."""
    return True if mtu >= MTU_MIN_IPV6 else None


def _other_mtu(mtu: int) -> int:
    """Return an MTU beside this one that a link can have, and that leaves IPv6 on it if this one does."""
    return mtu + 1 if mtu in (MTU_MIN, MTU_MIN_IPV6) else mtu - 1


def _near_end(item: Veth) -> list[Request]:
    subject, name = f"link {item.name}", item.name
    port = (item.hairpin, item.isolated) if item.master else None
    return [
        rtnl_link.change(
            0, by_name=name, subject=subject, alias=item.alias, no_link_local=_has_ipv6(item.mtu), port=port
        ),
        rtnl_link.change(0, by_name=name, subject=subject, operation="set up", up=True),
    ]


def _far_end(item: Veth, name: str, alias: str | None) -> list[Request]:
    no_link_local = _has_ipv6(item.mtu)
    return [
        rtnl_link.change(0, by_name=name, subject=f"link {name}", alias=alias, no_link_local=no_link_local),
        rtnl_link.change(0, by_name=name, subject=f"link {name}", operation="set up", up=True),
    ]


def _explained(error: KernelError | NotPermitted, place: str) -> IsthmusError:
    """Return a refusal in words that say what to do, where we know it; `place` is a bridge or a namespace."""
    if not isinstance(error, KernelError):
        return error
    if error.errno == errno.EXFULL:
        return Refused(
            f"cannot attach to bridge {place}: it has 1023 ports, and a bridge holds no more",
            hint="make a second network",
        )
    if error.errno == errno.EEXIST and error.operation == "add route of":
        return Refused(
            f"{place} has a default route already, and not by isthmus", hint="attach it with --no-default-route"
        )
    if error.errno == errno.EACCES and "IPv6 is disabled" in error.extack:
        return Refused(
            error.message, hint="switch it on there (sysctl disable_ipv6), or leave IPv6 out: a --subnet of IPv4 alone"
        )
    return error


def _do_missing_ok(access: Access, netns: str, requests: list[Request]) -> list[Answer]:
    answers = access.route(netns).ask(requests)
    for answer in answers:
        if answer.errno and answer.errno not in _MISSING:
            raise answer.error()
    return answers
