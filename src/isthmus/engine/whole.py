"""Whether what the firewall's sets tell of networks is whole, so that a record can be made of it.

A bridge's marks do not tell what network it is, and one element less would make it another: a LAN's bridge one with
nat, a network without a way out one that has one. Each thing is told twice; where the two do not agree, nothing is
guessed.
"""

from __future__ import annotations

from isthmus.errors import Refused
from isthmus.model.address import Address, Prefix
from isthmus.model.host import LIVE_GROUP
from isthmus.planner.marks import parse_mark

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

    from isthmus.model.host import Element
    from isthmus.netlink.rtnl.link import Link

__all__ = ["check_whole"]

_KINDS: Final = ("bridges", "adopted", "lan")


def check_whole(links: Sequence[Link], elements: Iterable[Element]) -> None:
    """Check that the sets tell of each bridge of a network what network it is, and do not contradict themselves.

    Raises:
        Refused: they do not, since somebody deleted the table, or an element of it.
    """
    sets = _Sets(elements)
    ours = set(_bridges_by_marks(links))
    for link in links:
        is_one = link.name in ours or (link.kind == "bridge" and sets.name(link.name))
        if is_one and not sets.tell_of(link.name):
            raise _lost(f"link {link.name}")
    for prefix in sets.prefixes():
        if not sets.has_link(prefix):
            raise _lost(f"subnet {prefix}")


def _lost(what: str) -> Refused:
    return Refused(
        f"cannot make the record anew: what table inet isthmus said of {what} is lost",
        hint="isthmus repair loads it again by the state file, if that is sound",
    )


def _bridges_by_marks(links: Iterable[Link]) -> Iterator[str]:
    """Yield the bridges that bear our marks, and those whose ports do."""
    names = {link.index: link.name for link in links}
    for link in links:
        mark = parse_mark(link.alias) if link.group == LIVE_GROUP else None
        if mark is not None and mark.kind == "network":
            yield link.name
        elif mark is not None and mark.kind == "attachment" and link.master in names:
            yield names[link.master]


class _Sets:
    """The elements of our tables, by set."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self._parts: dict[str, set[tuple[object, ...]]] = {}
        for one in elements:
            self._parts.setdefault(one.name, set()).add(one.parts)

    def _of(self, name: str) -> set[tuple[object, ...]]:
        return self._parts.get(name, set())

    def name(self, bridge: str) -> bool:
        """Whether any of them has a link's name."""
        return any(bridge in parts for found in self._parts.values() for parts in found)

    def tell_of(self, bridge: str) -> bool:
        """Whether they tell what network a bridge is of."""
        kinds = [name for name in _KINDS if (bridge,) in self._of(name)]
        if kinds == ["lan"]:
            return True
        exits = [name for name in ("has_exit", "no_exit") if (bridge,) in self._of(name)]
        if len(kinds) != 1 or len(exits) != 1:
            return False
        is_nat = exits == ["has_exit"] and (bridge,) not in self._of("routed")
        return all(self._agree_on(bridge, family, is_nat=is_nat) for family in (4, 6))

    def _agree_on(self, bridge: str, family: int, *, is_nat: bool) -> bool:
        """Whether a network with nat is translated, and gateways are those of its subnets."""
        prefixes = [one for name, one in self._of(f"onlink{family}") if name == bridge and isinstance(one, Prefix)]
        translated = self._of(f"masq{family}") | self._of(f"snat{family}")
        if is_nat and any((one,) not in translated for one in prefixes):
            return False
        own = {address for address, name in self._of(f"gateway_of{family}") if name == bridge}
        known = {address for (address,) in self._of(f"gateways{family}") if _lies_in(address, prefixes)}
        return known <= own and all(_lies_in(one, prefixes) for one in own)

    def prefixes(self) -> Iterator[Prefix]:
        """Yield the subnets that are closed, or translated."""
        for name in ("closed4", "closed6", "masq4", "masq6", "snat4", "snat6"):
            yield from (one for (one,) in self._of(name) if isinstance(one, Prefix))

    def has_link(self, prefix: Prefix) -> bool:
        """Whether they tell what link a subnet is on."""
        return any(prefix in parts for family in "46" for parts in self._of(f"onlink{family}"))


def _lies_in(address: object, prefixes: Iterable[Prefix]) -> bool:
    return isinstance(address, Address) and any(address in one for one in prefixes)
