"""What may be amiss beside a crash of ours: rules that somebody changed, namespaces that ended, names of bridges."""

from __future__ import annotations

import errno

from isthmus.converge.recovery import RESTORE, follow, lasts, note_mended, note_restored
from isthmus.errors import IsthmusError, KernelError, Refused
from isthmus.kernel.access import Access
from isthmus.kernel.facts import bridge_of
from isthmus.kernel.ruleset import fingerprint, generation, other_tables, set_elements
from isthmus.kernel.sysctl import write_sysctl
from isthmus.model.host import HOST, BridgedNic, HostState
from isthmus.model.ruleset import SETS
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.planner.desired import EVERYTHING, Scope
from isthmus.planner.firewall import record_elements
from isthmus.store.edit import Edit, namespace_edit
from isthmus.store.sqlite import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.converge.host import Host
    from isthmus.model.network import Record

__all__ = ["ended", "follow_routes", "load_anew", "mend_rules", "name_bridges", "with_changed_sets"]


def mend_rules(host: Host, present: int, loaded: str) -> None:
    """Put the firewall right after somebody has committed to nf_tables.

    `present` is its generation id now, `loaded` the fingerprint on record.
    """
    lost = other_tables(fingerprint(host.access), loaded)
    if not lost:
        # The rules stand; a stranger may have changed what the sets hold, and isolation rests on those.
        host.strays, ajar = _changed_sets(host, loaded)
        if follow(host, Scope(host=True, namespaces=ajar), "somebody changed the firewall"):
            note_mended(host, "somebody changed what the firewall's sets hold: it was put back")
        else:
            host.remember("generation", present)
        host.strays = {}
        return
    note_restored(host, lost)
    try:
        load_anew(host, RESTORE)
    except IsthmusError as cause:
        if lasts(cause) and not other_tables(fingerprint(host.access), str(host.db.meta("fingerprint"))):
            host.notes.append(f"the rules stand again, and not all that is on record: {cause.message}")
            return
        # Without the drop of 127.0.0.0/8 a container would reach the host's loopback: fail closed.
        for network in host.db.rows("networks").values():
            write_sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "0")
        raise


def with_changed_sets(host: Host, scope: Scope) -> Scope:
    """Return the scope of a plan with what the next change would put right in our sets, if somebody changed rules."""
    meta = host.db.all_meta()
    if not scope.host or meta.get("version") is None or generation(host.access) == meta.get("generation"):
        return scope
    host.strays, ajar = _changed_sets(host, str(meta.get("fingerprint")))
    return scope if scope.namespaces is None else Scope(host=True, namespaces=scope.namespaces | ajar)


def _changed_sets(host: Host, loaded: str) -> tuple[HostState, frozenset[str]]:
    """Return what sets of ours hold that no row asks for, and the living namespaces that they lack something of."""
    record, access = host.db.record(), host.access
    wanted = {one.key: (name, one) for name, one in record_elements(record, frames="bridge:" in loaded)}
    found: HostState = {one.key: one for name in SETS for one in set_elements(access, name)}
    ajar = {name for key, (name, one) in wanted.items() if name and found.get(key) != one}
    access.know(record.namespaces.values())
    strays = {key: one for key, one in found.items() if key not in wanted}
    return strays, frozenset(name for name in ajar if access.is_alive(name))


def load_anew(host: Host, verb: str) -> None:
    """Load the rulesets with all that their sets hold; what hangs on namespaces that ended is cleared."""
    gone = ended(host.db, host.access)
    host.notes += [f"namespace {name} is gone: what hung on it was cleared" for name in gone]
    edit = namespace_edit(host.record(), *gone) if gone else Edit()
    host.change(verb, edit, EVERYTHING, leaving=True)


def ended(db: Database, access: Access) -> list[str]:
    """Return the namespaces that are gone and not ours to make again."""
    rows = db.rows("namespaces", "NOT made")
    access.know(rows.values())
    return [name for name in rows if not access.is_alive(name)]


def name_bridges(host: Host, record: Record) -> None:
    """Give bridges of ours that somebody renamed their names of the record again: all that hangs on them stays there.

    Raises:
        Refused: the host is only looked at, or the kernel does not rename it.
    """
    for network in record.networks.values():
        if network.adopted or network.mac is None or host.access.has_link(HOST, network.bridge):
            continue
        found = bridge_of(host.access, network.mac)
        if found is None:
            continue
        subject = f"bridge {network.bridge}"
        if not host.writable:
            raise Refused(f"{subject} is called {found.name} now", hint="isthmus repair gives it its name again")
        try:
            host.access.route(HOST).do(rtnl_link.change(found.index, subject=subject, name=network.bridge))
        except KernelError as cause:
            if cause.errno != errno.EBUSY:
                raise
            raise Refused(
                f"{subject} is called {found.name} now, and this kernel does not rename a link that is up",
                hint=f"ip link set dev {found.name} down, rename it, set it up, and say it once more",
            ) from cause
        note_mended(host, f"{subject} was called {found.name}: it has its name again")
        host.outlook.forget()


def follow_routes(host: Host) -> None:
    """Follow default routes that are by other links now, or went with a bridge of ours."""
    why = "the host's default routes have changed"
    plan = follow(host, Scope(host=True, namespaces=frozenset()), why)
    found = [step.item for step in plan.steps]
    if found and not any(isinstance(one, BridgedNic) and one.lost for one in found):  # else that is said
        names = dict.fromkeys(str(getattr(one, "name", one)) for one in found)
        note_mended(host, f"{why}: {', '.join(names)} followed")
