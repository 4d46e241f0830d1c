"""A network interface becomes a port of a bridge of ours, and what hangs on it moves there; and back.

rtnetlink has no transaction, so the order is fixed, and all goes in few sends: what is new comes, and can be used,
before what is old goes, so that the host answers for its addresses at every moment, and a kill leaves nothing in
neither place.
The order and its gap were measured: docs/decisions/0009.
"""

from __future__ import annotations

import errno

from isthmus.errors import KernelError, Refused
from isthmus.kernel.access import Access
from isthmus.kernel.settling import await_usable
from isthmus.kernel.sysctl import conf_values
from isthmus.model.address import IPV6, Address
from isthmus.model.host import HOST, BridgedNic, Carried
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import carried as rtnl
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl.words import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Final

    from isthmus.model.network import Borrowed
    from isthmus.netlink.rtnl.link import Link
    from isthmus.netlink.wire import Request

    Messages = list[tuple[Request, bool]]  # whether what it is about may be gone already

__all__ = ["await_running", "find_nic", "generate_addresses", "move_back", "move_onto", "read_carried", "read_nic"]

_OPERSTATE_UP: Final = 6
_PATIENCE_S: Final = 3.0
# What a bridge of ours has of its own, what is no setting, and what the kernel derives from others.
_NOT_COPIED: Final = frozenset({"addr_gen_mode", "mc_forwarding", "mtu", "route_localnet"})
# A new bridge has these of `default`, which need not be what its interface has; later they are whoever's asks for them.
_FORWARDING: Final = frozenset({"forwarding", "force_forwarding"})
_UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH})
_ABSENT: Final = frozenset({errno.ENOENT, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENODEV})


def read_carried(access: Access, name: str) -> tuple[Carried, ...]:
    """Return what hangs on a link of the host, in the order in which it can be made again; nothing: no such link."""
    link = access.link(HOST, name)
    if link is None:
        return ()
    found: list[Carried] = []
    addresses: list[bytes] = []
    for kind, request in rtnl.dump(link.index):
        payloads = access.route(HOST).dump(request, absent=errno.ENOENT)
        payloads = [one for one in payloads if rtnl.follows(kind, one, link.index, addresses)]
        if kind == rtnl.ADDRESS:
            # The kernel lists IPv4 addresses in the order of adding, IPv6 ones the last one first.
            newest_first = [one for one in payloads if one[0] == rtnl.AF_INET6]
            payloads = [one for one in payloads if one[0] != rtnl.AF_INET6] + newest_first[::-1]
            addresses = payloads
        if kind == rtnl.ROUTE:
            payloads.sort(key=rtnl.needs_another)
        found += [Carried(kind=kind, payload=one, words=words(kind, one, name, link.index)) for one in payloads]
    return tuple(found)


def find_nic(access: Access, name: str, bridge: str) -> Link | None:
    """Return the link that was put on a bridge under a name, whatever its name is now; None: it is unplugged.

    A bridge of ours has the MAC of its interface, and none of the other ports has that.
    """
    link, master = access.link(HOST, name), access.link(HOST, bridge)
    if master is None or (link is not None and link.master == master.index):
        return link
    ports = [rtnl_link.decode(one) for one in access.route(HOST).dump(rtnl_link.ports_of(master.index))]
    return next((one for one in ports if one.master == master.index and one.mac == master.mac), link)


def read_nic(access: Access, name: str, bridge: str, borrowed: Mapping[str, Borrowed]) -> dict[str, Any] | None:
    """Return the fields of `planner.forwarding.NicFacts`; None: there is no such link.

    On the bridge already, it carries nothing but what came since. Of what is borrowed, what was before us is its own.
    """
    link, master = find_nic(access, name, bridge), access.link(HOST, bridge)
    if link is None:
        return None
    found = {"name": link.name, "carried": read_carried(access, link.name)}
    if master is not None and link.master == master.index:
        conf = tuple(_read_conf(bridge, {}, _NOT_COPIED | _FORWARDING))
        return found | {"conf": tuple((name, value) for name, value, is_usual in conf if not is_usual)}
    conf = tuple(_read_conf(link.name, borrowed, _NOT_COPIED))
    forwarding = tuple((name, value) for name, value, _ in conf if name.rpartition("/")[2] in _FORWARDING)
    unusual = tuple((name, value) for name, value, is_usual in conf if not is_usual)
    return found | {"conf": unusual, "forwarding": forwarding}


def _read_conf(name: str, borrowed: Mapping[str, Borrowed], apart: frozenset[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield a link's sysctls, `{link}` in the place of its name, their values, and whether a new link has those."""
    for family in (4, 6):
        usual = conf_values(family, "default")
        for key, value in sorted(conf_values(family, name).items()):
            row = borrowed.get(f"net/ipv{family}/conf/{name}/{key}")
            own = row.before if row is not None and row.gave == value else value
            # To write 1 to a link's `forwarding` of IPv6 ends the learned default routes of all others
            # (net/ipv6/addrconf.c, addrconf_fixup_forwarding).
            if (family, key, own) != (6, "forwarding", "1") and key not in apart:
                yield f"net/ipv{family}/conf/{{link}}/{key}", own, usual.get(key, own) == own


def await_running(access: Access, name: str) -> None:
    """Wait until a link's operational state is up: a port whose link lags behind does not forward (linkwatch).

    Raises:
        Refused: it has no carrier.
    """
    import time

    watch = access.events(HOST, rtnl_link.RTNLGRP_LINK)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while (link := access.link(HOST, name)) is not None and link.operstate != _OPERSTATE_UP:
            if not watch.wait(deadline - time.monotonic()):
                raise Refused(f"link {name} has no carrier: is the cable in, is it up?")
    finally:
        watch.close()


def move_onto(access: Access, item: BridgedNic) -> None:
    """Make a link a port of its bridge, and hang what it carried on the bridge.

    Raises:
        KernelError: something was refused; what was moved before it stays moved.
    """
    nic, bridge = _ends(access, item)
    enslave = rtnl_link.change(nic.index, subject=f"link {item.name}", operation="enslave", master=bridge.index)
    joining: Messages = [(one, False) for one in (enslave, *rtnl_link.see_carriers(nic.name, bridge.index))]
    arriving, leaving = _moves(access, item, nic, bridge)
    _send(access, [*joining, *arriving])
    await_usable(access, HOST, bridge.index, _usable_at_once(item), _PATIENCE_S)
    _send(access, leaving)


def move_back(access: Access, item: BridgedNic) -> None:
    """Take a link off its bridge, and hang what the bridge carries on it again. A link that is gone is content.

    One that somebody set down is set up: a link that is down takes no routes, and the host is to have its network.

    Raises:
        KernelError: something was refused; what was moved before it stays moved.
    """
    try:
        nic, bridge = _ends(access, item)
    except KernelError as cause:
        if cause.errno == errno.ENODEV:
            return
        raise
    free = rtnl_link.change(nic.index, subject=f"link {item.name}", operation="take off its bridge", master=0)
    ready = rtnl_link.change(nic.index, subject=f"link {item.name}", operation="set up", up=True)
    arriving, leaving = _moves(access, item, bridge, nic)
    _send(access, [(ready, False), *arriving])
    await_usable(access, HOST, nic.index, _usable_at_once(item), _PATIENCE_S)
    _send(access, [(free, False), *leaving])


def generate_addresses(access: Access, name: str) -> None:
    """Have a link that comes up the next time get its link-local address, and none now; it may be gone."""
    request = rtnl_link.change(0, by_name=name, subject=f"link {name}", no_link_local=False)
    _send(access, [(request, True)])


def _usable_at_once(item: BridgedNic) -> set[Address]:
    """Return the IPv6 addresses that are carried, but those whose detection of duplicates is to go on."""
    found = [rtnl_address.decode(one.payload) for one in item.carried if one.kind == rtnl.ADDRESS]
    return {one.address for one in found if one.address.family == IPV6 and not one.is_tentative}


def _ends(access: Access, item: BridgedNic) -> tuple[Link, Link]:
    found = []
    for name in (item.name, item.bridge):
        link = access.link(HOST, name)
        if link is None:
            raise KernelError("find", f"link {name}", errno.ENODEV)
        found.append(link)
    return found[0], found[1]


def _moves(access: Access, item: BridgedNic, old: Link, new: Link) -> tuple[Messages, Messages]:
    """Return the requests that hang things on the new link, and those that take them off the old one.

    An address that the new link has is left there: a move came to nothing half-way. The one of the two that has no
    `nodad` has the flags that it began with.
    """
    held = {rtnl.identity(one) for one in access.route(HOST).dump(rtnl_address.of_link(new.index))}
    source, target = (old.index, old.name), (new.index, new.name)
    arriving: Messages = []
    leaving: Messages = []
    settling: Messages = []
    for one in item.carried:
        gone = rtnl.drop(one.kind, one.payload, *source)
        if gone is not None:
            leaving.insert(0, (gone, True))
        if one.kind != rtnl.ADDRESS or rtnl.identity(one.payload) not in held:
            hung = rtnl.hang(one.kind, one.payload, source, target)
            hung.subject = f"{one.kind} {' '.join(one.words[one.words.index('replace') + 1 :]).format(dev=old.name)}"
            arriving.append((hung, False))
        settled = rtnl.settle(one.payload, source, target) if one.kind == rtnl.ADDRESS else None
        if settled is not None:
            settling.append((settled, False))
    return arriving, [*leaving, *settling]


def _send(access: Access, requests: Messages) -> None:
    answers = access.route(HOST).ask([request for request, _ in requests])
    for answer, (_, absent_ok) in zip(answers, requests, strict=True):
        if answer.errno in _UNREACHABLE:
            raise Refused(
                f"{answer.error()}: its gateway is not reached any more",
                hint="delete that route, or make the gateway reachable again, and say it once more",
            )
        if answer.errno and not (absent_ok and answer.errno in _ABSENT):
            raise answer.error()
