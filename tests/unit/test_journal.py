"""Tests of store/lock.py and store/journal.py: what a call is about to do, beside what waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.model.network import Namespace, Record
from isthmus.store.edit import Edit
from isthmus.store.journal import APPLYING, LEAVING, Entry, begin, entries, forget_host, settle
from isthmus.store.lock import Lock, read_begun
from isthmus.store.sqlite import Database

NOTHING = Record.empty(), Record.empty()
EDIT = Edit(puts=(Namespace(id="a", path="/run/netns/a", cookie=7),))

NO_NETWORK = Edit(drops=(("networks", "br0"),))


class Store:
    """A state directory, its lock held."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder)
        folder.chmod(0o700)
        self.lock = Lock(self.path)
        self.lock.take()
        self.db = Database(self.path, writable=True)

    def begin(self, verb: str, edit: Edit = EDIT, phase: str = APPLYING) -> Entry:
        entry = Entry(id=0, verb=verb, phase=phase, host=False, namespaces=frozenset({"a"}), edit=edit)
        begin(self.db, self.lock, entry, ())
        return entry

    def settle(self, entry: Entry) -> None:
        settle(self.db, self.lock, entry, entry.edit, NOTHING, {}, (), 0.0)

    def entries(self) -> list[Entry]:
        self.lock.take()  # as the next holder reads it
        return entries(self.db, self.lock.left, 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.db.close()
    made.lock.close()


def test_what_is_begun_is_found_until_it_is_settled(store: Store) -> None:
    entry = store.begin("attach")
    assert store.entries() == [entry]
    assert store.db.rows("namespaces") == {}
    store.settle(entry)
    assert store.entries() == []
    assert list(store.db.rows("namespaces")) == ["a"]


def test_a_shorter_entry_after_a_longer_one_is_whole(store: Store) -> None:
    store.settle(store.begin("attach", Edit(puts=tuple(EDIT.puts[0].replace(id=f"n{n}") for n in range(500)))))
    entry = store.begin("detach", Edit(drops=(("namespaces", "a"),)), LEAVING)
    assert store.entries() == [entry]


def test_a_change_that_is_left_unsettled_is_not_lost_to_the_next_one(store: Store) -> None:
    first = store.begin("attach")
    second = store.begin("publish")
    found = store.entries()
    assert [one.replace(id=0) for one in found] == [first, second]
    for one in found:
        store.settle(one)
    assert store.entries() == []


def test_who_only_reads_sees_what_a_dead_call_began_and_leaves_a_living_one_alone(store: Store) -> None:
    store.begin("attach")
    assert read_begun(store.path) is None
    store.lock.release()
    found = read_begun(store.path)
    store.lock.take()
    assert found is not None
    assert found == store.lock.left


def test_who_holds_the_lock_again_knows_whether_another_one_held_it_between(store: Store) -> None:
    assert store.lock.take()
    store.lock.release()
    other = Lock(store.path)
    assert not other.take()
    other.close()
    assert not store.lock.take()
    assert store.lock.take()


def test_what_is_kept_of_a_table_is_read_again_when_somebody_wrote(store: Store) -> None:
    assert (store.db.has("namespaces"), store.db.seldom("namespaces")) == (False, {})
    store.settle(store.begin("attach"))
    assert (store.db.has("namespaces"), list(store.db.seldom("namespaces"))) == (True, ["a"])
    other = Database(store.path, writable=True)
    other.run("DELETE FROM namespaces")
    other.close()
    store.db.look_again()
    assert (store.db.has("namespaces"), store.db.seldom("namespaces")) == (False, {})


def test_nothing_is_known_of_a_boot_that_ended_while_a_change_waited(store: Store) -> None:
    entry = store.begin("network create")
    settle(store.db, store.lock, entry, EDIT, NOTHING, {"carried": b"much"}, (), 0.0, (NO_NETWORK, 60.0))
    assert store.db.all_meta()["carried"] == b"much"
    forget_host(store.db, store.lock, "another", 7, ())
    assert store.db.all_meta() == {"boot_id": "another", "cookie": 7, "journal": None, "runs": 0}
