"""What may be amiss beside a crash of ours when a call begins: rules that somebody changed, namespaces that ended."""

from __future__ import annotations

from isthmus.errors import IsthmusError
from isthmus.kernel.access import Access
from isthmus.kernel.ruleset import fingerprint, other_tables, set_elements
from isthmus.kernel.sysctl import write_sysctl
from isthmus.planner.desired import EVERYTHING, Scope
from isthmus.store.edit import Edit, namespace_edit
from isthmus.store.sqlite import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.converge.host import Host

__all__ = ["ended", "load_anew", "mend_rules"]


def mend_rules(host: Host, generation: int, loaded: str) -> None:
    """Put the firewall right after somebody has committed to nf_tables; `loaded` is the fingerprint on record."""
    lost = other_tables(fingerprint(host.access), loaded)
    if not lost:
        # The rules stand; a stranger may have changed what the sets hold, and isolation rests on those.
        host.remember("generation", generation)
        ajar = _ajar(host.db, host.access) if "bridge:" in loaded else frozenset[str]()
        host.change("follow", Edit(), Scope(host=True, namespaces=ajar))
        return
    host.notes.append(f"somebody changed or flushed {lost}: it was loaded again")
    try:
        load_anew(host, "restore")
    except IsthmusError:
        # Without the drop of 127.0.0.0/8 a container would reach the host's loopback: fail closed.
        for network in host.db.rows("networks").values():
            write_sysctl(f"net/ipv4/conf/{network.bridge}/route_localnet", "0")
        raise


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


def _ajar(db: Database, access: Access) -> frozenset[str]:
    """Return the living namespaces whose isolated port lacks its element: somebody may have deleted it."""
    networks = [one.name for one in db.seldom("networks").values() if one.isolate_ports]
    apart = {one.parts[0] for one in set_elements(access, "apart")}
    rows = db.rows("attachments", f"network IN ({_marks(networks)})", networks)
    names = sorted({row.namespace for row in rows.values() if row.host_ifname not in apart})
    access.know(db.rows("namespaces", f"id IN ({_marks(names)})", names).values())
    return frozenset(name for name in names if access.is_alive(name))


def _marks(values: list[str]) -> str:
    return ", ".join("?" * len(values))
