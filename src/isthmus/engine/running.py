"""Commands: run in a namespace of their own that goes with them, read what they printed, stop them."""

from __future__ import annotations

import os

from isthmus.converge import Host
from isthmus.converge.runs import clear_run, run_edit
from isthmus.engine.attachments import settle_ports
from isthmus.engine.choose import Chooser
from isthmus.engine.namespaces import claim_name, note_names
from isthmus.engine.publishes import publish_row
from isthmus.engine.targets import find_namespace, find_network
from isthmus.engine.waiting import is_waiting
from isthmus.errors import InvalidInput, NotFound
from isthmus.kernel.beside import argv_of, source_of
from isthmus.kernel.foreground import attend as wait
from isthmus.kernel.foreground import has_terminal
from isthmus.kernel.launch import Supervisor, Way
from isthmus.kernel.netns import RUN
from isthmus.kernel.process import end, log_path
from isthmus.model.address import Address
from isthmus.model.declared import AttachmentWish, NetworkWish, RunWish
from isthmus.model.host import Process
from isthmus.model.network import Attachment, Command, Namespace, Network, Publish
from isthmus.model.plan import Plan, Remove, Report
from isthmus.model.value import Value
from isthmus.planner.desired import Scope
from isthmus.store.edit import Edit
from isthmus.store.slices import load_slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from isthmus.model.network import Record

__all__ = ["DEFAULT_NETWORK", "Ran", "attend", "clear", "clear_run", "logs", "run", "stop"]

DEFAULT_NETWORK: Final = "default"


class Ran(Value):
    """A run that was started: its namespace's name, its supervisor's pid, what it was given, and the report.

    `terminal`: it is in the foreground of one.
    """

    name: str
    pid: int
    attachments: tuple[Attachment, ...]
    publishes: tuple[Publish, ...]
    report: Report
    terminal: bool = False


def run(host: Host, wish: RunWish, supervisor: Supervisor | None = None) -> Ran:
    """Make a namespace and start a command in it; the namespace and all that hangs on it go when the command ends.

    In the foreground, `attend` waits for it, outside of the `with` block, and `clear_run` clears it in another
    one; signals are held until then, and the main thread must be the caller. If this process is killed,
    the command's supervisor ends it and has it cleared. `supervisor`: one that was started ahead.

    Raises:
        ProgramNotFound, NotExecutable: the command cannot be started.
        NotFound: no such network. Refused: name, address or port is taken. InvalidInput: an address outside.
    """
    terminal = wish.foreground and has_terminal()
    name = wish.name or f"run-{os.urandom(4).hex()}"
    claim_name(host, name)
    note_names(host, files=False)
    record = load_slice(host.db, [name])
    drawn = _Drawn(host, wish, name, record)
    scope = Scope(host=drawn.makes_network, namespaces=frozenset({name}))
    where = "foreground" if wish.foreground else "here"
    then = argv_of(source_of(__name__, "clear", os.path.abspath(host.directory), name))
    host.ways[name] = Way(where=where, environment=wish.environment, then=then, supervisor=supervisor)
    report = host.change("run", drawn.edit, scope, record=record)
    networks = drawn.edit.on(record).networks
    ports = [(row, networks[row.network]) for row in drawn.attachments if networks[row.network].adopted]
    if ports:
        report = report.replace(notes=(*report.notes, *settle_ports(host, ports)))
    return Ran(
        name=name,
        pid=host.ways[name].pid,
        attachments=tuple(drawn.attachments),
        publishes=tuple(drawn.publishes),
        report=report,
        terminal=terminal,
    )


class _Drawn:
    """The edit that makes a run, and what is in it."""

    def __init__(self, host: Host, wish: RunWish, name: str, record: Record) -> None:
        self._host = host
        self._wish = wish
        self._name = name
        self._record = record
        self.attachments: list[Attachment] = []
        self.publishes: list[Publish] = []
        self.makes_network = False
        self.edit = Edit()
        self._take(Namespace(id=name, path=f"{RUN}/{name}", made=True))
        self._attach()
        for one in wish.publishes:
            row = publish_row(host, one, name, self._record, beside=self.publishes)
            self.publishes.append(row)
            self._take(row)
        self._take(Command(namespace=name, argv=wish.argv, transient=True))

    def _take(self, row: Namespace | Network | Attachment | Publish | Command) -> None:
        more = Edit(puts=(row,))
        self.edit = self.edit.plus(more)
        self._record = more.on(self._record)

    def _attach(self) -> None:
        wish, chooser = self._wish, Chooser(self._host)
        names = wish.networks or ((DEFAULT_NETWORK,) if wish.ips or wish.publishes else ())
        networks = [self._network(name, chooser) for name in dict.fromkeys(names)]
        for address in wish.ips:
            if not any(_holds(network, address) for network in networks):
                raise InvalidInput("ip", str(address), f"outside of network {', '.join(names)}")
        if wish.leased and not any(network.is_lan for network in networks):
            told = f"none of {', '.join(names)} is a LAN" if names else "no network is named"
            raise InvalidInput("ip", "dhcp", f"{told} (uplink nic): isthmus gives the addresses")
        for network in networks:
            ips = tuple(address for address in wish.ips if _holds(network, address))
            one = AttachmentWish(network=network.name, ips=ips, leased=wish.leased if network.is_lan else ())
            row = chooser.attachment(one, network, self._name, self._record)
            self.attachments.append(row)
            self._take(row)

    def _network(self, name: str, chooser: Chooser) -> Network:
        if name != DEFAULT_NETWORK or name in self._record.networks:
            return find_network(self._record, name)
        made = chooser.network(NetworkWish(name=name), self._record, None, "").replace(transient=True)
        self.makes_network = True
        self._take(made)
        return made


def _holds(network: Network, address: Address) -> bool:
    return any(address in one.prefix for one in network.subnets)


def clear(directory: str, name: str) -> None:
    """Clear a run that has ended; for the process that its supervisor starts."""
    from isthmus.engine.reaper import reap

    host = Host(directory=directory)
    with host:
        clear_run(host, name)
    if is_waiting(host):
        reap(directory)


def attend(ran: Ran) -> int | None:
    """Wait for a run in the foreground, passing signals on; return the command's exit status, 128 + N for signal N.

    None: its supervisor was killed, and nobody knows.
    """
    return wait(ran.pid, terminal=ran.terminal)


def stop(host: Host, target: str, timeout_s: float) -> tuple[Command, Report]:
    """End a command with all its descendants: SIGTERM, and SIGKILL after `timeout_s`; return its row and what goes.

    Takes a reading host: nobody shall wait for the lock meanwhile. A declared command stays on record as ended. A
    run is cleared by whoever started it, or its supervisor, or `clear_run`.

    Raises:
        NotFound: there is no command. Unavailable: something outlives SIGKILL.
    """
    command = _command(host, target)
    gone = Report(plan=Plan(steps=(Remove(item=Process(netns=command.namespace, argv=command.argv)),)))
    if command.transient:
        record = load_slice(host.db, [command.namespace])
        edit, scope = run_edit(host, record, command.namespace)
        gone = host.preview(edit, scope, record=record)
    end(host.commands_directory, command.namespace, timeout_s)
    return command, gone


def _command(host: Host, target: str) -> Command:
    try:
        name = find_namespace(host, target).id
    except NotFound:
        name = target
    found: dict[str, Command] = host.db.rows("commands", "namespace = ?", (name,))
    if name not in found:
        raise NotFound(f"{target} has no command", hint="isthmus ls shows them")
    return found[name]


def logs(host: Host, target: str, *, follow: bool = False) -> Iterator[bytes]:
    """Return what the command of a namespace and its descendants have written, in pieces; `follow`: until they end.

    Takes a reading host, and needs it no longer once it returns.

    Raises:
        NotFound: there is no command, or it writes to where it was started.
    """
    from isthmus.kernel.log import pieces

    name = _command(host, target).namespace
    if not os.path.exists(log_path(host.commands_directory, name)):
        raise NotFound(f"what the command of {name} prints is not kept: it writes to where it was started")
    return pieces(host.commands_directory, name, follow=follow)
