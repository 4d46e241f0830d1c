"""Plans: ordered steps, each with its inverse, and the report of having applied them."""

from __future__ import annotations

from isthmus.model.address import IPV4
from isthmus.model.host import HostObject, LinkAddress, Sysctl
from isthmus.model.value import Value

__all__ = ["Add", "Change", "Plan", "Remove", "Report", "Step", "moves"]


class Add(Value):
    """Bring an object into being."""

    item: HostObject

    @property
    def undo(self) -> Step:
        return Remove(item=self.item)


class Remove(Value):
    """Take an object away; that it is missing already is success.

    `falling` are the objects that go with it by themselves: what hangs on a link, on a table.
    """

    item: HostObject
    falling: tuple[HostObject, ...] = ()

    @property
    def undo(self) -> Step:
        return Add(item=self.item)


class Change(Value):
    """Bring an object from one condition to another."""

    before: HostObject
    item: HostObject

    @property
    def undo(self) -> Step:
        return Change(before=self.item, item=self.before)


Step = Add | Remove | Change


def moves(step: Step) -> tuple[tuple[bool, LinkAddress], ...]:
    """Return the addresses that come (True) and go by a step of one, in order: to the kernel another length is another.

    With the last IPv4 address of a link its routes would go (net/ipv4/fib_frontend.c, fib_disable_ip), those of others
    too: the new one comes first. IPv6 has an address once on a link, and keeps the routes.
    """
    item = step.item
    assert isinstance(item, LinkAddress)
    if not isinstance(step, Change):
        return ((isinstance(step, Add), item),)
    assert isinstance(step.before, LinkAddress)
    before, after = (False, step.before), (True, item)
    return (after, before) if item.address.family == IPV4 else (before, after)


class Plan(Value):
    """Steps in an order that the kernel accepts.

    `kept` are values of links that a global switch among the steps would overwrite, and that stay as they are.
    """

    steps: tuple[Step, ...] = ()
    kept: tuple[Sysctl, ...] = ()

    def undo(self) -> Plan:
        """Return the steps that lead back, in reverse."""
        steps: list[Step] = []
        for step in reversed(self.steps):
            steps.append(step.undo)
            if isinstance(step, Remove):
                steps += [Add(item=item) for item in step.falling]
        return Plan(steps=tuple(steps), kept=self.kept)

    def __bool__(self) -> bool:
        return bool(self.steps)


class Report(Value):
    """What a verb did: the plan that was applied, and what the operator should know besides.

    `paths` are (id, path) of namespaces without a name, for whoever prints the plan as commands. `mended`: a note tells
    of what was put right before, and is not in the plan.
    """

    plan: Plan
    notes: tuple[str, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    mended: bool = False
