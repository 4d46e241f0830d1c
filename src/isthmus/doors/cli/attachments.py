"""attach, detach, connect, publish, unpublish. The hot verbs: they load neither YAML nor pydantic."""

from __future__ import annotations

from isthmus.declare import words
from isthmus.doors.cli.errors import Several, Usage
from isthmus.doors.cli.report import tell
from isthmus.engine import attach as engine_attach
from isthmus.engine import detach as engine_detach
from isthmus.engine import publish as engine_publish
from isthmus.engine import unpublish as engine_unpublish
from isthmus.errors import InvalidInput
from isthmus.model.address import Mac
from isthmus.model.declared import AttachmentWish, LinkEndWish, LinkWish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from isthmus.doors.cli.parse import Given
    from isthmus.doors.cli.session import Session
    from isthmus.model.network import Publish

__all__ = ["VERBS", "attachment_wish", "link_wish"]


def attachment_wish(given: Given) -> AttachmentWish:
    """Return what the options of `attach` wish for.

    Raises:
        InvalidInput, Usage: they do not say it well.
    """
    if given.has("default-route") and given.has("no-default-route"):
        raise Usage("attach: has both --default-route and --no-default-route")
    mac, ifname = given.text("mac"), given.text("ifname")
    ips, leased = words.ips(given.texts("ip"), "--ip")
    return AttachmentWish(
        network=words.network_name(given.word("NETWORK"), "NETWORK"),
        ips=ips,
        leased=leased,
        mac=None if mac is None else Mac.parse(mac, "--mac"),
        ifname=None if ifname is None else words.ifname(ifname, "--ifname"),
        default_route=True if given.has("default-route") else False if given.has("no-default-route") else None,
    )


def _published(rows: tuple[Publish, ...]) -> list[str]:
    return [f"published {row.spec}" for row in rows]


def _attach(session: Session, given: Given) -> int:
    wish = attachment_wish(given)
    beyond = given.has("allow-nonlocal")
    publishes = [words.publish(one, "--publish", allow_nonlocal=beyond) for one in given.texts("publish")]
    target = words.target(given.word("TARGET"), "TARGET")
    made = session.change(lambda host: engine_attach(host, wish, target, publishes))
    row = made.attachment
    addresses = " ".join(map(str, made.addresses))
    more = [f"{row.namespace} has {addresses} on {row.network} ({row.ifname})", *_published(made.publishes)]
    tell(made.report, given, more=more)
    return 0


def _detach(session: Session, given: Given) -> int:
    network = words.network_name(given.word("NETWORK"), "NETWORK")
    target = words.target(given.word("TARGET"), "TARGET")
    tell(session.change(lambda host: engine_detach(host, network, target)), given)
    return 0


def link_wish(given: Given) -> LinkWish:
    """Return what the options of `connect` wish for.

    Raises:
        InvalidInput: they do not say it well.
    """
    a, b = (_end(given, side) for side in "ab")
    mtu = given.text("mtu")
    return LinkWish(a=a, b=b, mtu=None if mtu is None else words.mtu(mtu, "--mtu"))


def _end(given: Given, side: str) -> LinkEndWish:
    place = f"NS_{side.upper()}"
    name, mac = given.text(f"name-{side}"), given.text(f"mac-{side}")
    return LinkEndWish(
        namespace=words.target(given.word(place), place),
        addresses=tuple(words.link_address(one, f"--ip-{side}") for one in given.texts(f"ip-{side}")),
        ifname=None if name is None else words.ifname(name, f"--name-{side}"),
        mac=None if mac is None else Mac.parse(mac, f"--mac-{side}"),
    )


def _option_of(field: str) -> str:
    """Return the option of `connect` that a field of the file is: ends[1].ip[0] -> --ip-b."""
    for number, side in enumerate("ab"):
        head, _, key = field.partition(f"ends[{number}].")
        if not head and key:
            key = key.partition("[")[0]
            return f"NS_{side.upper()}" if key == "ns" else f"--{key}-{side}"
    return f"--{field}"


def _connect(session: Session, given: Given) -> int:
    from isthmus.declare import check
    from isthmus.engine import connect

    wish = link_wish(given)
    faults = [InvalidInput(_option_of(one.field), one.value, one.why, hint=one.hint) for one in check.link(wish)]
    if faults:
        raise Several(list(faults))
    row, report = session.change(lambda host: connect(host, wish))
    more = []
    for end in (row.a, row.b):
        addresses = " ".join(f"{address}/{length}" for address, length in end.addresses) or "no address"
        more.append(f"{end.namespace} has {addresses} ({end.ifname})")
    tell(report, given, more=more)
    return 0


def _publish(session: Session, given: Given) -> int:
    wish = words.publish(given.word("SPEC"), "SPEC", allow_nonlocal=given.has("allow-nonlocal"))
    network = given.text("network")
    if network is not None:
        wish = wish.replace(network=words.network_name(network, "--network"))
    target = words.target(given.word("TARGET"), "TARGET")
    row, report = session.change(lambda host: engine_publish(host, target, wish))
    tell(report, given, more=_published((row,)))
    return 0


def _unpublish(session: Session, given: Given) -> int:
    wish = words.publish(given.word("SPEC"), "SPEC")
    target, cut = words.target(given.word("TARGET"), "TARGET"), given.has("cut")
    tell(session.change(lambda host: engine_unpublish(host, target, wish, cut=cut)), given)
    return 0


VERBS: Final[dict[str, Callable[[Session, Given], int]]] = {
    "attach": _attach,
    "detach": _detach,
    "connect": _connect,
    "publish": _publish,
    "unpublish": _unpublish,
}
