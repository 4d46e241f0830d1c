"""Who needs forwarding, what a change of it does to links, and which file undoes it at the next boot."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.converge.host_files import is_masked
from isthmus.errors import NotFound
from isthmus.kernel.facts import read_copies, read_strangers
from isthmus.kernel.sysctl import read_sysctl
from isthmus.kernel.sysctl_files import read_sysctl_files
from isthmus.model.host import HOST, File, Sysctl
from isthmus.model.network import Record
from isthmus.model.plan import Change, Plan
from isthmus.model.switches import SWITCHES, copied_family, forwards, link_switch, switched
from isthmus.planner.forwarding import host_sysctls, publish_sysctls, row_sysctls
from isthmus.planner.persisting import OWN_FILE, assignments, at_boot, persisted_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isthmus.model.network import Forwarding
    from isthmus.planner.persisting import Assignment

    Boot = dict[str, tuple[str, Assignment | None]]

__all__ = ["called", "effects", "known_links", "needs", "next_boot", "undone"]


def called(family: int, link: str) -> str:
    """Return what a row is called."""
    return f"IPv{family} forwarding" + (f" on {link}" if link else "")


def known_links(host: Host, names: Iterable[str], kept: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names that the kernel gives links of these names, alternative ones too; those in `kept` may be gone.

    Raises:
        NotFound: no link has a name.
    """
    found = dict[str, None]()
    for name in names:
        link = None if name in ("all", "default") else host.access.link_of_any_name(HOST, name)
        if link is None and name not in kept:
            raise NotFound(f"no link {name!r}", hint="isthmus forwarding shows them")
        found[name if link is None else link.name] = None
    return tuple(found)


def needs(host: Host, record: Record) -> dict[str, tuple[str, ...]]:
    """Return who needs each sysctl: `network NAME`, `isthmus forwarding`."""
    facts = host.outlook.facts_of(record).replace(copies=read_copies())
    found: dict[str, tuple[str, ...]] = {}

    def note(name: str, who: str) -> None:
        found[name] = (*found.get(name, ()), who)

    for network in record.networks.values():
        names = {item.name for item in host_sysctls(record.replace(networks={network.name: network}), facts)}
        names |= {item.name for item in publish_sysctls(record, network, facts)}
        for name in names:
            note(name, f"network {network.name}")
    for row in record.forwarding.values():
        for item in row_sysctls(row, record, facts) if row.now else ():
            note(item.name, "isthmus forwarding" + (f" of {row.owner}" if row.owner else ""))
    return found


def effects(host: Host, plan: Plan) -> tuple[str, ...]:
    """Say what a plan does to links by a global switch."""
    changes = [step.item for step in plan.steps if isinstance(step, Change) and isinstance(step.item, Sysctl)]
    said: list[str] = []
    for family, value in switched(plan).items():
        copies = [item for item in changes if copied_family(item.name) == family]
        still = [
            _link(item) for item in plan.kept if item.name == link_switch(family, _link(item)) and item.value == "1"
        ]
        links = [_link(item) for item in copies if forwards(item.name) and _link(item) not in still]
        word = "forward" if value == "1" else "forward no longer"
        said.append(f"IPv{family}: {SWITCHES[family]} is for every link: {', '.join(links) or 'none'} {word}")
        if any(not forwards(item.name) for item in copies):
            said.append(f"IPv4: ICMP redirects are {'not ' * (value == '1')}accepted (accept_redirects of all)")
        if value == "0":
            said += [f"IPv{family}: still forwarding: {', '.join(still)}"] if still else []
        elif family == 6:
            said += _advertisements(
                [*links, *still], [_link(item) for item in changes if item.name.endswith("/accept_ra")]
            )
    if "0" in switched(plan).values() and (strangers := read_strangers(host.access)):
        said.append(f"others here may need forwarding: {', '.join(strangers)}")
    return tuple(said)


def _link(item: Sysctl) -> str:
    return item.name.split("/")[3]


def _advertisements(links: list[str], uplinks: list[str]) -> Iterator[str]:
    """Say of which links router advertisements go on counting, and of which no longer."""
    if uplinks:
        yield f"IPv6: accept_ra of {', '.join(uplinks)} becomes 2 first, else the learned default route would be lost"
    deaf = [link for link in links if link not in ("default", "lo", *uplinks)]
    deaf = [link for link in deaf if read_sysctl(f"net/ipv6/conf/{link}/accept_ra") == "1"]
    if deaf:
        yield f"IPv6: router advertisements count no longer on {', '.join(deaf)} (accept_ra is 1)"


def next_boot(record: Record) -> Boot:
    """Return what each sysctl of forwarding will be after a boot by the files as the record wishes them."""
    files = read_sysctl_files()
    if not is_masked():
        own = [(item.path, item.text) for item in persisted_files(record) if isinstance(item, File)]
        files = [*own, *(one for one in files if one[0] != OWN_FILE)]
    rows = [link_switch(row.family, row.link) for row in record.forwarding.values() if row.link]
    names = (*read_copies(), "net/ipv6/conf/default/force_forwarding", *rows, *SWITCHES.values())
    return at_boot(assignments(files), dict.fromkeys(names))


def undone(record: Record) -> tuple[str, ...]:
    """Say which lines of files undo at the next boot what the record wishes for good."""
    rows = [row for row in record.forwarding.values() if row.persist]
    state = next_boot(record) if rows else {}
    notes: dict[str, None] = {}
    for row in rows:
        for name in _wished(row, state):
            value, line = state[name]
            if forwards(name) and value != "1" and line is not None:
                what = f"{line.name} = {line.value}"
                notes[f"{line.path}:{line.line} comes after {OWN_FILE} and undoes it at boot: {what}"] = None
    return tuple(notes)


def _wished(row: Forwarding, state: Boot) -> tuple[str, ...]:
    """Return the sysctls that have to be on after a boot for a row.

    Of IPv6 the switch is enough: what a link has copied of it decides nothing.
    """
    if row.family == 6:
        is_on = state[SWITCHES[6]][0] == "1"
        return () if is_on else (link_switch(6, row.link) if row.link else SWITCHES[6],)
    if row.link:
        return (link_switch(4, row.link),)
    return (SWITCHES[4], *(name for name in state if copied_family(name) == 4))
