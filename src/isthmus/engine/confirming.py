"""Confirm or revert: a change that cuts its own caller off goes back by itself.

A guard (kernel/guard.py) waits for the deadline beside the caller; past it, it enters the host, and whoever enters a
host takes back what is due (converge/host.py). So the next changing verb does it where the guard was killed too.
"""

from __future__ import annotations

import os
import time

from isthmus.converge import Host, keeping, recovery
from isthmus.errors import IsthmusError, NotFound, Refused
from isthmus.kernel import guard
from isthmus.kernel.beside import source_of
from isthmus.model.address import Address
from isthmus.model.host import HOST
from isthmus.model.network import Network, Record
from isthmus.model.plan import Report
from isthmus.model.value import Value
from isthmus.netlink.rtnl import route as rtnl_route
from isthmus.planner.desired import Scope
from isthmus.store import journal
from isthmus.store.edit import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

__all__ = ["NEVER", "change", "confirm", "wait_and_enter"]

NEVER: Final = 0
_DEFAULT_S: Final = 60
# Where all else is sent, as ip(8) has it: also what a VPN or a provider puts before a default route.
_EVERYWHERE: Final = frozenset({"default", "0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1", "2000::/3"})


def change(
    host: Host, verb: str, edit: Edit, scope: Scope, *, record: Record, within: int | None, leaving: bool = False
) -> Report:
    """Change a host, and have it taken back in `within` seconds unless it is confirmed.

    None: 60 where an interface moves that carries the default route or the caller's own ssh session, else never;
    NEVER: never.

    Raises:
        Refused: another change waits, or the caller's own ssh session would have no way back.
    """
    seconds = _seconds(host, edit, record, within)
    if not seconds:
        report = host.change(verb, edit, scope, leaving=leaving, record=record)
        if host.db.meta("reverted") is not None:  # of a change before this one
            host.db.set_meta("reverted", None)
        return report
    if host.pending is not None:
        raise Refused(
            f"{host.pending.verb} waits to be confirmed: one change at a time", hint="isthmus confirm, or wait"
        )
    deadline = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    identity = guard.start(source_of(__name__, "wait_and_enter", host.directory, deadline, last="ready"))
    try:
        host.db.set_meta("guard", identity)
        host.db.set_meta("reverted", None)
        report = host.change(verb, edit, scope, leaving=leaving, record=record, deadline=deadline)
    except BaseException as cause:
        if getattr(cause, "undone", True):  # else the guard is who mends it
            guard.stop(identity)
        raise
    if not report.plan and not edit:
        guard.stop(identity)
        return report
    note = f"this is taken back in {seconds} s, unless you say: isthmus confirm"
    return report.replace(notes=(*report.notes, note))


def _seconds(host: Host, edit: Edit, record: Record, within: int | None) -> int:
    moving = list(_moving(edit, record))
    session = _ssh_session() if moving else None
    link = _link_of(host, session) if session is not None else None
    own = next((one for one in moving if link in (one.nic, one.bridge)), None)
    if within == NEVER and own is not None and session is not None:
        raise Refused(
            f"link {own.nic} carries the ssh session that this is said in, from {session.peer}",
            hint="let it go back unless confirmed: --confirm-within 60",
        )
    if within is not None:
        return within
    links = {*host.outlook.links.uplinks4, *host.outlook.links.uplinks6} if moving else set()
    ends = {end for one in moving for end in (one.nic, one.bridge)}
    carries = own is not None or bool(links & ends) or any(_leads_out(host, one) for one in ends)
    return _DEFAULT_S if carries else NEVER


def _leads_out(host: Host, link: str) -> bool:
    """Whether a link carries a default route of any table, or one in halves."""
    from isthmus.kernel.nic import read_carried

    routes = (one.words for one in read_carried(host.access, link) if one.kind == "route")
    return any(_EVERYWHERE.intersection(words) for words in routes)


def _moving(edit: Edit, record: Record) -> Iterator[Network]:
    """Yield the networks whose interface an edit puts on its bridge, or takes off it."""
    for row in edit.puts:
        if isinstance(row, Network) and row.is_lan and row.name not in record.networks:
            yield row
    for kind, key in edit.drops:
        if kind == "networks" and key in record.networks and record.networks[key].is_lan:
            yield record.networks[key]


class _Session(Value):
    """An ssh session: where it comes from, by which link if a link-local address needs one, and the address here."""

    peer: Address
    zone: str
    local: Address


def _ssh_session() -> _Session | None:
    """Return the caller's ssh session: sshd says so to its child, and sudo tells nobody."""
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                found = [one for one in file.read().split(b"\0") if one.startswith(b"SSH_CONNECTION=")]
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            return None
        if found:
            try:
                peer, _, local, *_ = found[0].decode().partition("=")[2].split()
                address, _, zone = peer.partition("%")
                own = Address.parse(local.partition("%")[0])
                return _Session(peer=Address.parse(address), zone=zone, local=own)
            except (IsthmusError, ValueError):
                return None
    return None


def _link_of(host: Host, session: _Session) -> str:
    """Return the link that packets of a session leave by."""
    if session.zone:
        zone = host.access.link_of_any_name(HOST, session.zone)
        return zone.name if zone is not None else ""
    asked = [rtnl_route.way_to(session.peer, session.local), rtnl_route.way_to(session.peer)]  # it may be no more
    ways = [payload for answer in host.access.route(HOST).ask(asked) for payload in answer.payloads]
    oifs = rtnl_route.decode(ways[0]).oifs if ways else ()
    link = host.access.link_at(HOST, oifs[0]) if oifs else None
    return link.name if link is not None else ""


def wait_and_enter(directory: str, deadline: float, ready: Callable[[], None]) -> None:
    """Wait until the deadline, then enter the host: what is due is taken back."""
    import isthmus.kernel.nic  # noqa: F401  the way back needs it, and its file may be out of reach then

    host = Host(directory=directory)
    ready()
    while (left := deadline - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        time.sleep(left)
    for pause_s in (0.0, 1.0, 5.0, 30.0):
        time.sleep(pause_s)
        try:
            with host:
                return
        except (IsthmusError, OSError):
            host.close()


def confirm(host: Host, *, revert: bool = False) -> str:
    """Let the pending change stand, or take it back now; return the verb that made it.

    Raises:
        NotFound: nothing waits.
        Refused: it is too late, the change was taken back.
    """
    entry = host.pending
    if entry is None:
        late = host.db.meta("reverted")
        if late:
            host.db.set_meta("reverted", None)
            raise Refused(f"too late: {late} was taken back")
        raise NotFound("nothing waits to be confirmed")
    identity = str(host.db.meta("guard") or "")
    if revert:
        recovery.take_back(host, entry)
    else:
        keeping.mend_bridges(host)
        journal.confirm(host.db, entry.id)
        host.pending = None
    try:
        guard.stop(identity)
    except OSError:
        pass  # it wakes up at the deadline, finds nothing to do, and ends
    return entry.verb
