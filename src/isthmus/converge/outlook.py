"""What the planner is told of the host beside its objects: read when first asked for, once a call."""

from __future__ import annotations

import os

from isthmus.kernel.access import Access
from isthmus.kernel.facts import (
    HostFacts,
    RouteWatch,
    address_links,
    default_links,
    has_bridge,
    is_bridge,
    read_copies,
    read_facts,
    read_link_local,
    read_resolvers,
    read_strangers,
    read_switched,
)
from isthmus.kernel.ruleset import has_bridge_table
from isthmus.model.address import Address
from isthmus.model.network import Record
from isthmus.model.switches import SWITCHES, copied_family
from isthmus.planner.borrowing import went_on
from isthmus.planner.desired import Scope
from isthmus.planner.forwarding import Facts, NicFacts, covers
from isthmus.planner.names import resolver_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.model.host import PinnedMac

__all__ = ["Outlook", "run_directory"]


def run_directory() -> str:
    """Where files of ours are that a reboot ends: ISTHMUS_RUN_DIR or /run/isthmus."""
    return os.environ.get("ISTHMUS_RUN_DIR") or "/run/isthmus"


def _resolver() -> str | None:
    """Return a resolv.conf for namespaces: the host's, without what only it can reach; None: none can be given."""
    found = read_resolvers()
    return None if found is None else resolver_text(*found)


class Outlook:
    """Reads facts; a resident keeps the default routes' links in mind and is told when they change."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._links: HostFacts | None = None
        self._facts: Facts | None = None
        self._watch: RouteWatch | None = None
        self._bridge_table: bool | None = None
        self.kept: bytes | None = None  # what interfaces carried when they moved, as it is stored
        self._of_foreign = Facts(run_directory=run_directory(), resolver=None)  # they are given no files

    def forget(self) -> None:
        """Begin a new call."""
        self._links = self._facts = None

    def watch(self) -> None:
        """Be a resident's."""
        if self._watch is None:
            self._watch = RouteWatch()

    def close(self) -> None:
        """Close what it holds."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    @property
    def links(self) -> HostFacts:
        """The links of the default routes."""
        if self._links is None:
            self._links = default_links(self._access) if self._watch is None else self._watch.read(self._access)
        return self._links

    @property
    def facts(self) -> Facts:
        """What the planner must know of the host whatever it plans."""
        if self._facts is None:
            read = read_facts(self._access, self.links)
            self._facts = Facts(
                **read, run_directory=run_directory(), resolver=_resolver(), hostname=os.uname().nodename
            )
        return self._facts

    def facts_of(self, record: Record) -> Facts:
        """Return the facts of the host for a record that may have ports published at certain addresses."""
        return self.facts.replace(links=self._links_of(record))

    def _links_of(self, *records: Record) -> dict[Address, str]:
        networks = [one for record in records for one in record.networks.values()]
        gateways = {subnet.gateway for one in networks for subnet in one.subnets if subnet.gateway is not None}
        return address_links(self._access, gateways)

    def of(self, scope: Scope, old: Record, new: Record) -> tuple[Facts, Facts]:
        """Return the facts for a plan that leads from a record to another: before and after it."""
        if scope.host:
            before, after = self._of_bridges(old, new, *self._of_host(old, new))
        else:
            before, after = self._of_namespaces(old, new)
        gone = self._gone(scope, old, new)
        if gone:
            before, after = before.replace(gone=gone), after.replace(gone=gone)
        if any(one.judges_frames for record in (old, new) for one in record.networks.values()):
            if self._bridge_table is None:
                self._bridge_table = has_bridge_table(self._access)
            before = before.replace(bridge_table=self._bridge_table)
            after = after.replace(bridge_table=self._bridge_table)
        unpinned = self._unpinned(new, gone)
        if unpinned:
            after = after.replace(unpinned=unpinned)
        leased = {one.id: one for record in (old, new) for one in record.attachments.values() if one.leased}
        if not leased:
            return before, after
        from isthmus.converge.leases import named_leases, present_leases

        before = before.replace(leases=named_leases(leased.values()))
        return before, after.replace(leases=present_leases(self._access, leased.values()))

    def _gone(self, scope: Scope, old: Record, new: Record) -> frozenset[str]:
        """Return the bridges that are not there and that a change of that scope does not make."""
        bridges = {(one.bridge, one.adopted) for record in (old, new) for one in record.networks.values()}
        access = self._access
        gone = {name for name, adopted in bridges if adopted and not is_bridge(access, name)}
        if not scope.host:
            gone |= {name for name, adopted in bridges if not adopted and not has_bridge(access, name)}
        return frozenset(gone)

    def _unpinned(self, new: Record, gone: frozenset[str]) -> dict[str, PinnedMac]:
        """Return how adopted bridges that are to have ports keep their MACs, where the kernel does not see to that."""
        networks = [new.networks[one.network] for one in new.attachments.values()]
        bridges = {one.bridge for one in networks if one.adopted} - gone
        if not bridges:
            return {}
        from isthmus.kernel.pinned import read_unpinned

        found = {bridge: read_unpinned(self._access, bridge) for bridge in bridges}
        return {bridge: one for bridge, one in found.items() if one is not None}

    def _of_host(self, old: Record, new: Record) -> tuple[Facts, Facts]:
        borrows = any(name in record.borrowed for record in (old, new) for name in SWITCHES.values())
        if borrows and not self.facts.strangers:
            self._facts = self.facts.replace(strangers=read_strangers(self._access))
        if borrows or not self.facts.force_forwarding or old.forwarding or new.forwarding:
            self._facts = self.facts.replace(copies=read_copies())
        self._facts = self.facts.replace(switched=read_switched())
        if any(row.persist for record in (old, new) for row in record.forwarding.values()):
            from isthmus.converge.host_files import is_masked

            self._facts = self.facts.replace(masked=is_masked())
        if old.borrowed or _is_published_at(old, new):
            self._facts = self.facts.replace(links=self._links_of(old, new))
        lans = [one for record in (old, new) for one in record.networks.values() if one.is_lan]
        if not lans:
            return self.facts, self.facts
        from isthmus.kernel.nic import read_nic
        from isthmus.store.kept import decode_kept

        # Read anew for each plan: it is what the plan moves.
        kept = decode_kept(self.kept)
        # What all links are asked to do is not taken for borrowed: it is for the bridge, too.
        ours = {name: row for name, row in old.borrowed.items() if not covers(old, copied_family(name))}
        rows = {name: row for name, row in ours.items() if not went_on(row, old, self.facts)}
        read = {one.nic: read_nic(self._access, one.nic, one.bridge, rows, kept.get(one.bridge)) for one in lans}
        nics = {name: NicFacts(**found) for name, found in read.items() if found is not None}
        facts = self.facts.replace(nics=nics)
        return facts, _moved(facts, old, new)

    def _of_bridges(self, old: Record, new: Record, before: Facts, after: Facts) -> tuple[Facts, Facts]:
        """Add what is to be known of adopted bridges that are a gateway of IPv6."""
        networks = [one for record in (old, new) for one in record.networks.values() if one.adopted]
        bridges = {one.bridge for one in networks if any(net.prefix.family == 6 and net.gateway for net in one.subnets)}
        if not bridges:
            return before, after
        read = {bridge: read_link_local(self._access, bridge) for bridge in bridges}
        needs = {bridge: needed for bridge, (_, needed) in read.items() if needed is not None}
        # One that lacks it was to have it before: else that would be of the edit, whichever that is.
        has = needs | {bridge: found for bridge, (found, _) in read.items() if found is not None}
        return before.replace(link_locals=has), after.replace(link_locals=needs)

    def _of_namespaces(self, old: Record, new: Record) -> tuple[Facts, Facts]:
        """Facts enough for a namespace: only ports at a certain address, and a closed IPv6 network, ask for more."""
        if _is_published_at(old, new):
            return self._of_host(old, new)
        if any(not one.has_exit and one.subnet(6) for one in new.networks.values()):
            return self.facts, self.facts
        if any(row.made for record in (old, new) for row in record.namespaces.values()):
            facts = Facts(run_directory=run_directory(), resolver=_resolver(), hostname=os.uname().nodename)
            return facts, facts
        return self._of_foreign, self._of_foreign


def _is_published_at(old: Record, new: Record) -> bool:
    """Whether a port is published at a certain address of the host that others may ask at."""
    rows = (row for record in (old, new) for row in record.publishes.values())
    return any(row.host is not None and not row.host.is_loopback for row in rows)


def _moved(facts: Facts, old: Record, new: Record) -> Facts:
    """Return facts with the default routes where the plan leads them: on a bridge, or back on its interface."""
    present = facts.renamed
    names = {one.bridge: present.get(one.nic, one.nic) for one in old.networks.values() if one.is_lan}
    names = {bridge: nic for bridge, nic in names.items() if all(one.bridge != bridge for one in new.networks.values())}
    names |= {present.get(one.nic, one.nic): one.bridge for one in new.networks.values() if one.is_lan}
    return facts.replace(
        uplinks4=tuple(names.get(one, one) for one in facts.uplinks4),
        uplinks6=tuple(names.get(one, one) for one in facts.uplinks6),
        learned6=frozenset(names.get(one, one) for one in facts.learned6),
        links={address: names.get(one, one) for address, one in facts.links.items()},
    )
