"""Create and remove networks."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine import confirming
from isthmus.engine.attachments import detach_edit
from isthmus.engine.choose import Chooser, host_addresses
from isthmus.engine.publishes import route_notes
from isthmus.engine.targets import find_network
from isthmus.errors import Refused
from isthmus.model.declared import NetworkWish
from isthmus.model.host import HOST
from isthmus.model.network import Network, Record
from isthmus.model.plan import Report
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["create_network", "drop_networks", "note_allowed", "note_snat", "remove_network", "subject"]


def subject(kind: str, names: Collection[str], one: str, many: str) -> str:
    """Return the beginning of a sentence about one or several: `network n is`, `networks m, n are`."""
    return f"{kind} {''.join(names)} {one}" if len(names) == 1 else f"{kind}s {', '.join(names)} {many}"


def note_snat(host: Host, network: Network) -> None:
    """Note addresses that packets leave with, and that the host does not have."""
    lacked = sorted(set(network.snat) - host_addresses(host), key=str) if network.snat else ()
    host.notes += [
        f"packets of network {network.name} leave as {address}, which this host does not have: answers come back only "
        "if somebody routes them here"
        for address in lacked
    ]


def note_allowed(host: Host, network: Network, record: Record) -> None:
    """Note networks that a network may talk with, and that are not there: a name may be misspelt."""
    lacked = sorted(name for name in network.allow if name not in record.networks)
    host.notes += [f"no network {name} yet: {network.name} may talk with it when it is made" for name in lacked]


def create_network(host: Host, wish: NetworkWish, *, confirm_within: int | None = None) -> tuple[Network, Report]:
    """Make a network: its bridge (or its part of an adopted one), addresses, rules, forwarding.

    `confirm_within`: seconds in which it must be confirmed (confirming.py).

    Raises:
        Refused: the name is taken, a subnet overlaps, the bridge cannot be adopted.
        InvalidInput: a gateway outside its subnet.
    """
    record = host.record()
    if wish.name in record.networks:
        raise Refused(f"network {wish.name} exists already")
    row = Chooser(host).network(wish, record, None, owner="")
    note_snat(host, row)
    note_allowed(host, row, record)
    scope = Scope(host=True, namespaces=frozenset())
    edit = Edit(puts=(row,))
    report = confirming.change(host, "network create", edit, scope, record=record, within=confirm_within)
    return row, report.replace(notes=(*report.notes, *route_notes(host, (row,))))


def remove_network(host: Host, name: str, *, force: bool = False, confirm_within: int | None = None) -> Report:
    """Take a network away; with `force`, its members are detached first.

    Raises:
        NotFound: no such network.
        Refused: it has members, or belongs to a declaration.
    """
    record = host.record()
    network = find_network(record, name)
    if network.owner and not force:
        raise Refused(f"network {name} belongs to declaration {network.owner}", hint=f"isthmus down {network.owner}")
    if not force and not network.is_lan:  # one of those is looked at below, as in `down`
        _check_on_top(host, network, "say --force")
    edit, scope = drop_networks(host, record, (name,), frozenset(), force=None if force else "say --force")
    return confirming.change(host, "network rm", edit, scope, record=record, within=confirm_within, leaving=True)


def _check_on_top(host: Host, network: Network, force: str) -> None:
    """Check that nobody has a link on a bridge of ours: it would go with that.

    Raises:
        Refused: somebody has.
    """
    from isthmus.kernel.on_top import on_top

    link = None if network.adopted else host.access.link(HOST, network.bridge)
    users = () if link is None else tuple(on_top(host.access, link))
    if users:
        why = f"bridge {network.bridge} of network {network.name} has other links on it: {', '.join(users)}"
        raise Refused(why, users=users, hint=f"delete them, or {force}")


def drop_networks(
    host: Host, record: Record, names: tuple[str, ...], leaving: frozenset[str], *, force: str | None
) -> tuple[Edit, Scope]:
    """Return the edit that drops networks, and its scope; `leaving` are namespaces that go with them.

    `force` None: whoever else uses one of them is detached; else how to say that.

    Raises:
        Refused: somebody else uses one of them.
    """
    edit, touched, users = Edit(), set(leaving), []
    for name in names:
        if force is not None and record.networks[name].is_lan:
            _check_on_top(host, record.networks[name], force)
        for member in record.members(name):
            if member.namespace not in leaving:
                users.append(f"{member.namespace} on {name}")
                touched.add(member.namespace)
                edit = edit.plus(detach_edit(host, edit.on(record), member))
    if users and force is not None:
        raise Refused(
            f"{subject('network', names, 'is', 'are')} in use: {', '.join(users)}",
            users=tuple(users),
            hint=f"detach them, or {force}",
        )
    edit = edit.plus(Edit(drops=tuple(("networks", name) for name in names)))
    return edit, Scope(host=True, namespaces=frozenset(touched))
