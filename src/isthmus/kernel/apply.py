"""Plan -> the kernel, in few sends: what is next to each other goes together.

Requests for the inside of a namespace are gathered and sent in one; elements of one run of steps are one
nf_tables batch, which names the generation it was computed for. A refusal is raised with the step's own
words; what was done before it stays for the caller to put right (converge.py), since rtnetlink has no
transaction. Orders and traps: docs/decisions/0003.
"""

from __future__ import annotations

import errno
import os

from isthmus.errors import KernelError, NotFound, Refused
from isthmus.kernel import netns as kernel_netns
from isthmus.kernel.access import Access
from isthmus.kernel.announce import announce
from isthmus.kernel.flows import forget_published
from isthmus.kernel.ruleset import fingerprint, generation, load_ruleset, unload_ruleset
from isthmus.kernel.sysctl import write_sysctl
from isthmus.model.host import (
    HOST,
    LIVE_GROUP,
    TRASH_GROUP,
    Bridge,
    Element,
    File,
    LinkAddress,
    NamedNetns,
    Process,
    Route,
    Ruleset,
    Sysctl,
    Veth,
)
from isthmus.model.plan import Add, Change, Plan, Remove, Step
from isthmus.netlink import nft
from isthmus.netlink.rtnl import address as rtnl_address
from isthmus.netlink.rtnl import link as rtnl_link
from isthmus.netlink.rtnl import route as rtnl_route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from isthmus.netlink.wire import Request

__all__ = ["Applier", "Commands"]

_MISSING: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
_ERESTART: Final = 85


class Commands:
    """How commands are started and ended; the engine gives it the directory and the namespaces."""

    def start(self, item: Process) -> None:
        """Start a command."""
        raise NotImplementedError

    def stop(self, item: Process) -> None:
        """End a command with all its descendants."""
        raise NotImplementedError


class Applier:
    """Carries out the steps of one plan.

    After it: `cookies` holds the cookie of each namespace made, `generation` the nf_tables generation after
    the last batch (None: none was sent), `loaded` the fingerprint of a ruleset that was loaded, `trashed`
    whether links wait in the trash group.
    """

    def __init__(self, access: Access, commands: Commands, progress: Callable[[int], None] | None = None) -> None:
        self._access = access
        self._commands = commands
        self._progress = progress
        self._inner: dict[str, list[tuple[Request, bool]]] = {}
        self._elements: list[Step] = []
        self._indexes: dict[tuple[str, str], int] = {}
        self._announcements: dict[str, list[LinkAddress]] = {}
        self.cookies: dict[str, int] = {}
        self.generation: int | None = None
        self.loaded: str | None = None
        self.trashed = False

    def apply(self, plan: Plan) -> None:
        """Carry out all steps in order.

        Raises:
            IsthmusError: a step was refused; the ones before it were carried out.
        """
        for number, step in enumerate(plan.steps):
            item = step.item
            if type(item) is Element:
                self._send_inner()
                self._elements.append(step)
                continue
            if self._elements:
                self._send_elements()
            self._take(step)
            if self._progress is not None:
                self._progress(number + 1)
        self._send_inner()
        self._send_elements()

    def _take(self, step: Step) -> None:
        item = step.item
        match item:
            case Veth():
                self._veth(step, item)
            case LinkAddress():
                self._address(step, item)
            case Route():
                self._route(step, item)
            case _:
                self._send_inner()
                self._take_alone(step)

    def _take_alone(self, step: Step) -> None:
        item = step.item
        match item:
            case Sysctl():
                if not isinstance(step, Remove):
                    write_sysctl(item.name, item.value)
            case Bridge():
                self._bridge(step, item)
            case NamedNetns():
                self._netns(step, item)
            case File():
                _write_file(item, gone=isinstance(step, Remove))
            case Ruleset():
                self._ruleset(step)
            case Process():
                if not isinstance(step, Add):
                    self._commands.stop(item)
                if not isinstance(step, Remove):
                    self._commands.start(item)
            case _:
                raise AssertionError(item)

    # Links

    def _index(self, netns: str, ifname: str) -> int:
        key = (netns, ifname)
        if key not in self._indexes:
            self._indexes[key] = self._access.index(netns, ifname)
        return self._indexes[key]

    def _bridge(self, step: Step, item: Bridge) -> None:
        socket = self._access.route(HOST)
        subject = f"bridge {item.name}"
        if isinstance(step, Remove):
            _do_missing_ok(self._access, HOST, [rtnl_link.delete(item.name)])
            return
        requests = []
        if isinstance(step, Add):
            # An MTU in the create message does not pin it, nor does setting the value it has: so another first.
            requests.append(rtnl_link.create_bridge(item.name, mac=item.mac, mtu=item.mtu - 1, group=LIVE_GROUP))
        requests.append(
            rtnl_link.change(
                0,
                by_name=item.name,
                subject=subject,
                mtu=item.mtu,
                mac=None if isinstance(step, Add) else item.mac,
                alias=item.alias,
                no_link_local=True,
                group=LIVE_GROUP,
            )
        )
        requests.append(rtnl_link.change(0, by_name=item.name, subject=subject, operation="set up", up=True))
        answers = socket.do(*requests)
        if isinstance(step, Add) and answers[0].payloads:
            self._indexes[HOST, item.name] = rtnl_link.decode(answers[0].payloads[0]).index

    def _veth(self, step: Step, item: Veth) -> None:
        if isinstance(step, Add):
            self._make_veth(item)
        elif isinstance(step, Remove):
            self._cut_veth(item)
        elif isinstance(step.before, Veth) and not step.before.peer_name:
            self._cut_veth(item)
            self._make_veth(item)
        elif isinstance(step.before, Veth):
            self._mend_veth(step.before, item)

    def _make_veth(self, item: Veth) -> None:
        access = self._access
        request = rtnl_link.create_veth(
            item.name,
            mac=item.mac,
            mtu=item.mtu,
            group=LIVE_GROUP,
            master=self._index(HOST, item.master) if item.master else 0,
            peer_name=item.peer_name,
            peer_mac=item.peer_mac,
            peer_netns_fd=access.fd(item.peer_netns),
            netns_fd=access.fd(item.netns) if item.netns != HOST else None,
        )
        followers = _near_end(item) if item.netns == HOST else []
        answers = access.route(HOST).ask([request, *followers])
        if answers[0].errno == errno.EEXIST:
            self._clear_the_way(item)
            answers = access.route(HOST).ask([request, *followers])
        for answer in answers:
            if answer.errno:
                raise _explained(answer.error(), item)
        if item.netns == HOST:
            self._indexes[item.peer_netns, item.peer_name] = rtnl_link.decode(answers[0].payloads[0]).peer
        else:
            self._queue(item.netns, *_far_end(item.name, item.alias))
        self._queue(item.peer_netns, *_far_end(item.peer_name, None if item.netns == HOST else item.alias))

    def _clear_the_way(self, item: Veth) -> None:
        """Rename a dead link of ours, which waits for deletion, out of a new one's way.

        Raises:
            Refused: the name is a living link's.
        """
        for netns, name in ((item.peer_netns, item.peer_name), (item.netns, item.name)):
            found = self._access.link(netns, name)
            if found is None:
                continue
            host_end = self._access.link_at(HOST, found.peer)
            if netns == HOST or host_end is None or host_end.group != TRASH_GROUP or host_end.peer != found.index:
                where = "the host" if netns == HOST else netns
                raise Refused(f"cannot create link {name} in {where}: a link of that name is there already")
            free = f"dead{os.urandom(4).hex()}"
            down = rtnl_link.change(found.index, subject=f"link {name}", up=False)
            self._access.route(netns).do(down, rtnl_link.change(found.index, subject=f"link {name}", name=free))

    def _cut_veth(self, item: Veth) -> None:
        """Cut a pair off at once: its host end down, in the group of the dead; it is deleted later.

        The kernel makes the deleter of a veth wait some 20 ms.
        """
        self._send_inner()
        if item.netns != HOST:
            if self._access.is_alive(item.netns):
                _do_missing_ok(self._access, item.netns, [rtnl_link.delete(item.name)])
            return
        subject = f"link {item.name}"
        cut = rtnl_link.change(0, by_name=item.name, subject=subject, operation="cut off", up=False, group=TRASH_GROUP)
        _do_missing_ok(self._access, HOST, [cut])
        self.trashed = True

    def _mend_veth(self, before: Veth, item: Veth) -> None:
        requests = []
        if before.master != item.master:
            master = self._index(HOST, item.master) if item.master else 0
            requests.append(rtnl_link.change(0, by_name=item.name, subject=f"link {item.name}", master=master))
        if before.mtu != item.mtu or before.mac != item.mac:
            mac = item.mac if before.mac != item.mac else None
            requests.append(rtnl_link.change(0, by_name=item.name, subject=f"link {item.name}", mtu=item.mtu, mac=mac))
        self._access.route(item.netns).do(*requests, *_near_end(item))
        inside = self._access.route(item.peer_netns)
        index, subject = self._index(item.peer_netns, before.peer_name), f"link {item.peer_name}"
        if before.peer_name != item.peer_name or before.peer_mac != item.peer_mac:
            renamed = item.peer_name if before.peer_name != item.peer_name else None
            inside.do(
                rtnl_link.change(index, subject=subject, up=False),
                rtnl_link.change(index, subject=subject, name=renamed, mac=item.peer_mac),
            )
            self._indexes[item.peer_netns, item.peer_name] = index
        inside.do(rtnl_link.change(index, subject=subject, mtu=item.mtu, up=True))

    # What hangs on links

    def _queue(self, netns: str, *requests: Request, missing_ok: bool = False) -> None:
        self._inner.setdefault(netns, []).extend((request, missing_ok) for request in requests)

    def _address(self, step: Step, item: LinkAddress) -> None:
        subject = f"link {item.ifname}: {item.address}/{item.length}"
        if not isinstance(step, Add):
            old = step.before if isinstance(step, Change) else item
            assert isinstance(old, LinkAddress)
            index = self._living_index(item)
            if index is None:
                return
            request = rtnl_address.delete(index, item.address, old.length, subject)
            self._queue(item.netns, request, missing_ok=True)
        if not isinstance(step, Remove):
            index = self._index(item.netns, item.ifname)
            self._queue(item.netns, rtnl_address.add(index, item.address, item.length, subject))
            self._announcements.setdefault(item.netns, []).append(item)

    def _route(self, step: Step, item: Route) -> None:
        subject = f"link {item.ifname}: {item.prefix} via {item.via}"
        if not isinstance(step, Add):
            old = step.before if isinstance(step, Change) else item
            assert isinstance(old, Route)
            index = self._living_index(old)
            if index is not None:
                request = rtnl_route.delete(old.prefix, old.via, index, subject)
                self._queue(item.netns, request, missing_ok=True)
        if not isinstance(step, Remove):
            index = self._index(item.netns, item.ifname)
            self._queue(item.netns, rtnl_route.add(item.prefix, item.via, index, subject))

    def _living_index(self, item: LinkAddress | Route) -> int | None:
        try:
            return self._index(item.netns, item.ifname)
        except (KernelError, NotFound):
            return None

    def _send_inner(self) -> None:
        queued, self._inner = self._inner, {}
        for netns, pairs in queued.items():
            answers = self._access.route(netns).ask([request for request, _ in pairs])
            for answer, (_, missing_ok) in zip(answers, pairs, strict=True):
                if answer.errno and not (missing_ok and answer.errno in _MISSING):
                    raise answer.error()
            fresh = self._announcements.pop(netns, None)
            if fresh:
                announce(self._access, netns, [(self._index(netns, one.ifname), one) for one in fresh])

    # Elements

    def _send_elements(self) -> None:
        steps, self._elements = self._elements, []
        if not steps:
            return
        gone, new = _split(steps)
        for _ in range(8):
            expected = generation(self._access) if self.generation is None else self.generation
            requests = [*nft.delete_elements(gone), *nft.add_elements(new)]
            refused = self._access.nft.batch(nft.batch_begin(expected), requests, nft.batch_end())
            if not refused:
                self.generation = expected + 1
                forget_published(self._access, steps)
                return
            self.generation = None
            if refused[0].errno == errno.ENOENT and gone:
                gone = self._present(gone)
            elif refused[0].errno != _ERESTART:
                raise refused[0].error()
        raise refused[0].error()

    def _present(self, elements: Sequence[Element]) -> list[Element]:
        if fingerprint(self._access) is None:
            return []
        found: set[object] = set()
        for name in {one.name for one in elements}:
            held = nft.decode_elements(self._access.nft.dump(nft.dump_elements(name)))
            found |= {one.key for one in held}
        return [one for one in elements if one.key in found]

    def _ruleset(self, step: Step) -> None:
        if isinstance(step, Remove):
            unload_ruleset(self._access)
        else:
            load_ruleset()
            self.loaded = fingerprint(self._access)
        self.generation = None

    # Namespaces

    def _netns(self, step: Step, item: NamedNetns) -> None:
        self._access.forget(item.name)
        if isinstance(step, Remove):
            kernel_netns.remove(item.name)
        else:
            self.cookies[item.name] = cookie = kernel_netns.make(item.name)
            self._access.made(item.name, cookie)


def _near_end(item: Veth) -> list[Request]:
    subject = f"link {item.name}"
    return [
        rtnl_link.change(0, by_name=item.name, subject=subject, alias=item.alias, no_link_local=True),
        *([rtnl_link.set_port(item.name, hairpin=item.hairpin, isolated=item.isolated)] if item.master else []),
        rtnl_link.change(0, by_name=item.name, subject=subject, operation="set up", up=True),
    ]


def _far_end(name: str, alias: str | None) -> list[Request]:
    return [
        rtnl_link.change(0, by_name=name, subject=f"link {name}", alias=alias, no_link_local=True),
        rtnl_link.change(0, by_name=name, subject=f"link {name}", operation="set up", up=True),
    ]


def _explained(error: Exception, item: Veth) -> Exception:
    if isinstance(error, KernelError) and error.errno == errno.EXFULL:
        return Refused(
            f"cannot attach to bridge {item.master}: it has 1023 ports, and a bridge holds no more",
            hint="make a second network",
        )
    return error


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


def _do_missing_ok(access: Access, netns: str, requests: list[Request]) -> None:
    for answer in access.route(netns).ask(requests):
        if answer.errno and answer.errno not in _MISSING:
            raise answer.error()


def _write_file(item: File, *, gone: bool) -> None:
    """Write a file in the place of the old one, or remove it and the directory that it leaves empty."""
    directory = os.path.dirname(item.path)
    try:
        if gone:
            if os.path.lexists(item.path):
                os.unlink(item.path)
            if os.path.isdir(directory) and not os.listdir(directory):
                os.rmdir(directory)
            return
        os.makedirs(directory, mode=0o755, exist_ok=True)
        # In place: whoever has it mounted over /etc/hosts sees the new text.
        fd = os.open(item.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.write(fd, item.text.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)
    except OSError as cause:
        raise KernelError("write file", item.path, cause.errno or 0) from cause
