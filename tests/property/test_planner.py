"""A plan leads from one state to the other, its undo back; allocation; scripts of odd names; rows of the record."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.property.objects import JOINED, ROWS, STATES, TEXT, address, prefix

from isthmus.errors import Refused, StoreError
from isthmus.model.address import Address, Prefix
from isthmus.model.host import (
    HOST,
    Bridge,
    Element,
    File,
    HostObject,
    HostState,
    LinkAddress,
    Process,
    Route,
    Ruleset,
    Symlink,
    Veth,
)
from isthmus.model.network import Publish, Record, Row
from isthmus.model.plan import Add, Change, Plan, Remove
from isthmus.model.ruleset import SETS
from isthmus.planner.desired import EVERYTHING, desired
from isthmus.planner.diff import diff
from isthmus.planner.firewall import record_elements
from isthmus.planner.forwarding import Facts
from isthmus.planner.ipam import allocate, first_free_ifname, free_prefix, ula_prefix
from isthmus.planner.script import script
from isthmus.store.edit import Edit
from isthmus.store.schema import ENCODE, KEYS, UPSERT, decode_row, kind_of
from isthmus.store.sqlite import Database


def applied(plan: Plan, state: HostState) -> HostState:
    """Do the steps on a copy as the kernel would: what hangs on a thing goes with it, and nothing is made twice."""
    state = dict(state)
    for step in plan.steps:
        match step:
            case Add():
                assert step.item.key not in state
                state[step.item.key] = step.item
            case Change():
                assert state[step.item.key] == step.before
                if isinstance(step.item, Veth) and isinstance(step.before, Veth) and step.item.netns != HOST:
                    assert step.item.peer_netns == step.before.peer_netns  # no end of a pair moves
                if isinstance(step.item, Ruleset):
                    state = {key: item for key, item in state.items() if not is_in(item, step.item)}
                state[step.item.key] = step.item
            case Remove():
                assert state.pop(step.item.key) == step.item
                for item in step.falling:
                    assert state.pop(item.key) == item
    return state


def ends(state: HostState) -> list[tuple[str, str]]:
    pairs = [item for item in state.values() if isinstance(item, Veth)]
    return [end for item in pairs for end in ((item.netns, item.name), (item.peer_netns, item.peer_name))]


def loose_ends(state: HostState) -> bool:
    """Tell a state that no kernel has: two links of one name in one place."""
    return len(ends(state)) != len(set(ends(state)))


@given(STATES)
def test_equal_states_need_nothing(state: HostState) -> None:
    assert diff(state, state) == Plan()
    assert diff(state, dict(reversed(state.items()))) == Plan()


@settings(max_examples=300)
@given(STATES, STATES)
def test_a_plan_leads_to_the_other_state_and_its_undo_back(one: HostState, other: HostState) -> None:
    assume(not loose_ends(one) and not loose_ends(other))
    plan = diff(one, other)
    assert applied(plan, one) == other
    assert applied(plan.undo(), other) == one
    assert diff(applied(plan, one), other) == Plan()


@settings(max_examples=300)
@given(JOINED, JOINED)
def test_links_that_swap_ends_names_and_addresses_are_in_each_others_way_at_no_step(one: Record, other: Record) -> None:
    state, wanted = (desired(record, EVERYTHING, Facts(resolver=None)) for record in (one, other))
    for step in diff(state, wanted).steps:
        state = applied(Plan(steps=(step,)), state)
        assert not loose_ends(state)
        links = set(ends(state)) | {(HOST, item.name) for item in state.values() if isinstance(item, Bridge)}
        assert {(item.netns, item.ifname) for item in state.values() if isinstance(item, LinkAddress | Route)} <= links
    assert state == wanted


@given(JOINED, st.booleans(), st.booleans(), st.booleans())
def test_what_sets_ought_to_hold_is_what_is_desired_of_them(
    record: Record, isolated: bool, adopted: bool, frames: bool
) -> None:
    networks = [one.replace(isolate_ports=isolated, adopted=adopted) for one in record.networks.values()]
    rows = [
        Publish(id=f"80 {name}", namespace=name, host=None, host_port=80, port=80, protocol="tcp")
        for name in record.namespaces
    ]
    record = record.replace(networks={one.name: one for one in networks}, publishes={one.id: one for one in rows})
    wanted = desired(record, EVERYTHING, Facts(resolver=None, bridge_table=frames))
    found = {one.key: one for _, one in record_elements(record, frames=frames)}
    assert found == {key: one for key, one in wanted.items() if isinstance(one, Element)}


@given(STATES, STATES)
def test_one_change_gives_one_plan(one: HostState, other: HostState) -> None:
    assert diff(one, other) == diff(dict(one), dict(other))


@settings(max_examples=300)
@given(STATES, STATES)
def test_drops_come_before_links_and_go_after_them(one: HostState, other: HostState) -> None:
    steps = diff(one, other).steps
    kinds = ["gone" if isinstance(step, Remove) else "come" for step in steps]
    assert kinds == sorted(kinds, reverse=True)
    for here, step in enumerate(steps):
        later = [one for one in steps[here + 1 :] if type(one) is type(step)]
        if isinstance(step, Add) and isinstance(step.item, Bridge | Veth):
            assert not any(isinstance(one.item, Ruleset) or is_drop(one.item) for one in later)
        if isinstance(step, Remove) and (isinstance(step.item, Ruleset) or is_drop(step.item)):
            assert not any(isinstance(one.item, Bridge | Veth | LinkAddress | Route) for one in later)


def is_in(item: HostObject, table: Ruleset) -> bool:
    return isinstance(item, Element) and SETS[item.name].family == table.family


def is_drop(item: HostObject) -> bool:
    return isinstance(item, Element) and (item.name.startswith("closed") or item.name == "apart")


# Allocation


@given(st.data())
def test_an_address_is_free_and_one_that_a_host_may_have(data: st.DataObject) -> None:
    subnet = data.draw(prefix(4, 20) | prefix(6, 110))
    hosts = subnet.hosts
    gateway = data.draw(st.none() | st.sampled_from(hosts[:300]).map(subnet.address))
    taken = data.draw(st.sets(st.sampled_from(hosts[:50])))
    last = data.draw(st.none() | address(subnet.family) | st.sampled_from(hosts[-50:]).map(subnet.address))
    free = set(hosts[:400]) - taken - ({gateway.number} if gateway else set())
    assume(free)
    found = allocate(subnet, gateway, last, lambda low, high: {one for one in taken if low <= one <= high})
    assert found in subnet
    assert found.number in hosts
    assert found.number not in taken
    assert found != gateway


@given(st.data())
def test_the_last_free_address_is_found_and_none_is_refused(data: st.DataObject) -> None:
    subnet = data.draw(prefix(4, 21) | prefix(6, 117))
    hosts = subnet.hosts
    free = data.draw(st.sampled_from(hosts))
    last = data.draw(st.none() | st.sampled_from(hosts).map(subnet.address))
    taken = set(hosts) - {free}
    assert allocate(subnet, None, last, lambda _low, _high: taken) == subnet.address(free)
    with pytest.raises(Refused, match="full"):
        allocate(subnet, subnet.address(free), last, lambda _low, _high: taken)


def test_addresses_are_given_in_turn_and_go_round() -> None:
    subnet, taken = Prefix.parse("10.0.0.0/29"), {Address.parse("10.0.0.3").number}
    last: Address | None = None
    turn = []
    for _ in range(6):
        last = allocate(subnet, Address.parse("10.0.0.1"), last, lambda _low, _high: taken)
        turn.append(str(last))
    assert turn == ["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.4"]


@given(st.lists(prefix(4, 18), max_size=6), st.lists(prefix(6, 50), max_size=6), st.binary(min_size=5, max_size=5))
def test_a_chosen_subnet_overlaps_none(used4: list[Prefix], used6: list[Prefix], machine: bytes) -> None:
    used = [*used4, *used6]
    for found in (free_prefix(used), ula_prefix(machine, used)):
        assert not any(found.overlaps(one) for one in used)


@given(st.sets(st.integers(0, 20).map(lambda number: f"eth{number}")))
def test_the_first_free_ifname_is_free(taken: set[str]) -> None:
    found = first_free_ifname(taken)
    assert found not in taken
    assert all(f"eth{number}" in taken for number in range(int(found[3:])))


# Scripts

_ODD = ("$(touch x)", "`touch x`", "a'b", "'; touch x; '", "\\", "-x", "~", "*", "END", "a\nEND\ntouch x", "$HOME", '"')
_HOSTILE = TEXT | st.sampled_from(_ODD)


@settings(max_examples=60)
@given(path=_HOSTILE, content=_HOSTILE, word=_HOSTILE)
def test_words_of_a_script_are_words_whatever_is_in_them(
    tmp_path_factory: pytest.TempPathFactory, path: str, content: str, word: str
) -> None:
    folder = tmp_path_factory.mktemp("script")
    target = folder / f"f{path.encode().hex()}"
    steps = (
        Add(item=File(path=str(target), text=f"{content}\n")),
        Add(item=Symlink(path=str(folder / "link"), target=f"/{word}")),
        Add(item=Process(netns="a", argv=("printf", "%s", word))),
    )
    # `ip` and `setsid` are stood in for: what they are given is written down.
    stub = f'ip() {{ shift 3; "$@"; }}\nsetsid() {{ "$@" > \'{folder}/said\'; }}\n'
    text = script(Plan(steps=steps), {}, {}).replace("< /dev/null > /dev/null 2>&1 &", "")
    done = subprocess.run(["sh", "-e"], input=stub + text, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert target.read_text().rstrip("\n") == content.rstrip("\n")
    assert os.readlink(folder / "link") == f"/{word}"
    assert (folder / "said").read_text() == word
    assert sorted(one.name for one in folder.iterdir()) == sorted((target.name, "link", "said"))


# Rows of the record


@given(ROWS)
def test_a_row_survives_the_journal_and_sql(row: Row) -> None:
    kind = kind_of(row)
    assert decode_row(kind, ENCODE[type(row)](row)) == row
    edit = Edit(puts=(row,), drops=((kind, "x"),))
    assert Edit.decode(edit.encode()) == edit


@settings(max_examples=25)
@given(rows=st.lists(ROWS, max_size=6))
def test_rows_survive_the_state_file(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    folder = str(tmp_path_factory.mktemp("state"))
    kept: dict[str, dict[str, Row]] = {kind: {} for kind in KEYS}
    unique: set[object] = set()
    database = Database(folder, writable=True)
    for row in rows:
        kind = kind_of(row)
        claims = {
            (kind, name, getattr(row, name))
            for name in ("bridge", "host_ifname", "mac")
            if kind != "links" and hasattr(row, name)
        }
        if claims & unique or getattr(row, KEYS[kind]) in kept[kind] or hasattr(row, "host_ifname"):
            continue
        unique |= claims
        database.run(UPSERT[kind], ENCODE[type(row)](row))
        kept[kind][getattr(row, KEYS[kind])] = row
    database.close()
    read = Database(folder, writable=False)
    assert {kind: getattr(read.record(), kind) for kind in KEYS} == kept
    read.close()


@given(st.lists(ROWS, max_size=6))
def test_an_edit_puts_and_drops(rows: list[Row]) -> None:
    record = Edit(puts=tuple(rows)).on(Record.empty())
    drops = tuple((kind_of(row), getattr(row, KEYS[kind_of(row)])) for row in rows)
    assert Edit(drops=drops).on(record) == Record.empty()
    assert Edit(drops=drops, puts=tuple(rows)).on(record) == record


@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_a_torn_journal_entry_is_said(rows: list[Row], data: st.DataObject) -> None:
    blob = Edit(puts=tuple(rows)).encode()
    with pytest.raises(StoreError, match="journal"):
        Edit.decode(blob[: data.draw(st.integers(0, len(blob) - 1))])
