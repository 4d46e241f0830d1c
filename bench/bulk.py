"""A declaration of 200 namespaces brought up and down, beside the floor."""

from __future__ import annotations

from bench.attach import remove_namespaces
from bench.figures import Sheet, elapsed, p50
from bench.floor import GROUP, Floor

from isthmus.engine import Host, down, reap, up
from isthmus.model.address import Prefix
from isthmus.model.declared import AttachmentWish, Declaration, NamespaceWish, NetworkWish, PublishWish

__all__ = ["bulk"]


def _declared(count: int) -> Declaration:
    namespaces = tuple(
        NamespaceWish(
            name=f"e{number}",
            attachments=(AttachmentWish(network="br0"),),
            publishes=(PublishWish(port=80, host_port=8000 + number),),
        )
        for number in range(count)
    )
    network = NetworkWish(name="br0", subnets=(Prefix.parse("10.8.0.0/16"),), mtu=1500)
    return Declaration(name="bench", networks=(network,), namespaces=namespaces)


def bulk(sheet: Sheet) -> None:
    """`up` of many namespaces / floor, `down` / deleting the same links, the bridge too, by group."""
    count, rounds = sheet.many(200, 10), sheet.many(5, 1)
    host, floor, declaration = Host(), Floor(), _declared(count)
    names = [f"f{number}" for number in range(count)]

    def bring_up() -> None:
        with host:
            up(host, declaration)

    def bring_down() -> None:
        with host:
            down(host, declaration.name)
        reap(host.directory)

    def floor_up() -> None:
        floor.raise_bridge(GROUP)
        for number, name in enumerate(names):
            floor.attach_named(number, name)

    bring_up()
    bring_down()
    ups, floors, downs, groups = [], [], [], []
    for _ in range(rounds):
        ups.append(elapsed(bring_up))
        floors.append(elapsed(floor_up))
        downs.append(elapsed(bring_down))
        groups.append(elapsed(floor.delete_links))
        remove_namespaces(names)
    detail = f"{p50(ups):.2f} / {p50(floors):.2f} s, medians of {rounds}"
    sheet.write(f"up of {count} namespaces with a port each / floor", p50(ups) / p50(floors), 1.5, detail)
    detail = f"{p50(downs):.2f} / {p50(groups):.2f} s, until no link is left"
    sheet.write("down / deleting the same links by group", p50(downs) / p50(groups), 1.6, detail)
