"""The kinds of values that a declared file has, each as a type that pydantic can check and describe.

A scalar arrives as `Written`, the text with what YAML takes it for. A text field refuses an unquoted one
that YAML takes for something else, so that a file which passes here means the same to every YAML reader
and to an editor that checks it against the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from isthmus.declare import words
from isthmus.errors import InvalidInput
from isthmus.model.address import Address, Mac, Prefix
from isthmus.model.declared import PublishWish
from isthmus.model.network import NIC

__all__ = [
    "Argument",
    "Described",
    "DhcpField",
    "Flag",
    "Gateways",
    "IfnameField",
    "IpField",
    "IpOrDhcpField",
    "KnownIfnameField",
    "LinkIpField",
    "MacField",
    "MtuField",
    "NamespaceName",
    "NetworkName",
    "PublishSpec",
    "RangeField",
    "SubnetField",
    "TargetField",
    "UplinkField",
    "Written",
    "many",
    "objection",
]

_UplinkKind = Literal["nat", "routed", "none", "nic"]
_NAME_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


class Written(str):
    """A scalar as it was written; `kind` is what YAML takes it for when that is no string."""

    __slots__ = ("kind", "plain")
    kind: str
    plain: bool

    @classmethod
    def of(cls, text: str, kind: str, plain: bool) -> Written:
        """Note a scalar."""
        made = cls(text)
        made.kind = kind
        made.plain = plain
        return made


def objection(why: str, hint: str = "") -> PydanticCustomError:
    """Make what pydantic takes as a validator's objection, with words of ours."""
    return PydanticCustomError("isthmus", "{why}", {"why": why, "hint": hint})


def text_of(value: object) -> str:
    """Return a scalar that stands where a text is wanted.

    Raises:
        PydanticCustomError: a collection, or an unquoted text that YAML takes for something else.
    """
    if not isinstance(value, str):
        raise objection(f"must be a text, not a {'mapping' if isinstance(value, dict) else 'list'}")
    kind = value.kind if isinstance(value, Written) else ""
    if kind and not value:
        raise objection("nothing is written here", "leave the key out, or write its value")
    if kind:
        raise objection(f"YAML reads this as {kind}, not as text", f'quote it: "{value}"')
    return str(value)


def _word(parse: Callable[[str, str], object]) -> PlainValidator:
    """Make a validator of a word's parser."""

    def check(value: object) -> object:
        try:
            return parse(text_of(value), "")
        except InvalidInput as error:
            raise objection(error.why, error.hint) from None

    return PlainValidator(check)


def _text_schema(description: str, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, **more})


def _uplink(value: object) -> tuple[_UplinkKind, str]:
    """Read a word, or `{nic: LINK}`."""
    try:
        if isinstance(value, dict):
            if list(value) != ["nic"]:
                raise objection("has other keys than nic", "write {nic: LINK}")
            return NIC, words.link_name(text_of(value["nic"]), "")
        return words.uplink(text_of(value), "")
    except InvalidInput as error:
        raise objection(error.why, error.hint) from None


def _flag(value: object) -> bool:
    if isinstance(value, Written) and value.plain and value in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return value[0] in "tT"
    raise objection("must be true or false, unquoted")


def _mtu(value: object) -> int:
    if not isinstance(value, Written) or not value.plain:
        raise objection(f"must be a number of {words.MTU_MIN} to {words.MTU_MAX}, unquoted")
    try:
        return words.mtu(str(value), "")
    except InvalidInput as error:
        raise objection(error.why, "write a plain decimal number") from None


def _argument(value: object) -> str:
    text = text_of(value)
    if "\0" in text:
        raise objection("an argument has no NUL")
    return text


def _listed(value: object) -> object:
    """Take one value for a list of one."""
    return value if isinstance(value, list) else [value]


class Described:
    """Have the schema that pydantic makes of a field say, too, what is taken before it is checked."""

    def __init__(self, describe: Callable[[JsonSchemaValue], JsonSchemaValue]) -> None:
        self._describe = describe

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return self._describe(handler(core))


def many(description: str) -> tuple[BeforeValidator, Described]:
    """Annotate a list of which a single item may stand for itself."""

    def describe(made: JsonSchemaValue) -> JsonSchemaValue:
        return {"anyOf": [made["items"], made], "description": description}

    return BeforeValidator(_listed), Described(describe)


def _gateways(value: object) -> tuple[Address, ...]:
    """Read an address, a list of them, or `none` (no address at all)."""
    if value == "none":
        return ()
    if not isinstance(value, list):
        return (_gateway(value),)
    if not value:
        raise objection("an empty list", "write none for a bridge without an address")
    return tuple(_gateway(one) for one in value)


def _gateway(value: object) -> Address:
    try:
        return Address.parse(text_of(value))
    except InvalidInput as error:
        raise objection(f"{error.why}, nor none") from None


def _ip(text: str, field: str) -> Address | str:
    return text if text in words.DHCP else Address.parse(text, field)


def _publish(text: str, field: str) -> PublishWish:
    return words.publish(text, field)


NetworkName = Annotated[str, _word(words.network_name), _text_schema("A network's name.", pattern=_NAME_PATTERN)]
NamespaceName = Annotated[
    str,
    _word(words.namespace_name),
    _text_schema("A namespace's name, as `ip netns` shows it.", pattern="^[^-/\\s][^/\\s]*$", maxLength=255),
]
TargetField = Annotated[
    str, _word(words.target), _text_schema("A namespace: its name, or an absolute path.", minLength=1)
]
IfnameField = Annotated[str, _word(words.ifname), _text_schema("A link's name.", pattern="^[^/:%\\s]+$", maxLength=15)]
KnownIfnameField = Annotated[
    str,
    _word(words.known_ifname),
    _text_schema("A link's name, or an alternative one.", pattern="^[^/:%\\s]+$|^[^/\\s]{16,}$", maxLength=127),
]
MacField = Annotated[
    Mac,
    _word(Mac.parse),
    _text_schema("A unicast MAC address.", pattern="^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"),
]
SubnetField = Annotated[Prefix, _word(Prefix.parse), _text_schema("ADDRESS/LENGTH")]
IpField = Annotated[Address, _word(Address.parse), _text_schema("An IPv4 or IPv6 address.")]
IpOrDhcpField = Annotated[Address | str, _word(_ip), _text_schema("An IPv4 or IPv6 address, or dhcp, or dhcp6.")]
LinkIpField = Annotated[tuple[Address, int], _word(words.link_address), _text_schema("ADDRESS/LENGTH")]
UplinkField = Annotated[
    tuple[_UplinkKind, str],
    PlainValidator(_uplink),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^(nat|routed|none|nic:[^/\\s]+)$"},
                {
                    "type": "object",
                    "properties": {"nic": {"type": "string", "pattern": "^[^/\\s]+$", "maxLength": 127}},
                    "required": ["nic"],
                    "additionalProperties": False,
                },
            ],
            "description": "The way out: nat translates, routed does not, none has no default route; "
            "nic: the bridge takes this interface, and members are on its LAN.",
        }
    ),
]
DhcpField = Annotated[
    str,
    _word(words.dhcp),
    _text_schema("A client identifier.", pattern="^(auto|none|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+)$"),
]
RangeField = Annotated[tuple[Address, Address], _word(words.address_range), _text_schema("FIRST-LAST")]
PublishSpec = Annotated[
    PublishWish,
    _word(_publish),
    _text_schema("[HOSTIP:]HOSTPORT:PORT[/PROTO]; PORT or HOSTIP::PORT leave the host's port to be chosen."),
]
Argument = Annotated[str, PlainValidator(_argument), _text_schema("An argument.")]
Flag = Annotated[bool, PlainValidator(_flag), WithJsonSchema({"type": "boolean"})]
MtuField = Annotated[
    int,
    PlainValidator(_mtu),
    WithJsonSchema({"type": "integer", "minimum": words.MTU_MIN, "maximum": words.MTU_MAX, "description": "Bytes."}),
]
Gateways = Annotated[
    tuple[Address, ...],
    PlainValidator(_gateways),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
