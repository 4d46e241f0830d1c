"""Sysctls whose write does more: the global switches of forwarding, one a family, and `addr_gen_mode` (`is_silent`).

A write of a switch (of IPv4: one that changes it) is copied to `default` and to every link; IPv4's turns
`accept_redirects` of `all` the other way; IPv6's, when it is 0, ends every link's `force_forwarding`, too.
What decides about a packet is, of the link that it comes in by, IPv4's `forwarding`; of IPv6 the switch, or the link's
`force_forwarding` (since Linux 6.17).

Source: `inet_forward_change` in net/ipv4/devinet.c, `addrconf_forward_change` in net/ipv6/addrconf.c, `ip6_forward` in
net/ipv6/ip6_output.c, `addrconf_sysctl_addr_gen_mode`.
"""

from __future__ import annotations

from isthmus.model.host import BridgedNic, Sysctl
from isthmus.model.plan import Change, Plan, Remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Final

__all__ = [
    "SWITCHES",
    "copied_family",
    "copied_value",
    "forwards",
    "is_silent",
    "link_switch",
    "overwritten",
    "put_back",
    "switched",
]

SWITCHES: Final = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_REDIRECTS: Final = "net/ipv4/conf/all/accept_redirects"


def link_switch(family: int, link: str) -> str:
    """Return the sysctl that forwards what comes in by one link, whatever the global switch says."""
    return f"net/ipv{family}/conf/{link}/{'force_' * (family == 6)}forwarding"


def forwards(name: str) -> bool:
    """Whether a sysctl is one that forwards: a global switch, or what a link has."""
    return name.endswith(("/ip_forward", "/forwarding", "/force_forwarding"))


def copied_family(name: str) -> int:
    """Return the family whose switch is copied to a sysctl; 0: none is."""
    if name == _REDIRECTS:
        return 4
    for family, switch in SWITCHES.items():
        if name.startswith(f"net/ipv{family}/conf/") and name.endswith("/forwarding") and name != switch:
            return 0 if name == f"net/ipv{family}/conf/all/forwarding" else family
    return 0


def copied_value(name: str, value: str) -> str:
    """Return what a sysctl becomes when its switch becomes `value`."""
    return str(1 - int(value)) if name == _REDIRECTS else value


def overwritten(name: str, values: Mapping[int, str]) -> str | None:
    """Return what a sysctl becomes when the switches of some families get these values; None: it stays."""
    if name.startswith("net/ipv6/conf/") and name.endswith("/force_forwarding"):
        return "0" if values.get(6) == "0" else None
    family = copied_family(name)
    return copied_value(name, values[family]) if family in values else None


def switched(plan: Plan) -> dict[int, str]:
    """Return what a plan changes the switches to, by family."""
    names = {name: family for family, name in SWITCHES.items()}
    changes = [step.item for step in plan.steps if isinstance(step, Change)]
    return {names[item.name]: item.value for item in changes if isinstance(item, Sysctl) and item.name in names}


def put_back(plan: Plan, switch: Sysctl) -> Iterator[Sysctl]:
    """Yield the values that have to be written after a switch of the plan: all that it overwrites with another.

    Those of links that the plan makes are steps of their own, and come later.
    """
    values = {family: switch.value for family, name in SWITCHES.items() if name == switch.name}
    steps = [step.item for step in plan.steps if isinstance(step, Change)]
    for item in (*plan.kept, *steps):
        if isinstance(item, Sysctl) and overwritten(item.name, values) not in (None, item.value):
            yield item


def is_silent(plan: Plan, item: Sysctl) -> bool:
    """Whether a sysctl is to be set without what a write of it does besides: by netlink.

    A write of `addr_gen_mode` gives the link its link-local address at once. An interface that comes back from its
    bridge with IPv6 addresses, none of them link-local, had none: somebody had taken it away.
    """
    if not item.name.endswith("/addr_gen_mode") or item.value != "0":
        return False
    for step in plan.steps:
        nic = step.item
        if isinstance(step, Remove) and isinstance(nic, BridgedNic) and f"/{nic.name}/" in item.name:
            found = [one.words[2] for one in nic.carried if one.kind == "address" and ":" in one.words[2]]
            return bool(found) and not any(one.startswith("fe80:") for one in found)
    return False
