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
from isthmus.kernel.kept import lost, vanishes
from isthmus.kernel.learned import is_learned, learn, learned_routes
from isthmus.kernel.settling import await_usable
from isthmus.kernel.sysctl import conf_values
from isthmus.model.address import IPV6, Address
from isthmus.model.carried import Carried
from isthmus.model.host import HOST, BridgedNic
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import carried as rtnl
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl.words import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Final

    from isthmus.model.carried import Arrival, Kept
    from isthmus.model.carried import CarriedKind as Kind
    from isthmus.model.network import Borrowed
    from isthmus.netlink.rtnl.link import Link
    from isthmus.netlink.wire import Request

    Messages = list[tuple[Request, frozenset[int]]]  # with what refusals one is content

__all__ = ["await_running", "find_nic", "generate_addresses", "move_back", "move_onto", "read_carried", "read_nic"]

_OPERSTATE_UP: Final = 6
_PATIENCE_S: Final = 3.0
# What a bridge of ours has of its own, what is no setting, and what the kernel derives from others.
_NOT_COPIED: Final = frozenset({"addr_gen_mode", "mc_forwarding", "mtu", "route_localnet"})
# A new bridge has these of `default`, which need not be what its interface has; later they are whoever's asks for them.
_FORWARDING: Final = frozenset({"forwarding", "force_forwarding"})
_UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH})
_NONE: Final = frozenset[int]()
_ABSENT: Final = frozenset({errno.ENOENT, errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENODEV})
_THERE: Final = frozenset({errno.EEXIST})
# What was lost with a bridge comes back as far as the host lets it.
_NOT_ANY_MORE: Final = _UNREACHABLE | _THERE | {errno.EINVAL, errno.ENODEV, errno.ENOENT}


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
        arrivals: list[tuple[bytes, Arrival]] = [
            (one, "made" if rtnl.is_made(kind, one, addresses) else "last") for one in payloads
        ]
        if kind == rtnl.ROUTE and payloads:
            arrivals = _routes(access, link, arrivals)
        for payload, arrival in arrivals:
            told = words(kind, payload, name, link.index, arrival)
            found.append(Carried(kind=kind, payload=payload, words=told, arrival=arrival))
    return tuple(found)


def _routes(access: Access, link: Link, arrivals: list[tuple[bytes, Arrival]]) -> list[tuple[bytes, Arrival]]:
    """Return routes of a family in the order in which they can be made again, and how each comes.

    Those to the same destination keep their order: IPv4 ones come before those of other links, or behind them. (IPv6
    has no place but behind all; which of them is used, it chooses by more than their order.)
    """
    if arrivals[0][0][0] == rtnl.AF_INET6:
        learned = learned_routes(link.name)
        split = [(leg, arrival) for one, arrival in arrivals for leg in rtnl.legs(one, link.index)]
        ordered = [(one, "learned" if is_learned(one, learned) else arrival) for one, arrival in split]
    else:
        behind = rtnl.behind_others(access.route(HOST).dump(rtnl.routes(rtnl.AF_INET)), link.index)
        last = [(one, arrival) for one, arrival in arrivals if one in behind]
        ordered = [(one, "first") for one, _ in reversed(arrivals) if one not in behind] + last
    return sorted(ordered, key=lambda one: rtnl.needs_another(one[0]))


def find_nic(access: Access, name: str, bridge: str) -> Link | None:
    """Return the link that was put on a bridge under a name, whatever its name is now; None: it is unplugged.

    A bridge of ours has the MAC of its interface, and none of the other ports has that.
    """
    link, master = access.link(HOST, name), access.link(HOST, bridge)
    if master is None or (link is not None and link.master == master.index):
        return link
    ports = [rtnl_link.decode(one) for one in access.route(HOST).dump(rtnl_link.ports_of(master.index))]
    return next((one for one in ports if one.master == master.index and one.mac == master.mac), link)


def read_nic(
    access: Access, name: str, bridge: str, borrowed: Mapping[str, Borrowed], kept: Kept | None
) -> dict[str, Any] | None:
    """Return the fields of `planner.forwarding.NicFacts`; None: there is no such link.

    On the bridge already, it carries nothing but what came since. Of what is borrowed, what was before us is its own.
    """
    link, master = find_nic(access, name, bridge), access.link(HOST, bridge)
    if link is None:
        return None
    found: dict[str, Any] = {"name": link.name, "carried": read_carried(access, link.name)}
    if kept is not None and vanishes(kept, master):
        found["lost"] = tuple(
            lost(access, kept, master, (link, found["carried"]), (master, read_carried(access, bridge)))
        )
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
    nic, bridge = _found(access, item.name), _found(access, item.bridge)
    enslave = rtnl_link.change(nic.index, subject=f"link {item.name}", operation="enslave", master=bridge.index)
    joining: Messages = [(one, _NONE) for one in (enslave, *rtnl_link.see_carriers(nic.name, bridge.index))]
    _move(access, item, nic, (nic, bridge), joining, [])


def move_back(access: Access, item: BridgedNic) -> None:
    """Take a link off its bridge, and hang what the bridge carries on it again. A link that is gone is content.

    One that somebody set down is set up: a link that is down takes no routes, and the host is to have its network.

    Raises:
        KernelError: something was refused; what was moved before it stays moved. Or the bridge went a moment ago.
    """
    nic = access.link(HOST, item.name)
    if nic is None:
        return
    bridge = _found(access, item.bridge) if item.carried else access.link(HOST, item.bridge)
    free = rtnl_link.change(nic.index, subject=f"link {item.name}", operation="take off its bridge", master=0)
    ready = rtnl_link.change(nic.index, subject=f"link {item.name}", operation="set up", up=True)
    _move(access, item, nic, (bridge, nic), [(ready, _NONE)], [(free, _NONE)])


def generate_addresses(access: Access, name: str) -> None:
    """Have a link that comes up the next time get its link-local address, and none now; it may be gone."""
    request = rtnl_link.change(0, by_name=name, subject=f"link {name}", no_link_local=False)
    _send(access, [(request, _ABSENT)])


def _usable_at_once(item: BridgedNic) -> set[Address]:
    """Return the IPv6 addresses that are hung, but those whose detection of duplicates is to go on."""
    hung = [one for one in (*item.carried, *item.lost) if one.kind == rtnl.ADDRESS and one.arrival != "made"]
    found = [rtnl_address.decode(one.payload) for one in hung]
    return {one.address for one in found if one.address.family == IPV6 and not one.is_tentative}


def _found(access: Access, name: str) -> Link:
    link = access.link(HOST, name)
    if link is None:
        raise KernelError("find", f"link {name}", errno.ENODEV)
    return link


def _move(
    access: Access, item: BridgedNic, nic: Link, ends: tuple[Link | None, Link], opening: Messages, closing: Messages
) -> None:
    """Hang things on the second of two links, and then take them off the first: the routes at once.

    What was lost is of the interface. Without a first link there is nothing else.
    """
    old, new = ends[0] or nic, ends[1]
    arriving = [*_arriving(access, item.carried, old, new), *_coming_again(access, item.lost, nic, new)]
    leaving = list(_leaving(item, old))
    _send(access, [*opening, *arriving])
    for one in item.carried:
        if one.arrival == "learned":
            learn(one.payload, new.index, _subject(one, old))
    for one in item.lost:
        if one.arrival == "learned":
            _learn_again(one, nic, new)
    _send(access, [message for kind, message in leaving if kind == rtnl.ROUTE])
    await_usable(access, HOST, new.index, _usable_at_once(item), _PATIENCE_S)
    rest = [message for kind, message in leaving if kind != rtnl.ROUTE]
    _send(access, [*closing, *rest, *_settling(item, old, new)])


def _arriving(access: Access, carried: Iterable[Carried], old: Link, new: Link) -> Messages:
    """Return the requests that hang things on the new link. What it has already was left there half-way."""
    held = {rtnl.identity(one) for one in access.route(HOST).dump(rtnl_address.of_link(new.index))}
    found: Messages = []
    for one in carried:
        if one.arrival in ("learned", "made") or (one.kind == rtnl.ADDRESS and rtnl.identity(one.payload) in held):
            continue
        hung = rtnl.hang(one.kind, one.payload, (old.index, old.name), (new.index, new.name), one.arrival)
        hung.subject = _subject(one, old)
        found.append((hung, _THERE if one.kind == rtnl.ROUTE else _NONE))
    return found


def _coming_again(access: Access, gone: tuple[Carried, ...], nic: Link, new: Link) -> Messages:
    """Return the requests that hang on a link what was lost."""
    if not gone:
        return []
    return [(one, _NOT_ANY_MORE) for one, _ in _arriving(access, gone, nic, new)]


def _learn_again(one: Carried, nic: Link, new: Link) -> None:
    try:
        learn(one.payload, new.index, _subject(one, nic))
    except KernelError as cause:
        if cause.errno not in _NOT_ANY_MORE:
            raise


def _subject(one: Carried, old: Link) -> str:
    verb = 2 if one.words[0].startswith("-") else 1
    return f"{one.kind} {' '.join(one.words[verb + 1 :]).format(dev=old.name)}"


def _leaving(item: BridgedNic, old: Link) -> Iterator[tuple[Kind, tuple[Request, frozenset[int]]]]:
    """Yield the requests that take things off the old link, the last one first."""
    for one in reversed(item.carried):
        gone = rtnl.drop(one.kind, one.payload, old.index, old.name)
        if gone is not None:
            yield one.kind, (gone, _ABSENT)


def _settling(item: BridgedNic, old: Link, new: Link) -> Messages:
    """Return the requests that give the addresses without `nodad` the flags that they began with."""
    hung = (*item.carried, *item.lost)
    found = [one for one in hung if one.kind == rtnl.ADDRESS and one.arrival != "made"]
    settled = [rtnl.settle(one.payload, (old.index, old.name), (new.index, new.name)) for one in found]
    return [(one, _NONE) for one in settled if one is not None]


def _send(access: Access, requests: Messages) -> None:
    answers = access.route(HOST).ask([request for request, _ in requests])
    for answer, (_, content) in zip(answers, requests, strict=True):
        if answer.errno in content:
            continue
        if answer.errno in _UNREACHABLE:
            raise Refused(
                f"{answer.error()}: its gateway is not reached any more",
                hint="delete that route, or make the gateway reachable again, and say it once more",
            )
        if answer.errno:
            raise answer.error()
