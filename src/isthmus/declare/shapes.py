"""The shape of a declared file: its keys, and how each becomes a noun of model/declared.py.

Every option of the command line is a key of the same name here. schema.json is made from these models.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import JsonSchemaValue

from isthmus.declare import words
from isthmus.declare.fields import (
    Argument,
    Described,
    DhcpField,
    Flag,
    Gateways,
    IfnameField,
    IpField,
    IpOrDhcpField,
    KnownIfnameField,
    LinkIpField,
    MacField,
    MtuField,
    NamespaceName,
    NetworkName,
    PublishSpec,
    RangeField,
    SubnetField,
    TargetField,
    UplinkField,
    many,
    objection,
)
from isthmus.model.address import Address
from isthmus.model.declared import (
    AttachmentWish,
    Declaration,
    ForwardingWish,
    LinkEndWish,
    LinkWish,
    NamespaceWish,
    NetworkWish,
    PublishWish,
)

__all__ = ["ENDS", "FileShape", "Shape", "keys_at"]

# Stands for what `ends` may be, which schema.py puts in its place: pydantic resolves its own references only.
ENDS: Final = "x-ends"


class Shape(BaseModel):
    """A mapping with known keys only, written with hyphens."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )


def _named_or_listed(value: object) -> object:
    """Take a list of names for a mapping of each to nothing further; twice the same name stays an error."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(one, str) for one in value):
        raise objection("a list here holds names of networks", "write a mapping to say more than the name")
    if len(set(value)) != len(value):
        raise objection("names a network twice")
    return {one: {} for one in value}


def _plain_publish(value: object) -> object:
    return {"port": value} if isinstance(value, str) else value


def _plain_link(value: object) -> object:
    return {"ends": value} if isinstance(value, list) else value


def _argv(value: object) -> object:
    if isinstance(value, str):
        raise objection("must be a list of arguments", f'write ["sh", "-c", "{value}"], or split it')
    return value


def _describe_networks(made: JsonSchemaValue) -> JsonSchemaValue:
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    return {"anyOf": [made, names], "description": "What it is attached to: networks by name, or a list of names."}


def _describe_publish(made: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [{"type": "string", "description": "[HOSTIP:]HOSTPORT:PORT[/PROTO]"}, made]}


def _describe_link(made: JsonSchemaValue) -> JsonSchemaValue:
    return {"anyOf": [made, {ENDS: True}]}


class NetworkShape(Shape):
    """A switch for namespaces: a bridge, its subnets and its way out."""

    subnets: Annotated[
        list[SubnetField], *many("At most one a family; default: one of each, chosen from the pools.")
    ] = Field(default=[])
    subnet: Annotated[list[SubnetField], *many("The same as `subnets`; one of the two.")] = Field(default=[])
    gateway: Gateways | None = Field(
        default=None,
        description="The bridge's address, at most one a family; default: the first of each subnet; none: no address.",
    )
    no_gateway: Flag = Field(default=False, description="The same as `gateway: none`.")
    bridge: IfnameField | None = Field(default=None, description="An existing bridge to adopt; default: one of ours.")
    uplink: UplinkField = ("nat", "")
    dhcp: DhcpField | None = Field(
        default=None,
        description="With uplink nic: isthmus goes on with the host's lease by this DHCP client identifier "
        "(octets in hex with colons), by that of the last client (auto), or without one (none).",
    )
    range: Annotated[list[RangeField], *many("FIRST-LAST: the addresses that may be given, at most one a family.")] = (
        Field(default=[])
    )
    snat: Annotated[
        list[IpField], *many("Source addresses of what leaves, at most one a family; default: masquerade.")
    ] = Field(default=[])
    isolate_ports: Flag = Field(default=False, description="Its members do not reach each other.")
    allow: Annotated[list[NetworkName], *many("Networks that this one may talk with; either side may allow it.")] = (
        Field(default=[])
    )
    mtu: MtuField | None = Field(default=None, description="Bytes; default: that of the link with the default route.")
    allow_overlap: Flag = Field(default=False, description="A route of the host may overlap the subnets.")

    @model_validator(mode="after")
    def _one_spelling(self) -> NetworkShape:
        if {"subnet", "subnets"} <= self.model_fields_set:
            raise objection("has both subnet and subnets", "keep one of the two")
        if self.no_gateway and self.gateway:
            raise objection("has both gateway and no-gateway", "keep one of the two")
        return self

    def wish(self, name: str) -> NetworkWish:
        """Return what it wishes for."""
        return NetworkWish(
            name=name,
            subnets=tuple(self.subnets or self.subnet),
            gateways=() if self.no_gateway else self.gateway,
            bridge=self.bridge,
            uplink=self.uplink[0],
            nic=self.uplink[1],
            dhcp=self.dhcp,
            ranges=tuple(self.range),
            snat=tuple(self.snat),
            isolate_ports=self.isolate_ports,
            allow=frozenset(self.allow),
            mtu=self.mtu,
            allow_overlap=self.allow_overlap,
        )


class AttachmentShape(Shape):
    """A namespace's port on a network."""

    ip: Annotated[
        list[IpOrDhcpField],
        *many("Its addresses, at most one a family; dhcp, dhcp6: the LAN's server gives it; default: the next free."),
    ] = Field(default=[])
    mac: MacField | None = Field(default=None, description="Default: chosen.")
    ifname: IfnameField | None = Field(default=None, description="The link's name inside; default: chosen.")
    default_route: Flag | None = Field(
        default=None, description="true: it takes the default route; false: never; default: the first attachment does."
    )
    no_default_route: Flag = Field(default=False, description="The same as `default-route: false`.")

    @model_validator(mode="after")
    def _one_spelling(self) -> AttachmentShape:
        if self.default_route and self.no_default_route:
            raise objection("has both default-route and no-default-route", "keep one of the two")
        return self

    def wish(self, network: str) -> AttachmentWish:
        """Return what it wishes for."""
        return AttachmentWish(
            network=network,
            ips=tuple(one for one in self.ip if isinstance(one, Address)),
            leased=words.leases(one for one in self.ip if not isinstance(one, Address)),
            mac=self.mac,
            ifname=self.ifname,
            default_route=False if self.no_default_route else self.default_route,
        )


class PublishShape(Shape):
    """Host ports that lead to the namespace."""

    port: PublishSpec
    network: NetworkName | None = Field(
        default=None, description="The attachment to lead to; default: the one with the default route."
    )
    allow_nonlocal: Flag = Field(default=False, description="HOSTIP need not be an address of the host.")

    def wish(self) -> PublishWish:
        """Return what it wishes for."""
        return self.port.replace(network=self.network, allow_nonlocal=self.allow_nonlocal)


class NamespaceShape(Shape):
    """A network namespace, its attachments in order, its published ports and its command."""

    networks: Annotated[
        dict[NetworkName, AttachmentShape],
        BeforeValidator(_named_or_listed),
        Described(_describe_networks),
    ] = Field(default={})
    publish: Annotated[
        list[Annotated[PublishShape, BeforeValidator(_plain_publish), Described(_describe_publish)]],
        *many("Published ports."),
    ] = Field(default=[])
    command: (
        Annotated[
            list[Argument],
            BeforeValidator(_argv),
            Described(lambda made: {**made, "minItems": 1}),
        ]
        | None
    ) = Field(default=None, description="A program and its arguments, run inside under supervision.")

    @model_validator(mode="after")
    def _program(self) -> NamespaceShape:
        if self.command is not None and not (self.command and self.command[0]):
            raise objection("its command names no program")
        return self

    def wish(self, name: str) -> NamespaceWish:
        """Return what it wishes for."""
        return NamespaceWish(
            name=name,
            attachments=tuple(one.wish(network) for network, one in self.networks.items()),
            publishes=tuple(one.wish() for one in self.publish),
            command=None if self.command is None else tuple(self.command),
        )


class LinkEndShape(Shape):
    """One end of a direct link."""

    ns: TargetField
    ip: Annotated[list[LinkIpField], *many("Its addresses with prefix lengths.")] = Field(default=[])
    name: IfnameField | None = Field(default=None, description="The link's name inside; default: chosen.")
    mac: MacField | None = Field(default=None, description="Default: chosen.")

    def wish(self) -> LinkEndWish:
        """Return what it wishes for."""
        return LinkEndWish(namespace=self.ns, addresses=tuple(self.ip), ifname=self.name, mac=self.mac)


class LinkShape(Shape):
    """A veth pair between two namespaces."""

    ends: Annotated[list[LinkEndShape], Field(min_length=2, max_length=2)]
    mtu: MtuField | None = Field(default=None, description="Bytes; default: the kernel's, 1500.")

    def wish(self) -> LinkWish:
        """Return what it wishes for."""
        return LinkWish(a=self.ends[0].wish(), b=self.ends[1].wish(), mtu=self.mtu)


class ForwardingShape(Shape):
    """Forwarding that should be on: by itself of all links, `{}` both families."""

    link: Annotated[list[KnownIfnameField], *many("These links alone; default: all, by the global switch.")] = Field(
        default=[]
    )
    ipv4: Flag = Field(default=False, description="IPv4 alone, unless ipv6 is true, too.")
    ipv6: Flag = Field(default=False, description="IPv6 alone, unless ipv4 is true, too.")
    persist: Flag = Field(default=False, description="At each boot, too, by a file under /etc/sysctl.d.")

    def wish(self) -> ForwardingWish:
        """Return what it wishes for."""
        families = words.families(ipv4=self.ipv4, ipv6=self.ipv6)
        return ForwardingWish(families=families, links=tuple(dict.fromkeys(self.link)), persist=self.persist)


class FileShape(Shape):
    """Networks, namespaces, links and forwarding that should exist on this host."""

    name: NetworkName | None = Field(
        default=None, description="The declaration's name, which owns what it makes; default: the file's stem."
    )
    networks: dict[NetworkName, NetworkShape] = Field(default={}, description="Networks by name.")
    namespaces: dict[NamespaceName, NamespaceShape] = Field(default={}, description="Namespaces by name.")
    links: list[Annotated[LinkShape, BeforeValidator(_plain_link), Described(_describe_link)]] = Field(
        default=[], description="Direct links, each a pair of ends, or {ends: [...], mtu: N}."
    )

    forwarding: Annotated[list[ForwardingShape], *many("Forwarding beside what networks need.")] = Field(default=[])

    def wish(self, name: str, source: str) -> Declaration:
        """Return what it wishes for; `name` is for a file that has none of its own."""
        return Declaration(
            name=self.name or name,
            networks=tuple(one.wish(key) for key, one in self.networks.items()),
            namespaces=tuple(one.wish(key) for key, one in self.namespaces.items()),
            links=tuple(one.wish() for one in self.links),
            forwarding=tuple(one.wish() for one in self.forwarding),
            source=source,
        )


def keys_at(place: tuple[str | int, ...]) -> list[str]:
    """Return the keys that a mapping at a place of the file may have, for a place that is a mapping of known keys."""
    shape: type[Shape]
    match place:
        case ():
            shape = FileShape
        case ("networks", _):
            shape = NetworkShape
        case ("namespaces", _):
            shape = NamespaceShape
        case ("namespaces", _, "networks", _):
            shape = AttachmentShape
        case ("namespaces", _, "publish", _):
            shape = PublishShape
        case ("links", _):
            shape = LinkShape
        case ("forwarding", *_):
            shape = ForwardingShape
        case _:
            shape = LinkEndShape
    return [field.alias or name for name, field in shape.model_fields.items()]
