"""The global switches: what a write of one does to links is planned, said, borrowed and given back."""

from __future__ import annotations

from isthmus.model.host import HostState, Sysctl
from isthmus.model.network import Borrowed, Forwarding, Record
from isthmus.model.plan import Change, Plan
from isthmus.model.switches import copied_family, overwritten, put_back
from isthmus.planner.borrowing import give_back, returned, to_borrow
from isthmus.planner.desired import Scope, desired
from isthmus.planner.diff import diff
from isthmus.planner.forwarding import Facts, spread
from isthmus.planner.script import script

SWITCH = "net/ipv4/ip_forward"
DEFAULT = "net/ipv4/conf/default/forwarding"
ETH0 = "net/ipv4/conf/eth0/forwarding"
LAN0 = "net/ipv4/conf/lan0/forwarding"
REDIRECTS = "net/ipv4/conf/all/accept_redirects"
BEFORE = {SWITCH: "0", REDIRECTS: "1", DEFAULT: "0", ETH0: "0", LAN0: "1"}
ON = {SWITCH: "1", REDIRECTS: "0", DEFAULT: "1", ETH0: "1", LAN0: "1"}
FACTS = Facts(copies=(REDIRECTS, DEFAULT, ETH0, LAN0))
SCOPE = Scope(host=True, namespaces=frozenset())
EMPTY = Record.empty()
WISHED = EMPTY.replace(forwarding={"4": Forwarding(family=4)})


def state(values: dict[str, str]) -> HostState:
    items = [Sysctl(name=name, value=value, borrowed=True) for name, value in values.items()]
    return {item.key: item for item in items}


def planned(old: Record, new: Record, values: dict[str, str], facts: Facts = FACTS) -> tuple[Plan, HostState]:
    """Plan as `Host` does."""
    current, wanted = state(values), desired(new, SCOPE, facts)
    spread(current, wanted, new)
    give_back(current, wanted, (old, new), facts)
    return diff(current, wanted), wanted


def changes(plan: Plan) -> dict[str, str]:
    assert all(isinstance(step, Change) for step in plan.steps)
    return {step.item.name: step.item.value for step in plan.steps if isinstance(step.item, Sysctl)}


def borrowed(plan: Plan) -> dict[str, tuple[str, str]]:
    return {row.name: (row.before, row.gave) for row in to_borrow(plan, EMPTY, WISHED, FACTS)}


def lent(plan: Plan, record: Record) -> Record:
    return record.replace(borrowed={row.name: row for row in to_borrow(plan, EMPTY, WISHED, FACTS)})


def test_what_the_switch_does_to_links_is_planned_after_it() -> None:
    plan, _ = planned(EMPTY, WISHED, BEFORE)
    assert list(changes(plan)) == [SWITCH, REDIRECTS, DEFAULT, ETH0]
    assert plan.kept == (Sysctl(name=LAN0, value="1", borrowed=True),)


def test_all_of_it_is_borrowed_and_what_stays_too() -> None:
    plan, _ = planned(EMPTY, WISHED, BEFORE)
    assert borrowed(plan) == {name: (BEFORE[name], ON[name]) for name in BEFORE}


def test_off_gives_each_link_what_it_had() -> None:
    plan, _ = planned(EMPTY, WISHED, BEFORE)
    record = lent(plan, WISHED)
    back, wanted = planned(record, record.replace(forwarding={}), ON)
    assert {**ON, **changes(back)} == BEFORE
    gone = returned(record.replace(forwarding={}), wanted, back, host=True, left=frozenset(), renamed={})
    assert {name for _, name in gone} == set(BEFORE)


def test_a_link_that_came_since_goes_off_with_default() -> None:
    plan, _ = planned(EMPTY, WISHED, BEFORE)
    record = lent(plan, WISHED)
    new = "net/ipv4/conf/new0/forwarding"
    facts = FACTS.replace(copies=(*FACTS.copies, new))
    back, _ = planned(record, record.replace(forwarding={}), {**ON, new: "1"}, facts)
    assert changes(back)[new] == "0"


def test_what_somebody_switched_since_is_theirs() -> None:
    plan, _ = planned(EMPTY, WISHED, BEFORE)
    record = lent(plan, WISHED)
    back, _ = planned(record, record.replace(forwarding={}), {**ON, ETH0: "0"})
    assert ETH0 not in changes(back)


def test_a_link_is_covered_while_all_forward_unless_an_edit_says_so() -> None:
    record = WISHED.replace(borrowed={ETH0: Borrowed(name=ETH0, before="0", gave="1")})
    assert changes(planned(record, record, ON)[0]) == {}
    assert changes(planned(record, record.replace(borrowed={}), ON)[0]) == {ETH0: "0"}


def test_a_link_that_is_switched_off_later_is_no_drift() -> None:
    assert changes(planned(WISHED, WISHED, {**ON, ETH0: "0"})[0]) == {}


def test_strangers_keep_it_on_when_it_is_not_taken_back_by_name() -> None:
    plan, _ = planned(EMPTY, WISHED, BEFORE)
    record = lent(plan, WISHED)
    busy = FACTS.replace(strangers=("tun link tun0",))
    assert changes(planned(record, record.replace(forwarding={}), ON, busy)[0]) == {}
    assert changes(planned(record, EMPTY, ON, busy)[0]) == changes(
        planned(record, record.replace(forwarding={}), ON)[0]
    )


def test_scripts_write_the_switch_and_only_what_it_does_not_do() -> None:
    plan, _ = planned(EMPTY, WISHED, BEFORE)
    assert script(plan, {}, {}).splitlines()[2:] == [f"sysctl --write {SWITCH}=1"]
    assert script(plan.undo(), {}, {}).splitlines()[2:] == [f"sysctl --write {SWITCH}=0", f"sysctl --write {LAN0}=1"]


def test_ipv6s_switch_ends_forced_links_when_it_goes_off() -> None:
    name = "net/ipv6/conf/eth0/force_forwarding"
    assert overwritten(name, {6: "0"}) == "0"
    assert overwritten(name, {6: "1"}) is None
    assert overwritten(name, {4: "0"}) is None
    kept = Sysctl(name=name, value="1", borrowed=True)
    off = Sysctl(name="net/ipv6/conf/all/forwarding", value="0", borrowed=True)
    assert list(put_back(Plan(steps=(Change(before=off.replace(value="1"), item=off),), kept=(kept,)), off)) == [kept]


def test_what_is_copied_of_a_switch() -> None:
    assert [copied_family(name) for name in (ETH0, REDIRECTS, SWITCH, "net/ipv4/conf/all/forwarding")] == [4, 4, 0, 0]
    assert copied_family("net/ipv6/conf/all/forwarding") == copied_family("net/ipv6/conf/eth0/force_forwarding") == 0
    assert copied_family("net/ipv6/conf/eth0/forwarding") == 6
