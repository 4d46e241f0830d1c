"""Every verb of the command line with its arguments and options, as data.

An option that says what should exist is a key of the declared file under the same name: `key` is that
place (a test holds the two together). The others say how the verb runs. Nothing is imported here but the
base of values: the parser of one verb is built when that verb is called (parse.py).
"""

from __future__ import annotations

from isthmus.model.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["VERBS", "Argument", "Option", "Verb"]


class Option(Value):
    """An option. `metavar` empty: a switch. `many`: may be given again and again. `key`: PLACE.KEY of the file."""

    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    many: bool = False
    choices: tuple[str, ...] = ()
    key: str = ""

    @property
    def name(self) -> str:
        """Its first long flag, without the hyphens before it."""
        return next(flag for flag in self.flags if flag.startswith("--"))[2:]


class Argument(Value):
    """A positional argument; `optional` ones come last."""

    name: str
    help: str
    optional: bool = False
    key: str = ""


class Verb(Value):
    """A verb: its words on the command line, what it does, what it takes. `command`: the rest is a command line."""

    words: tuple[str, ...]
    help: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    command: bool = False
    more: str = ""

    @property
    def name(self) -> str:
        """Its words, with a space between them."""
        return " ".join(self.words)


_FORMAT: Final = Option(
    flags=("--format",),
    metavar="FORMAT",
    choices=("table", "json"),
    help="table (for people, the default) or json (keys in docs/json.md)",
)
_SHOW: Final = Option(flags=("--show-commands",), help="print the equivalent commands, then those that undo them")
_VERBOSE: Final = Option(flags=("-v", "--verbose"), help="show every object, down to each element and sysctl")
_CHANGING: Final = (_SHOW, _VERBOSE)
_TARGET: Final = Argument(name="TARGET", help="a namespace: name, path, pid, or id of what is attached")
_FILE: Final = Argument(name="FILE", optional=True, help="the declared file, - for stdin (default: isthmus.yaml)")
_RESTART: Final = Option(flags=("--restart",), help="start commands again that have ended")
_NONLOCAL: Final = Option(
    flags=("--allow-nonlocal",), key="publish.allow-nonlocal", help="HOSTIP need not be an address of this host"
)
_SPEC: Final = "[HOSTIP:]HOSTPORT:PORT[/PROTO], ranges as 8000-8010:80-90; PORT alone: the next free host port"


def _force(help: str) -> Option:  # noqa: A002  the field it fills
    return Option(flags=("--force",), help=help)


_NETWORK: Final = (
    Option(
        flags=("--subnet", "--subnets"),
        metavar="CIDR",
        many=True,
        key="network.subnet",
        help="its subnet, once a family (default: one of each, from the pools)",
    ),
    Option(
        flags=("--gateway",),
        metavar="IP",
        many=True,
        key="network.gateway",
        help="the bridge's address, once a family (default: the first of the subnet); none: no address",
    ),
    Option(flags=("--no-gateway",), key="network.no-gateway", help="a bridge without an address"),
    Option(flags=("--bridge",), metavar="LINK", key="network.bridge", help="adopt this existing bridge"),
    Option(
        flags=("--uplink",),
        metavar="KIND",
        key="network.uplink",
        help="the way out: nat (translated, the default), routed, none, or nic:LINK (the LAN of an interface)",
    ),
    Option(
        flags=("--dhcp",),
        metavar="ID",
        key="network.dhcp",
        help="go on with the host's lease by a DHCP client (with nic:LINK); its identifier: 01:02:.., auto or none",
    ),
    Option(
        flags=("--range",),
        metavar="FIRST-LAST",
        many=True,
        key="network.range",
        help="the addresses that may be given, once a family (with nic:LINK)",
    ),
    Option(
        flags=("--snat",),
        metavar="IP",
        many=True,
        key="network.snat",
        help="the source address of what leaves, once a family (default: masquerade)",
    ),
    Option(flags=("--isolate-ports",), key="network.isolate-ports", help="members do not reach each other"),
    Option(
        flags=("--allow",),
        metavar="NETWORK",
        many=True,
        key="network.allow",
        help="a network that this one may talk with",
    ),
    Option(flags=("--mtu",), metavar="BYTES", key="network.mtu", help="default: that of the way out"),
    Option(flags=("--allow-overlap",), key="network.allow-overlap", help="a route of the host may overlap the subnets"),
)
_ATTACH: Final = (
    Option(
        flags=("--ip",),
        metavar="IP",
        many=True,
        key="attachment.ip",
        help="its address, once a family (default: the next free one); dhcp, dhcp6: from the server of its LAN",
    ),
    Option(flags=("--mac",), metavar="MAC", key="attachment.mac", help="default: chosen"),
    Option(flags=("--ifname",), metavar="NAME", key="attachment.ifname", help="the link's name inside"),
    Option(flags=("-p", "--publish"), metavar="SPEC", many=True, key="namespace.publish", help=_SPEC),
    Option(flags=("--default-route",), key="attachment.default-route", help="take the default route"),
    Option(flags=("--no-default-route",), key="attachment.no-default-route", help="never take the default route"),
    _NONLOCAL,
)
_RUN: Final = (
    Option(flags=("--network",), metavar="N", many=True, help="a network that it is on; the first has the way out"),
    Option(
        flags=("--ip",),
        metavar="IP",
        many=True,
        key="attachment.ip",
        help="its address, once a network and family (default: the next free); dhcp, dhcp6: from the server of its LAN",
    ),
    Option(flags=("-p", "--publish"), metavar="SPEC", many=True, key="namespace.publish", help=_SPEC),
    _NONLOCAL,
    Option(flags=("--name",), metavar="NAME", help="the namespace's name (default: drawn)"),
    Option(flags=("-e", "--env"), metavar="K[=V]", many=True, help="a variable; without a value: the caller's"),
    Option(flags=("--env-file",), metavar="FILE", many=True, help="a file of such lines, # before comments"),
    Option(flags=("-d", "--detach"), help="leave it running; isthmus logs shows what it prints"),
)
_CONNECT: Final = (
    Option(flags=("--ip-a",), metavar="CIDR", many=True, key="end.ip", help="an address of the first end"),
    Option(flags=("--ip-b",), metavar="CIDR", many=True, key="end.ip", help="an address of the second end"),
    Option(flags=("--name-a",), metavar="IFNAME", key="end.name", help="the first end's name inside"),
    Option(flags=("--name-b",), metavar="IFNAME", key="end.name", help="the second end's name inside"),
    Option(flags=("--mac-a",), metavar="MAC", key="end.mac", help="the first end's MAC"),
    Option(flags=("--mac-b",), metavar="MAC", key="end.mac", help="the second end's MAC"),
    Option(flags=("--mtu",), metavar="BYTES", key="link.mtu", help="default: 1500"),
)
_SPEC_ARGUMENT: Final = Argument(name="SPEC", key="publish.port", help=_SPEC)
_LEADS_TO: Final = Option(
    flags=("--network",),
    metavar="N",
    key="publish.network",
    help="lead to the attachment on this network (default: the one with the default route)",
)

_CONFIRM: Final = Option(
    flags=("--confirm-within",),
    metavar="SECONDS",
    help="take it back then, unless `isthmus confirm` was said; none: never "
    "(default: 60 when an interface moves that carries the default route or this ssh session)",
)

VERBS: Final = (
    Verb(
        words=("up",),
        help="make the host what the file says",
        arguments=(_FILE,),
        options=(
            Option(flags=("--plan",), help="only show what would change, as `isthmus plan` does"),
            _RESTART,
            _CONFIRM,
            _FORMAT,
            *_CHANGING,
        ),
    ),
    Verb(
        words=("down",),
        help="remove what a declared file made",
        arguments=(
            Argument(name="NAME|FILE", optional=True, help="the declaration, or its file (default: isthmus.yaml)"),
        ),
        options=(
            Option(flags=("--all",), help="every declaration of this host"),
            _force("take what others have on namespaces and networks that go, and end the processes inside"),
            _CONFIRM,
            *_CHANGING,
        ),
    ),
    Verb(
        words=("plan",),
        help="show what `up` would change",
        arguments=(_FILE,),
        options=(_FORMAT, _SHOW, _VERBOSE),
        more="Exit status: 0 nothing to change, 2 changes, 1 error.",
    ),
    Verb(
        words=("repair",),
        help="put right what a crash or a stranger left crooked",
        options=(Option(flags=("--rebuild",), help="make the record anew from the marks in the kernel"), *_CHANGING),
    ),
    Verb(
        words=("confirm",),
        help="let a change stand that would be taken back",
        options=(Option(flags=("--revert",), help="take it back now"),),
    ),
    Verb(
        words=("network", "create"),
        help="make a network",
        arguments=(Argument(name="NAME", help="its name; the bridge's too, where that is free"),),
        options=(*_NETWORK, _CONFIRM, *_CHANGING),
    ),
    Verb(words=("network", "ls"), help="list networks", options=(_FORMAT,)),
    Verb(
        words=("network", "inspect"),
        help="show all of one network",
        arguments=(Argument(name="NAME", help="the network"),),
        options=(_FORMAT,),
    ),
    Verb(
        words=("network", "rm"),
        help="remove a network",
        arguments=(Argument(name="NAME", help="the network"),),
        options=(_force("detach its members first"), _CONFIRM, *_CHANGING),
    ),
    Verb(
        words=("ns", "create"),
        help="make a named network namespace",
        arguments=(Argument(name="NAME", help="its name under /run/netns"),),
        options=_CHANGING,
    ),
    Verb(words=("ns", "ls"), help="list network namespaces", options=(_FORMAT,)),
    Verb(
        words=("ns", "rm"),
        help="remove a named network namespace",
        arguments=(Argument(name="NAME", help="its name under /run/netns"),),
        options=(_force("end the processes inside"), *_CHANGING),
    ),
    Verb(words=("exec",), help="run a command in a namespace", arguments=(_TARGET,), command=True),
    Verb(
        words=("run",),
        help="run a command in a namespace that goes when it ends",
        options=(*_RUN, *_CHANGING),
        command=True,
        more="Without --network it has a loopback link alone; ports or addresses without one mean the network default,"
        " which is made when it is missing and goes with the last run on it. Exit status: the command's own, 128+N"
        " when signal N ended it; 125 isthmus failed, 126 the command cannot be executed, 127 it is not found.",
    ),
    Verb(
        words=("logs",),
        help="show what a command printed",
        arguments=(_TARGET,),
        options=(Option(flags=("-f", "--follow"), help="go on until it has ended"),),
    ),
    Verb(
        words=("stop",),
        help="end a command with all its descendants",
        arguments=(_TARGET,),
        options=(
            Option(flags=("-t", "--time"), metavar="SECONDS", help="between SIGTERM and SIGKILL (default: 10)"),
            *_CHANGING,
        ),
        more="A run goes with its command; a declared command stays on record as ended.",
    ),
    Verb(
        words=("attach",),
        help="attach a namespace to a network",
        arguments=(Argument(name="NETWORK", key="namespace.networks", help="the network"), _TARGET),
        options=(*_ATTACH, *_CHANGING),
    ),
    Verb(
        words=("detach",),
        help="take a namespace off a network",
        arguments=(Argument(name="NETWORK", help="the network"), _TARGET),
        options=_CHANGING,
    ),
    Verb(
        words=("connect",),
        help="join two namespaces by a direct link",
        arguments=(
            Argument(name="NS_A", key="end.ns", help="the first namespace"),
            Argument(
                name="NS_B",
                key="end.ns",
                help="the second namespace; the link goes with either, or by `ip link delete` if isthmus made neither",
            ),
        ),
        options=(*_CONNECT, *_CHANGING),
    ),
    Verb(
        words=("publish",),
        help="publish ports of a namespace at the host",
        arguments=(_TARGET, _SPEC_ARGUMENT),
        options=(_LEADS_TO, _NONLOCAL, *_CHANGING),
    ),
    Verb(
        words=("unpublish",),
        help="withdraw a publish",
        arguments=(_TARGET, Argument(name="SPEC", help="as it was published")),
        options=(Option(flags=("--cut",), help="end established TCP connections too"), *_CHANGING),
    ),
    Verb(
        words=("forwarding",),
        help="show forwarding, or switch it on or off",
        arguments=(Argument(name="on|off", optional=True, help="switch it now (default: show it)"),),
        options=(
            Option(
                flags=("--persist",),
                key="forwarding.persist",
                help="on: at each boot, too, by a file under /etc/sysctl.d; off: not at boot either",
            ),
            Option(
                flags=("--link",),
                metavar="LINK",
                many=True,
                key="forwarding.link",
                help="this link alone (default: all, by the global switch)",
            ),
            Option(flags=("-4", "--ipv4"), key="forwarding.ipv4", help="IPv4 alone"),
            Option(flags=("-6", "--ipv6"), key="forwarding.ipv6", help="IPv6 alone"),
            Option(flags=("--plan",), help="only show what would change, with the status of `isthmus plan`"),
            _FORMAT,
            *_CHANGING,
        ),
        more="Now and at boot are two choices: `on`, then `off`, leaves what --persist wrote to the next boot.",
    ),
    Verb(words=("ls",), help="the whole host at a glance", options=(_FORMAT,)),
)
