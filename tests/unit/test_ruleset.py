"""The static ruleset and what the code says of it."""

import re
from hashlib import blake2s
from pathlib import Path

import isthmus
from isthmus.model.ruleset import RULESET, SETS

SOURCE = Path(isthmus.__file__).parent / "planner" / "ruleset.nft"


def test_the_version_is_the_hash_of_the_text() -> None:
    assert blake2s(SOURCE.read_bytes(), digest_size=8).hexdigest() == RULESET


def test_the_sets_are_declared_as_the_code_knows_them() -> None:
    declared = {}
    for kind, name, types, rest in re.findall(
        r"^\t(set|map) (\w+)\s+\{ type ([^;]+);(.*?)\}", SOURCE.read_text(), re.M
    ):
        key, _, data = types.partition(":")
        declared[name] = (
            tuple(part.strip() for part in key.split(".")),
            tuple(part.strip() for part in data.split(".")) if kind == "map" else (),
            "flags interval" in rest,
        )
    assert declared == {name: (kind.key, kind.data, kind.interval) for name, kind in SETS.items()}
