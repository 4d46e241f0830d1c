"""From the record to the host that should be: record, scope -> HostState."""

from __future__ import annotations

from isthmus.model.host import HostObject, HostState, NamedNetns, Process, Ruleset
from isthmus.model.network import Record
from isthmus.model.ruleset import RULESET
from isthmus.model.value import Value
from isthmus.planner.firewall import attachment_elements, frame_elements, network_elements, publish_elements
from isthmus.planner.forwarding import Facts, host_sysctls, namespace_sysctls, wished_sysctls
from isthmus.planner.links import attachment_links, autoconf, direct_link, namespace_routes, network_links
from isthmus.planner.names import name_objects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EVERYTHING", "Scope", "desired"]


class Scope(Value):
    """What a change looks at: the host's part (networks, ruleset, forwarding), and namespaces (None: all)."""

    host: bool
    namespaces: frozenset[str] | None

    @property
    def is_full(self) -> bool:
        """Whether it holds all that is ours: only then is what is on no record a stray."""
        return self.host and self.namespaces is None

    def has(self, namespace: str) -> bool:
        """Whether a namespace is in it."""
        return self.namespaces is None or namespace in self.namespaces


EVERYTHING = Scope(host=True, namespaces=None)


def desired(record: Record, scope: Scope, facts: Facts) -> HostState:
    """Return what should exist within a scope."""
    state: HostState = {}
    for item in _objects(record, scope, facts):
        state[item.key] = item
    return state


def _objects(record: Record, scope: Scope, facts: Facts) -> Iterator[HostObject]:
    if scope.host:
        if record.networks:
            yield Ruleset(version=RULESET)
        if facts.bridge_table and any(one.judges_frames for one in record.networks.values()):
            yield Ruleset(version=RULESET, family="bridge")
        for network in record.networks.values():
            yield from network_links(network, facts)
            yield from network_elements(network, record.networks.values())
            if facts.bridge_table:
                yield from frame_elements(network)
        yield from host_sysctls(record, facts)
        yield from wished_sysctls(record, facts)
        if record.forwarding and not facts.masked:
            from isthmus.planner.persisting import persisted_files

            yield from persisted_files(record)
    for namespace in record.namespaces.values():
        if scope.has(namespace.id) and namespace.made:
            yield NamedNetns(name=namespace.id)
    yield from name_objects(record, scope.namespaces, facts)
    for attachment in record.attachments.values():
        if scope.has(attachment.namespace):
            network = record.networks[attachment.network]
            yield from attachment_links(network, attachment, facts)
            if facts.bridge_table:
                yield from attachment_elements(network, attachment)
            if network.is_lan:
                yield from autoconf(record, network, attachment)
    for link in record.links.values():
        if scope.has(link.a.namespace) or scope.has(link.b.namespace):
            yield from direct_link(link)
    for name in record.namespaces:
        if scope.has(name):
            yield from namespace_routes(record, name)
    for publish in record.publishes.values():
        if scope.has(publish.namespace):
            yield from publish_elements(record, publish)
    yield from namespace_sysctls(record, scope.namespaces, facts)
    for command in record.commands.values():
        if scope.has(command.namespace):
            yield Process(netns=command.namespace, argv=command.argv)
    leased = {one.namespace: None for one in record.attachments.values() if one.leased and scope.has(one.namespace)}
    if leased:
        from isthmus.planner.leases import member_clients

        for name in leased:
            yield from member_clients(record, name)
