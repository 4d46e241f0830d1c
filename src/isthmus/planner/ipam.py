"""Choose addresses, prefixes and names: arithmetic over what is taken."""

from __future__ import annotations

from isthmus.errors import Refused
from isthmus.model.address import IPV4, Address, Prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from typing import Final

__all__ = ["POOLS", "allocate", "first_free_ifname", "free_prefix", "ula_prefix"]

POOLS: Final = (Prefix.parse("10.89.0.0/16"), Prefix.parse("10.90.0.0/16"))
_POOL_LENGTH: Final = 24
_WINDOW: Final = 256


def allocate(
    prefix: Prefix,
    gateway: Address | None,
    last: Address | None,
    taken: Callable[[int, int], Container[int]],
    given: tuple[Address, Address] | None = None,
) -> Address:
    """Choose the first free host address after the one given last, going round.

    `taken(low, high)` tells which numbers between are in use or rest; it is asked for windows, so the cost
    does not grow with the number of leases. Network, broadcast (IPv4) and gateway addresses are never given, nor
    one outside the range `given` (first, last).

    Raises:
        Refused: no host address is left.

    Source: RFC 3021 for /31 prefixes.
    """
    hosts = prefix.hosts
    if given is not None:
        hosts = range(max(hosts.start, given[0].number), min(hosts.stop, given[1].number + 1))
    start = hosts.start if last is None or last not in prefix else last.number + 1
    forbidden = gateway.number if gateway is not None else -1
    for low, high in _windows(hosts, min(max(start, hosts.start), hosts.stop)):
        used = taken(low, high)
        for number in range(low, high + 1):
            if number != forbidden and number not in used:
                return prefix.address(number)
    raise Refused(
        f"subnet {prefix} is full: none of {'its' if given is None else 'the range of'} {len(hosts)} addresses is free",
        hint="detach something, or make a network with a larger subnet",
    )


def _windows(hosts: range, start: int) -> Iterator[tuple[int, int]]:
    for first, stop in ((start, hosts.stop), (hosts.start, start)):
        low = first
        while low < stop:
            high = min(low + _WINDOW, stop) - 1
            yield low, high
            low = high + 1


def free_prefix(used: Iterable[Prefix], pools: Iterable[Prefix] = POOLS, length: int = _POOL_LENGTH) -> Prefix:
    """Choose the first prefix of a pool that overlaps none in use.

    Raises:
        Refused: all are in use.
    """
    busy = [one for one in used if one.family == IPV4]
    for pool in pools:
        for number in range(pool.number, pool.number + pool.size, 1 << (32 - length)):
            candidate = Prefix(family=IPV4, number=number, length=length)
            if not any(candidate.overlaps(one) for one in busy):
                return candidate
    raise Refused("no /24 is free in the pools", hint="name a subnet with --subnet, or set ISTHMUS_POOLS")


def ula_prefix(machine: bytes, used: Iterable[Prefix]) -> Prefix:
    """Choose the first free /64 of this machine's ULA /48; `machine` are five bytes that are its own.

    Source: RFC 4193 section 3.1.
    """
    base = int.from_bytes(b"\xfd" + machine[:5], "big") << 80
    busy = [one for one in used if one.family != IPV4]
    for subnet in range(1 << 16):
        candidate = Prefix(family=6, number=base | subnet << 64, length=64)
        if not any(candidate.overlaps(one) for one in busy):
            return candidate
    raise Refused("no /64 is free in this machine's ULA prefix", hint="name a subnet with --subnet")


def first_free_ifname(taken: Container[str]) -> str:
    """Return eth0, or the first ethN that is not taken."""
    number = 0
    while f"eth{number}" in taken:
        number += 1
    return f"eth{number}"
