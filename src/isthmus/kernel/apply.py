"""Plan -> the kernel, in few sends: what is next to each other goes together.

Links are links.py's. Elements of one run of steps are one nf_tables batch, which names the generation it
was computed for. A refusal is raised with the step's own words; what was done before it stays for the
caller to put right (converge.py), since rtnetlink has no transaction.
"""

from __future__ import annotations

import errno

from isthmus.errors import IsthmusError, KernelError
from isthmus.kernel import netns as kernel_netns
from isthmus.kernel.access import Access
from isthmus.kernel.commands import Commands
from isthmus.kernel.files import drop_file, drop_lines, write_file
from isthmus.kernel.links import LinkHands
from isthmus.kernel.ruleset import fingerprint, generation, load_ruleset, set_elements, unload_ruleset
from isthmus.kernel.sysctl import write_sysctl
from isthmus.model.host import (
    Autoconf,
    Bridge,
    BridgedNic,
    Directory,
    Element,
    File,
    HostsLine,
    LinkAddress,
    NamedNetns,
    PinnedMac,
    Process,
    Route,
    Rule,
    Ruleset,
    Symlink,
    Sysctl,
    Unredirected,
    Veth,
)
from isthmus.model.plan import Add, Change, Plan, Remove, Step, moves
from isthmus.model.ruleset import PORT_SETS, PROTOCOLS, SETS
from isthmus.model.switches import SWITCHES, is_silent, put_back
from isthmus.netlink import nft
from isthmus.netlink.rtnl import link as rtnl_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final


__all__ = ["Applier"]

_MISSING: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
_ERESTART: Final = 85
_MANY: Final = 8  # so many pairs are deleted by one message rather than cut one by one
_TCP: Final = PROTOCOLS["tcp"]


class Applier:
    """Carries out the steps of one plan.

    After it: `cookies` holds the cookie of each namespace made, `generation` the nf_tables generation after
    the last batch (None: none was sent), `overtaken` whether somebody else had committed since the one that it was
    given, `loaded` the fingerprint of the rulesets when one was loaded or taken away (empty: none is left). `leased`
    is called when a DHCP client of a namespace has its lease, `made` with the cookie of each namespace before its
    name leads there, `progress` after each step with how many of all are done.
    """

    def __init__(
        self, access: Access, commands: Commands, lock: int, progress: Callable[[int, int], None] | None = None
    ) -> None:
        self._access = access
        self._lock = lock
        self._commands = commands
        self._progress = progress
        self._links = LinkHands(access)
        self._elements: list[Step] = []
        self._lines: list[HostsLine] = []
        self._early: list[Element] = []
        self._plan = Plan()
        self.cookies: dict[str, int] = {}
        self.generation: int | None = None
        self.overtaken = False
        self.loaded: str | None = None
        self.leased: Callable[[str], None] | None = None
        self.made: Callable[[str, int], None] | None = None

    @property
    def trashed(self) -> bool:
        """Whether links wait in the dead group."""
        return self._links.trashed

    def apply(self, plan: Plan) -> None:
        """Carry out all steps in order.

        Raises:
            IsthmusError: a step was refused; the ones before it were carried out.
        """
        self._plan = plan
        self._early = _early_elements(plan)
        early = {item.key for item in self._early}
        self._links.dooms = sum(type(step) is Remove and type(step.item) is Veth for step in plan.steps) >= _MANY
        for number, step in enumerate(plan.steps):
            item = step.item
            if type(item) is Element:
                if item.key in early:
                    continue
                self._links.send()
                self._elements.append(step)
                continue
            if self._elements:
                self._send_elements()
            if self._lines and (type(item) is not HostsLine or item.path != self._lines[0].path):
                self._drop_lines()
            self._take(step)
            if self._progress is not None:
                self._progress(number + 1, len(plan.steps))
        self._links.send()
        self._send_elements()
        self._drop_lines()

    def await_ready(self) -> None:
        """Wait until what was made can be used; what cannot be asked for is left to itself."""
        try:
            self._links.settle()
        except (IsthmusError, OSError):
            pass

    def _take(self, step: Step) -> None:
        item = step.item
        match item:
            case Veth():
                self._links.veth(step, item)
            case LinkAddress():
                for comes, one in moves(step):
                    self._links.address(one, comes=comes)
            case Route():
                self._links.route(step, item)
            case Rule():
                self._links.rule(step, item)
            case Bridge():
                self._links.bridge(step, item)
            case _:
                self._links.send()
                self._take_alone(step)

    def _take_alone(self, step: Step) -> None:
        item = step.item
        match item:
            case Sysctl():
                if not isinstance(step, Remove):
                    self._sysctl(item)
            case NamedNetns():
                self._netns(step, item)
            case BridgedNic():
                self._nic(step, item)
            case PinnedMac():
                if not isinstance(step, Remove):
                    from isthmus.kernel.pinned import pin

                    pin(self._access, item)
            case Autoconf():
                from isthmus.kernel.autoconf import write_autoconf

                write_autoconf(self._access, item, on=not isinstance(step, Remove))
            case Unredirected():
                from isthmus.kernel.redirects import heed_redirects

                heed_redirects(self._access, item, on=isinstance(step, Remove))
            case HostsLine() if isinstance(step, Remove):
                self._lines.append(item)
            case File() | Directory() | Symlink() | HostsLine():
                if isinstance(step, Remove):
                    drop_file(item)
                else:
                    write_file(item)
            case Ruleset():
                self._ruleset(step, item)
            case Process():
                self._links.settle()
                if not isinstance(step, Add):
                    self._commands.stop(item)
                if not isinstance(step, Remove):
                    # One that ended comes again without a wait: a verb about something else shall not need a server.
                    died = isinstance(step, Change) and isinstance(step.before, Process) and not step.before.argv
                    self._commands.start(item, waits=not died)
                    if item.lasting and item.netns and not died and self.leased is not None:
                        self.leased(item.netns)
            case _:
                raise AssertionError(item)

    def _sysctl(self, item: Sysctl) -> None:
        """Write a value; what a global switch is copied to is put right at once."""
        if is_silent(self._plan, item):
            from isthmus.kernel import nic

            nic.generate_addresses(self._access, item.name.split("/")[3])
            return
        write_sysctl(item.name, item.value)
        if item.name in SWITCHES.values():
            for one in put_back(self._plan, item):
                write_sysctl(one.name, one.value)

    def _drop_lines(self) -> None:
        """Take the lines away that one hosts file loses, by one write."""
        lines, self._lines = self._lines, []
        if lines:
            drop_lines(lines[0].path, lines)

    # Elements

    def _send_elements(self) -> None:
        steps, self._elements = self._elements, []
        if steps:
            self._commit(steps)

    def _commit(self, steps: Sequence[Step]) -> None:
        """Commit elements in one batch; in two where the kernel takes none as long, which only root may change."""
        try:
            self._commit_whole(steps)
        except KernelError as cause:
            if cause.errno != errno.EMSGSIZE or len(steps) == 1:
                raise
            half = len(steps) // 2
            self._commit(steps[:half])
            self._commit(steps[half:])

    def _commit_whole(self, steps: Sequence[Step]) -> None:
        gone, new = _split(steps)
        for _ in range(8):
            if not gone and not new:
                return  # all is gone already; the kernel answers nothing to an empty batch
            expected = generation(self._access) if self.generation is None else self.generation
            requests = [*nft.delete_elements(gone), *nft.add_elements(new)]
            refused = self._access.nft.batch(nft.batch_begin(expected), requests, nft.batch_end())
            if not refused:
                self.generation = expected + 1
                self._forget_flows(steps)
                return
            self.generation = expected if refused[0].errno != _ERESTART else None
            if refused[0].errno == errno.ENOENT and gone:
                gone = self._present(gone)
            elif refused[0].errno == _ERESTART:
                self.overtaken = True
            else:
                raise refused[0].error()
        raise refused[0].error()

    def _forget_flows(self, steps: Sequence[Step]) -> None:
        """Let udp and sctp flows follow at once; TCP, the common case, needs nothing and loads nothing."""
        if any(isinstance(step.item, Element) and _is_datagram(step.item) for step in steps):
            from isthmus.kernel.flows import forget_published

            forget_published(self._access, steps)

    def _present(self, elements: Sequence[Element]) -> list[Element]:
        names = {one.name for one in elements}
        found: set[object] = {one.key for name in names for one in set_elements(self._access, name)}
        return [one for one in elements if one.key in found]

    def _ruleset(self, step: Step, item: Ruleset) -> None:
        if isinstance(step, Remove):
            unload_ruleset(self._access, item.family)
        else:
            early = [one for one in self._early if SETS[one.name].family == item.family]
            load_ruleset(item.family, early, self._lock)
            self._forget_flows([Add(item=one) for one in early])
        self.loaded = fingerprint(self._access)
        self.generation = None

    def _nic(self, step: Step, item: BridgedNic) -> None:
        from isthmus.kernel import nic

        if isinstance(step, Remove):
            nic.move_back(self._access, item)
        else:
            nic.move_onto(self._access, item)

    # Namespaces

    def _netns(self, step: Step, item: NamedNetns) -> None:
        if isinstance(step, Change):
            subject = f"link lo of namespace {item.name}"
            self._access.route(item.name).do(rtnl_link.change(0, by_name="lo", subject=subject, up=True))
            return
        self._access.forget(item.name)
        if isinstance(step, Remove):
            kernel_netns.remove(item.name)
        else:
            cookie = kernel_netns.make(item.name, self.made)
            self.cookies[item.name] = cookie
            self._access.made(item.name, cookie)


def _is_datagram(item: Element) -> bool:
    if item.name in ("anyport4", "anyport6"):
        return item.parts[0] != _TCP
    return item.name in ("port4", "port6") and item.parts[1] != _TCP


def _early_elements(plan: Plan) -> list[Element]:
    """Return the elements that come with a ruleset, in its transaction: isolation never rests on empty sets.

    While links are still to be made, those that steer to them wait.
    """
    loads = [step.item.family for step in plan.steps if isinstance(step.item, Ruleset) and type(step) is not Remove]
    if not loads:
        return []
    waits = any(isinstance(step, Add) and isinstance(step.item, Veth) for step in plan.steps)
    added = [step.item for step in plan.steps if isinstance(step, Add) and isinstance(step.item, Element)]
    return [one for one in added if SETS[one.name].family in loads and not (waits and one.name in PORT_SETS)]


def _split(steps: Sequence[Step]) -> tuple[list[Element], list[Element]]:
    gone: list[Element] = []
    new: list[Element] = []
    for step in steps:
        if isinstance(step, Change) and isinstance(step.before, Element):
            gone.append(step.before)
        if isinstance(step, Remove) and isinstance(step.item, Element):
            gone.append(step.item)
        elif isinstance(step.item, Element):
            new.append(step.item)
    return gone, new
