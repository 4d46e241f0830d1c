"""The names that leases bring: written when one comes, and when a server gives another address later.

A name is an object of the plan like any other; only the address is not on record (docs/decisions/0012). What tells
of a change is the DHCP client's script, which knows no locks: it starts a process that enters the host (`follow`).
"""

from __future__ import annotations

import os

from isthmus.converge.outlook import run_directory
from isthmus.errors import IsthmusError
from isthmus.kernel import libc
from isthmus.kernel.access import Access
from isthmus.kernel.files import drop_file, write_file
from isthmus.kernel.lease import named_lease, present_lease
from isthmus.kernel.process import Running, state
from isthmus.model.host import File, HostsLine
from isthmus.model.plan import Remove
from isthmus.planner.desired import Scope
from isthmus.planner.leases import member_name
from isthmus.store.edit import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from isthmus.converge.host import Host
    from isthmus.model.lease import Lease
    from isthmus.model.network import Attachment, Record

__all__ = ["follow", "named_leases", "present_leases", "write_names"]


def named_leases(leased: Iterable[Attachment]) -> dict[str, Lease]:
    """Return the leases of attachments as hosts files have them."""
    return {one.id: named_lease(one, f"{run_directory()}/hosts/{one.network}") for one in leased}


def present_leases(access: Access, leased: Collection[Attachment]) -> dict[str, Lease]:
    """Return the leases of attachments as they are now."""
    commands = f"{run_directory()}/commands"
    clients = {one.id: [f"{commands}/{member_name(one.id, family)}" for family in one.leased] for one in leased}
    return {one.id: present_lease(access, one, clients[one.id]) for one in leased}


def write_names(host: Host, edit: Edit, record: Record, namespace: str) -> None:
    """Write the names that a lease has just brought, in the midst of a change: the next step may be a command."""
    plan = host.preview(edit, Scope(host=False, namespaces=frozenset({namespace})), record).plan
    for step in plan.steps:
        if isinstance(step.item, File | HostsLine):
            (drop_file if isinstance(step, Remove) else write_file)(step.item)


def follow(directory: str, commands: str, client: str, namespace: str) -> None:
    """Enter the host, from the namespaces of one of its DHCP clients, and bring names in line with its lease."""
    from isthmus.converge.host import Host

    running = state(commands, client)
    if not isinstance(running, Running):
        return  # it is being ended, and what it had is cleared away
    for kind, flag in (("net", libc.CLONE_NEWNET), ("mnt", libc.CLONE_NEWNS)):
        fd = os.open(f"/proc/{running.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        libc.setns(fd, flag)
        os.close(fd)
    try:
        with Host(directory=directory) as host:
            host.change("lease", Edit(), Scope(host=False, namespaces=frozenset({namespace})))
    except IsthmusError:
        pass  # the next change of this namespace does it
