"""Switch forwarding on and off: now, and at each boot; on all links, or on one.

On is a row of the record; what has to be changed for it is borrowed. Off gives that back, and what somebody else
switched on is taken for borrowed first. What a network or another row needs stays on.
What there is shows forwarding_state.py; what is said of a change, and who needs what, is forwarding_words.py's.
"""

from __future__ import annotations

from isthmus.converge import Host
from isthmus.engine.forwarding_words import called, effects, known_links, needs, next_boot, undone
from isthmus.errors import Refused, Unsupported
from isthmus.kernel.facts import forwarding_links, read_copies
from isthmus.kernel.files import link_target, read_text
from isthmus.kernel.netns import boots_elsewhere
from isthmus.kernel.sysctl import read_sysctl
from isthmus.model.network import Borrowed, Forwarding, Record
from isthmus.model.plan import Report
from isthmus.model.switches import SWITCHES, copied_family, forwards, link_switch
from isthmus.model.value import Value
from isthmus.planner.desired import Scope
from isthmus.planner.forwarding import bridges_of
from isthmus.planner.persisting import OWN_FILE, is_ours, own_rows
from isthmus.store.edit import Edit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from isthmus.model.declared import ForwardingWish

__all__ = ["file_rows", "plan_forwarding", "switch_forwarding", "wished_rows"]

_SCOPE: Final = Scope(host=True, namespaces=frozenset())


class _Course(Value):
    """A change to be: the record before it, its edit, what is taken for borrowed, and what to say besides."""

    record: Record
    edit: Edit
    taken: tuple[Borrowed, ...] = ()
    notes: tuple[str, ...] = ()


def switch_forwarding(
    host: Host, wish: ForwardingWish, *, on: bool, before: Callable[[tuple[str, ...]], None] | None = None
) -> Report:
    """Switch forwarding on or off now; with `wish.persist` at each boot, too.

    `before` is told what the change will do to links before it is done; the report's notes have the rest of what
    an operator should know, and that too where nobody was told.

    Raises:
        Refused: a declaration or a network stands against it, or the file's name is taken.
        NotFound: no such link. Unsupported: this kernel cannot.
        NotPermitted: /proc/sys or /etc cannot be written; nothing was changed.
    """
    course = _course(host, wish, on=on)
    said = effects(host, host.preview(course.edit, _SCOPE, course.record, course.taken).plan)
    if before is not None and said:
        before(said)
    report = host.change(
        f"forwarding {'on' if on else 'off'}",
        course.edit,
        _SCOPE,
        leaving=not on,
        record=course.record,
        taken=course.taken,
    )
    return report.replace(notes=(*report.notes, *(said if before is None else ()), *course.notes))


def plan_forwarding(host: Host, wish: ForwardingWish, *, on: bool) -> Report:
    """Return what `switch_forwarding` would do, and in its notes what that does to links; nothing is changed.

    Raises:
        Refused, NotFound, Unsupported: what `switch_forwarding` would raise before it changes anything.
    """
    course = _course(host, wish, on=on)
    report = host.preview(course.edit, _SCOPE, course.record, course.taken)
    return report.replace(notes=(*report.notes, *effects(host, report.plan), *course.notes))


def file_rows(record: Record) -> tuple[Forwarding, ...]:
    """Return the rows that our file says and the record lacks, as when the state file was lost."""
    rows = own_rows("" if link_target(OWN_FILE) else read_text(OWN_FILE)).values()
    return tuple(row.replace(now=_is_on(row)) for row in rows if row.id not in record.forwarding)


def _is_on(row: Forwarding) -> bool:
    return read_sysctl(_switch(row.family, row.link)) == "1"


def _switch(family: int, link: str) -> str:
    return link_switch(family, link) if link else SWITCHES[family]


def _course(host: Host, wish: ForwardingWish, *, on: bool) -> _Course:
    known = host.record()
    record = Edit(puts=file_rows(known)).on(known)
    rows = dict(record.forwarding)
    if not on:
        if wish.persist:
            _check_boot()
        return _off(host, wish, known, record)
    rows |= wished_rows(host, (wish,), record)
    edit = _edit(known, rows)
    return _Course(record=record, edit=edit, notes=(*_not_reached(wish), *undone(edit.on(record))))


def _edit(known: Record, rows: dict[str, Forwarding]) -> Edit:
    puts = tuple(row for row in rows.values() if known.forwarding.get(row.id) != row)
    return Edit(puts=puts, drops=tuple(("forwarding", one) for one in known.forwarding if one not in rows))


def _places(
    host: Host, wish: ForwardingWish, record: Record, kept: Iterable[Forwarding] = ()
) -> Iterator[tuple[int, str]]:
    """Yield (family, link) that a wish means; a family that is not there is left out when both are meant.

    `kept` are rows whose link may be gone. The bridge of an interface means the interface.
    """
    gone = {(row.family, row.link) for row in kept if row.link}
    bridges = {network.bridge: network for network in record.networks.values() if not network.adopted}
    families = [family for family in wish.families if read_sysctl(SWITCHES[family]) is not None]
    if not families:
        missing = SWITCHES[wish.families[0]]
        raise Unsupported("forwarding", f"cannot read sysctl {missing}: there is none", hint="mount -t proc proc /proc")
    named = known_links(host, wish.links, {link for _, link in gone})
    for network in (bridges[one] for one in named if one in bridges):
        if not network.is_lan:
            raise Refused(
                f"link {network.bridge} is the bridge of network {network.name}, which forwards by it what it needs",
                users=(f"network {network.name}",),
            )
    for link in dict.fromkeys(bridges[one].nic if one in bridges else one for one in named) or ("",):
        here = [one for one in families if not link or link in forwarding_links(one) or (one, link) in gone]
        if not here:
            raise Refused(f"link {link} has no {' or '.join(f'IPv{one}' for one in families)}")
        if link and 6 in here and not host.outlook.facts.force_forwarding:
            raise Unsupported(
                "force_forwarding",
                f"cannot switch IPv6 forwarding of {link} alone: this kernel has no force_forwarding (Linux 6.17)",
                hint="-4 leaves IPv6 alone; without --link, `isthmus forwarding on -6` is for all links",
            )
        for family in here:
            yield family, link


def _check_boot() -> None:
    """Refuse to write for a boot what a boot would do to another network namespace."""
    if boots_elsewhere():
        raise Refused(
            f"cannot keep forwarding for the next boot: it reads {OWN_FILE} for the network namespace of PID 1",
            hint="without --persist it is switched here; for the host, say it in the host's namespace",
        )


def _check_link() -> None:
    """Refuse to take a symbolic link for our file, wherever it leads: one to /dev/null masks the name."""
    target = link_target(OWN_FILE)
    if target is not None:
        masks = ", which masks the name" if target == "/dev/null" else ""
        raise Refused(
            f"{OWN_FILE} is not ours: it is a symbolic link to {target}{masks}",
            hint="give the link another name, or remove it",
        )


def _check_file() -> None:
    if not is_ours(read_text(OWN_FILE)):
        raise Refused(f"{OWN_FILE} is not ours: it does not begin as we do", hint="give it another name")


def _check_owner(before: Forwarding | None, owner: str) -> None:
    """Refuse to change what another declaration, or a command, asked for."""
    if before is None or before.owner == owner:
        return
    if before.owner:
        raise Refused(
            f"{called(before.family, before.link)} belongs to declaration {before.owner}",
            users=(before.owner,),
            hint=f"say it in its file, or isthmus down {before.owner}",
        )
    raise Refused(
        f"{called(before.family, before.link)} belongs to nobody (a command asked for it), not to declaration {owner}",
        hint="isthmus forwarding off --persist",
    )


# On


def wished_rows(host: Host, wishes: Iterable[ForwardingWish], record: Record, owner: str = "") -> dict[str, Forwarding]:
    """Return the rows that wishes come to, by id.

    Raises:
        Refused, NotFound, Unsupported: they cannot be had.
    """
    rows: dict[str, Forwarding] = {}
    for wish in wishes:
        for family, link in _places(host, wish, record):
            row = Forwarding(family=family, link=link, persist=wish.persist, owner=owner)
            before = record.forwarding.get(row.id)
            if before is not None and not owner:
                row = before.replace(now=True, persist=before.persist or wish.persist)
            if family == 6 and not link:
                uplinks = host.outlook.facts.learned6.union(before.uplinks if before is not None else ())
                row = row.replace(uplinks=tuple(sorted(uplinks)))
            if row != before:
                _check_owner(before, owner)
            if wish.persist and row != before:
                _check_boot()
            if row.persist:
                _check_link()
                _check_file()
            rows[row.id] = row
    return rows


def _not_reached(wish: ForwardingWish) -> tuple[str, ...]:
    """Say which links a switch that is on already does not reach: only a change of it is copied to them."""
    if wish.links or 4 not in wish.families or read_sysctl(SWITCHES[4]) != "1":
        return ()
    off = [link for link in forwarding_links(4) if read_sysctl(link_switch(4, link)) == "0"]
    why = "isthmus forwarding on --link LINK switches one on"
    return (f"IPv4 forwarding was on already, and stays off on {', '.join(off)}: {why}",) if off else ()


# Off


def _again(places: Iterable[tuple[int, str]], record: Record) -> Iterator[str]:
    """Say which files switch on again at the next boot what is switched off now."""
    boot = next_boot(record)
    for family, link in places:
        value, line = boot.get(_switch(family, link), ("0", None))
        if value == "1" and line is not None:
            ends = ": --persist ends that" if line.path == OWN_FILE else ""
            yield f"the next boot switches {called(family, link)} on again ({line.path}:{line.line}){ends}"


def _off(host: Host, wish: ForwardingWish, known: Record, record: Record) -> _Course:
    places, notes = list(_places(host, wish, record, kept=record.forwarding.values())), list[str]()
    rows = dict(record.forwarding)
    for family, link in places:
        row = rows.pop(Forwarding(family=family, link=link).id, None)
        _check_owner(row, "")
        if row is not None and row.persist and wish.persist:
            _check_link()
        if row is not None and row.persist and not wish.persist:
            rows[row.id] = row.replace(now=False)
    notes += _again(places, record.replace(forwarding=rows))
    needed = needs(host, record.replace(forwarding=rows))
    drops: list[tuple[str, str]] = []
    taken: list[Borrowed] = []
    for family, link in places:
        switch = _switch(family, link)
        bridges = bridges_of(link, record, host.outlook.facts) if link else ()
        names = (switch, *(_switch(family, one) for one in bridges), *(() if link else _rest(family, record)))
        had = Forwarding(family=family, link=link).id in record.forwarding
        own = names if link else (switch,)
        users = tuple(dict.fromkeys(user for name in own for user in needed.get(name, ())))
        _check_needed(family, link, users, had=had, notes=notes)
        is_foreign = bool(link) or (switch not in record.borrowed and read_sysctl(switch) == "1")
        for name in names:
            if name in needed:
                continue
            taken += _foreign(name, record) if is_foreign else ()
            if name in record.borrowed or any(one.name == name for one in taken):
                drops.append(("borrowed", name))
    edit = _edit(known, rows).plus(Edit(drops=tuple(drops)))
    dropped = tuple(("forwarding", one) for one in record.forwarding.keys() - rows.keys() - known.forwarding.keys())
    return _Course(record=record, edit=edit.plus(Edit(drops=dropped)), taken=tuple(taken), notes=tuple(notes))


def _check_needed(family: int, link: str, users: tuple[str, ...], *, had: bool, notes: list[str]) -> None:
    """Refuse to switch off what others need; what was asked for and is asked for no more stays on for them."""
    if users and not had:
        hint = "remove it first, or take its way out: isthmus network rm, isthmus down"
        raise Refused(f"cannot switch {called(family, link)} off: {', '.join(users)} needs it", users=users, hint=hint)
    if users:
        notes.append(f"{called(family, link)} stays on: {', '.join(users)} needs it")
    if link in forwarding_links(6) and family == 6 and read_sysctl(SWITCHES[6]) == "1":
        raise Refused(
            f"cannot switch {called(6, link)} off alone: {SWITCHES[6]} is 1, which is for all links",
            hint="isthmus forwarding off -6; -4 leaves IPv6 alone",
        )


def _rest(family: int, record: Record) -> Iterator[str]:
    """Yield what goes with a family's global switch: its copies, and accept_ra where we changed it."""
    for name in dict.fromkeys((*read_copies(), *record.borrowed)):
        if copied_family(name) == family or (family == 6 and name.endswith("/accept_ra")):
            yield name


def _foreign(name: str, record: Record) -> Iterator[Borrowed]:
    """Yield the row by which what somebody else switched on is given back as off."""
    row = record.borrowed.get(name)
    is_ours = row is not None and row.before != row.gave
    if not is_ours and forwards(name) and read_sysctl(name) == "1":
        yield Borrowed(name=name, before="0", gave="1")
