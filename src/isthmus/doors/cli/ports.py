"""The elements that steer published ports, as lines for people: families together, runs of ports as ranges."""

from __future__ import annotations

from isthmus.model.address import Address
from isthmus.model.host import Element
from isthmus.model.ruleset import PROTOCOL_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # sign, protocol, host address as text, addresses it leads to
    Kind = tuple[str, int, str, tuple[str, ...]]

__all__ = ["bracketed", "port_lines"]


def bracketed(address: Address | str) -> str:
    """Return an address as it stands before a port."""
    text = str(address)
    return f"[{text}]" if ":" in text else text


def port_lines(elements: Iterable[tuple[str, Element]]) -> Iterator[tuple[str, str]]:
    """Yield sign and text for each run of ports that lead to the same addresses."""
    targets: dict[tuple[str, int, str, int, int], list[str]] = {}
    for sign, element in elements:
        host, protocol, host_port, address, port = _read(element)
        targets.setdefault((sign, protocol, host, host_port, port), []).append(bracketed(address))
    runs: dict[Kind, list[tuple[int, int, int]]] = {}
    for (sign, protocol, host, host_port, port), addresses in sorted(targets.items()):
        known = runs.setdefault((sign, protocol, host, tuple(addresses)), [])
        if known and known[-1][0] + known[-1][2] == host_port and known[-1][1] + known[-1][2] == port:
            known[-1] = (known[-1][0], known[-1][1], known[-1][2] + 1)
        else:
            known.append((host_port, port, 1))
    for (sign, protocol, host, names), found in runs.items():
        for host_port, port, count in found:
            to = ", ".join(f"{name}:{_span(port, count)}" for name in names)
            yield sign, f"port {host}{_span(host_port, count)}/{PROTOCOL_NAMES[protocol]} -> {to}"


def _span(first: int, count: int) -> str:
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def _read(element: Element) -> tuple[str, int, int, Address, int]:
    """Return host address as text, protocol, host port, and the address and port that it leads to."""
    match element.parts, element.data:
        case (Address() as host, int() as protocol, int() as host_port), (Address() as address, int() as port):
            return f"{bracketed(host)}:", protocol, host_port, address, port
        case (int() as protocol, int() as host_port), (Address() as address, int() as port):
            return "", protocol, host_port, address, port
        case (Address() as address, int() as protocol, int() as port), ():
            return "", protocol, port, address, port
    raise AssertionError(element)
