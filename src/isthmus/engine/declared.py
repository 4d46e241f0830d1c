"""The edit that leads from the record to a declaration: what is chosen, what goes, and what of it cannot be had."""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.attachments import link_row
from isthmus.engine.bystanders import check_led, check_members, leads_nowhere, new_ways
from isthmus.engine.choose import Chooser, Leaving
from isthmus.engine.direct import claims, matched
from isthmus.engine.faults import Faults
from isthmus.engine.forwarding import wished_rows
from isthmus.engine.namespaces import check_new_namespace, note_names
from isthmus.engine.networks import note_allowed, note_snat
from isthmus.engine.publishes import Beside, check_host, check_port, is_translated, publish_row
from isthmus.engine.removing import drop, rows_of
from isthmus.engine.room import Room
from isthmus.errors import NotFound, Refused
from isthmus.kernel.netns import RUN
from isthmus.model.declared import AttachmentWish, Declaration, LinkWish, NamespaceWish, PublishWish
from isthmus.model.network import Attachment, Command, DirectLink, Forwarding, Namespace, Network, Publish, Record
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from isthmus.engine.removing import OwnedRow

__all__ = ["DeclaredEdit"]


class DeclaredEdit:
    """Makes the edit from the record to a declaration: networks, namespaces, their ports, publishes, links."""

    def __init__(self, host: Host, declaration: Declaration, record: Record) -> None:
        self._host = host
        self._wish = declaration
        self._name = declaration.name
        self._before = record
        self._record = record
        self._chooser = Chooser(host)
        self._room = Room(host)
        self._touched: set[str] = set()
        self._withdrawn: frozenset[str] = frozenset()
        self._edit = Edit()
        self._faults = Faults()
        # What cannot be had: ("network" or "namespace" or "attachments of" a namespace, name), ("link", number).
        self._failed: set[object] = set()
        self._forwarding = self._wished_forwarding()
        own = (row for row in record.links.values() if row.owner == self._name)
        self._kept_links = matched(own, declaration.links)

    def edit(self) -> tuple[Edit, Scope]:
        """Return the edit and the scope that it and the declaration's present rows need.

        Raises:
            Refused, InvalidInput, NotFound, Unsupported: all that cannot be had; `several` has each with its place.
        """
        self._check_owners()
        with self._faults.at("", whole=True) as removal:
            self._remove()
        if removal.failed:  # what would be free without it is not
            self._faults.raise_any()
        self._networks()
        self._chooser.leaving = self._leaving()
        self._room.leaving = {self._before.attachments[key].host_ifname for key in self._dropped()}
        for wish in self._wish.namespaces:
            self._namespace(wish)
        publishes: list[Publish] = []
        self._withdrawn = frozenset(key for kind, key in self._edit.drops if kind == "publishes")
        for wish in self._wish.namespaces:
            self._publishes(wish, publishes)
        self._links()
        self._take(*self._forwarding.values())
        self._faults.raise_any()
        present = set(rows_of(self._before))
        changed = tuple(row for row in self._edit.puts if row not in present)
        touched = self._touched | {wish.name for wish in self._wish.namespaces}
        # What a network says of its ports holds for members that are not in the file, too.
        networks = {row.name for row in changed if isinstance(row, Network)}
        touched |= {row.namespace for row in self._before.attachments.values() if row.network in networks}
        self._bystanders(touched)
        self._faults.raise_any()
        edit = Edit(puts=changed, drops=self._edit.drops)
        return edit, Scope(host=True, namespaces=frozenset(touched))

    def _bystanders(self, touched: set[str]) -> None:
        """Drop what others publish that leads nowhere now, and object where it may not lead."""
        declared = {wish.name for wish in self._wish.networks}
        for row in self._record.publishes.values():
            if row.owner == self._name or row.namespace not in touched:
                continue
            if leads_nowhere(self._before, self._record, row):
                self._edit = self._edit.plus(Edit(drops=(("publishes", row.id),)))
                continue
            ways = [one.name for one in new_ways(self._before, self._record, row) if one.name in declared]
            place = f"networks.{ways[0]}" if ways else f"namespaces.{row.namespace}"
            with self._faults.at(place, whole=True):
                check_led(self._host, self._before, self._record, row)

    def _take(self, *rows: OwnedRow) -> None:
        more = Edit(puts=rows)
        self._edit = self._edit.plus(more)
        self._record = more.on(self._record)

    def _check_owners(self) -> None:
        for wish in self._wish.networks:
            with self._faults.at(f"networks.{wish.name}", whole=True) as trial:
                self._check_owner("network", wish.name, self._before.networks.get(wish.name))
            if trial.failed:
                self._failed.add(("network", wish.name))
        for space in self._wish.namespaces:
            row = self._before.namespaces.get(space.name)
            with self._faults.at(f"namespaces.{space.name}", whole=True) as trial:
                if row is None:
                    check_new_namespace(space.name)
                    note_names(self._host)
                self._check_owner("namespace", space.name, row)
            if trial.failed:
                self._failed.add(("namespace", space.name))
        for index, link in enumerate(self._wish.links):
            others = self._before.links.values() if index not in self._kept_links else ()
            with self._faults.at(f"links[{index}]", whole=True) as trial:
                for other in (one for one in others if claims(one, link)):
                    self._check_owner("link", f"between {link.a.namespace} and {link.b.namespace}", other)
            if trial.failed:
                self._failed.add(("link", index))

    def _check_owner(self, kind: str, name: str, row: Network | Namespace | DirectLink | None) -> None:
        if row is not None and row.owner != self._name:
            whose = f"declaration {row.owner}" if row.owner else "nobody (a command made it)"
            raise Refused(f"{kind} {name} belongs to {whose}, not to declaration {self._name}", users=(row.owner,))

    def _remove(self) -> None:
        """Drop what the declaration owned and no longer says."""
        spaces = {wish.name: wish for wish in self._wish.namespaces}
        networks = {wish.name for wish in self._wish.networks}
        gone = [row for row in rows_of(self._before, (self._name,)) if not self._says(row, spaces, networks)]
        if gone:
            force = f"isthmus down {self._name} --force"
            edit, scope = drop(self._host, self._before, gone, force=force)
            self._touched |= scope.namespaces or frozenset()
            self._edit = self._edit.plus(edit)
            self._record = edit.on(self._record)

    def _says(self, row: OwnedRow, spaces: dict[str, NamespaceWish], networks: set[str]) -> bool:
        if isinstance(row, Network):
            return row.name in networks
        if isinstance(row, Namespace):
            return row.id in spaces
        if isinstance(row, DirectLink):
            return row in self._kept_links.values()
        if isinstance(row, Forwarding):
            return row.id in self._forwarding
        wish = spaces.get(row.namespace)
        if wish is None:
            return False
        if isinstance(row, Attachment):
            return any(row.network == one.network for one in wish.attachments)
        if isinstance(row, Publish):
            return any(_is_of(row, one) for one in wish.publishes)
        return wish.command is not None

    def _wished_forwarding(self) -> dict[str, Forwarding]:
        rows: dict[str, Forwarding] = {}
        for index, wish in enumerate(self._wish.forwarding):
            with self._faults.at(f"forwarding[{index}]", whole=True):
                rows |= wished_rows(self._host, (wish,), self._before, self._name)
        return rows

    def _dropped(self) -> set[str]:
        return {key for kind, key in self._edit.drops if kind == "attachments"}

    def _leaving(self) -> Leaving:
        """Return the attachments that give up what they have: those dropped, and those that are to have another."""
        dropped = self._dropped()
        addresses, macs, ifnames = set(dropped), set(dropped), set(dropped)
        for wish in self._wish.namespaces:
            rows = {row.network: row for row in self._before.attachments_of(wish.name)}
            for one, row in ((one, rows[one.network]) for one in wish.attachments if one.network in rows):
                if not set(one.ips) <= set(row.addresses):
                    addresses.add(row.id)
                if one.mac not in (None, row.mac):
                    macs.add(row.id)
                if one.ifname not in (None, row.ifname):
                    ifnames.add(row.id)
        return Leaving(addresses=frozenset(addresses), macs=frozenset(macs), ifnames=frozenset(ifnames))

    def _networks(self) -> None:
        for wish in self._wish.networks:
            if ("network", wish.name) in self._failed:
                continue
            before = self._before.networks.get(wish.name)
            with self._faults.at(f"networks.{wish.name}") as trial:
                row = self._chooser.network(wish, self._record, before, self._name)
                if before is not None and before.subnets != row.subnets:
                    others = (one for one in self._record.members(wish.name) if one.owner != self._name)
                    check_members(before, row, others)
                note_snat(self._host, row)
                self._take(row)
            if trial.failed:
                self._failed.add(("network", wish.name))
                # What it was until now stands against no other's subnets.
                rest = {name: row for name, row in self._record.networks.items() if name != wish.name}
                self._record = self._record.replace(networks=rest)
        for wish in self._wish.networks:
            if ("network", wish.name) not in self._failed:
                note_allowed(self._host, self._record.networks[wish.name], self._record)

    def _namespace(self, wish: NamespaceWish) -> None:
        if ("namespace", wish.name) in self._failed:
            return
        before = self._before.namespaces.get(wish.name)
        fresh = Namespace(id=wish.name, path=f"{RUN}/{wish.name}", made=True, owner=self._name)
        self._take(before if before is not None else fresh)
        for one in wish.attachments:
            if ("network", one.network) in self._failed:
                self._failed.add(("attachments of", wish.name))
                continue
            with self._faults.at(f"namespaces.{wish.name}.networks.{one.network}") as trial:
                self._attachment(one, wish.name)
            if trial.failed:
                self._failed.add(("attachments of", wish.name))
        if wish.command is not None:
            self._take(Command(namespace=wish.name, argv=wish.command, owner=self._name))

    def _attachment(self, wish: AttachmentWish, namespace: str) -> None:
        network = self._record.networks.get(wish.network)
        if network is None:
            raise NotFound(f"namespace {namespace}: no network {wish.network!r}")
        old = next((row for row in self._before.attachments_of(namespace) if row.network == wish.network), None)
        if old is None:
            self._room.take(network)
        self._take(self._chooser.attachment(wish, network, namespace, self._record, before=old, owner=self._name))

    def _publishes(self, wish: NamespaceWish, done: list[Publish]) -> None:
        old = [row for row in self._before.publishes.values() if row.namespace == wish.name and row.owner == self._name]
        for index, one in enumerate(wish.publishes):
            before = next((row for row in old if _is_of(row, one)), None)
            if before is not None:
                old.remove(before)
            with self._faults.at(f"namespaces.{wish.name}.publish[{index}]", whole=True):
                if ("namespace", wish.name) in self._failed:
                    check_host(self._host, one)
                elif ("attachments of", wish.name) in self._failed:
                    check_host(self._host, one)
                    if before is None and self._wish.translates(wish, one):
                        check_port(one, wish.name, Beside(self._host, self._record, done, self._withdrawn))
                else:
                    self._publish(one, wish.name, before, done)

    def _publish(self, wish: PublishWish, namespace: str, before: Publish | None, done: list[Publish]) -> None:
        had = before if before is not None and is_translated(self._before, before) else None
        row = publish_row(
            self._host,
            wish,
            namespace,
            self._record,
            owner=self._name,
            before=had,
            beside=done,
            renewed="" if before is None else before.id,
            dropped=self._withdrawn,
        )
        if before is not None and before.id != row.id:
            self._edit = self._edit.plus(Edit(drops=(("publishes", before.id),)))
        done.append(row)
        self._take(row)

    def _links(self) -> None:
        """Make the rows of direct links; those that are there first, since they keep their names."""
        # What one is to have may be on another that gives it up.
        aside = {row.id for row in self._kept_links.values()}
        rest = {key: row for key, row in self._record.links.items() if key not in aside}
        self._record = self._record.replace(links=rest)
        numbers = range(len(self._wish.links))
        for index in sorted(numbers, key=lambda one: one not in self._kept_links):
            if ("link", index) not in self._failed:
                self._link(self._wish.links[index], f"links[{index}]", self._kept_links.get(index))

    def _link(self, wish: LinkWish, place: str, before: DirectLink | None) -> None:
        spaces = (wish.a.namespace, wish.b.namespace)
        if any(("namespace", name) in self._failed for name in spaces):
            return
        for side, name in enumerate(spaces):
            with self._faults.at(f"{place}.ends[{side}].ns") as trial:
                if name not in self._record.namespaces:
                    raise NotFound(f"link between {spaces[0]} and {spaces[1]}: no namespace {name!r} on record")
            if trial.failed:
                return
        self._touched |= set(spaces)
        with self._faults.at(place):
            self._take(link_row(wish, self._record, spaces, before=before, owner=self._name))


def _is_of(row: Publish, wish: PublishWish) -> bool:
    """Whether a row is what became of a wish."""
    return (
        row.port == wish.port
        and row.count == wish.count
        and row.protocol == wish.protocol
        and row.host == wish.host
        and row.network == wish.network
        and (wish.host_port is None or wish.host_port == row.host_port)
    )
