"""The static rulesets and what the code says of them."""

import os
import re
from hashlib import blake2s
from pathlib import Path

import pytest

import isthmus
from isthmus.kernel import ruleset
from isthmus.model.ruleset import FAMILIES, RULESET, SETS

PLANNER = Path(isthmus.__file__).parent / "planner"
TEXTS = {family: (PLANNER / name).read_text() for family, name in FAMILIES.items()}


def test_the_version_is_the_hash_of_the_texts() -> None:
    assert blake2s("".join(TEXTS.values()).encode(), digest_size=8).hexdigest() == RULESET


def test_a_text_declares_the_table_of_its_family() -> None:
    for family, text in TEXTS.items():
        assert re.findall(r"^table (.*) \{$", text, re.M) == [f"{family} isthmus"]


def test_the_sets_are_declared_as_the_code_knows_them() -> None:
    declared = {}
    for family, text in TEXTS.items():
        for kind, name, types, rest in re.findall(r"^\t(set|map) (\w+)\s+\{ type ([^;]+);(.*?)\}", text, re.M):
            key, _, data = types.partition(":")
            declared[name] = (
                tuple(part.strip() for part in key.split(".")),
                tuple(part.strip() for part in data.split(".")) if kind == "map" else (),
                "flags interval" in rest,
                family,
            )
    assert declared == {name: (kind.key, kind.data, kind.interval, kind.family) for name, kind in SETS.items()}


def test_an_interrupt_just_after_nft_has_ended_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = os.waitpid

    def interrupted(pid: int, options: int) -> tuple[int, int]:
        wait(pid, options)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "waitpid", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ruleset._feed("/bin/true", (), b"", None)
