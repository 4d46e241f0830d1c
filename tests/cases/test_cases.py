"""Each folder is a case: the plan from `current.json` to `desired.json` is `plan.txt`.

`pytest tests/cases --update` writes `plan.txt` anew; its diff is reviewed like code.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cases.codec import load_state, plan_text, save_state

from isthmus.model.host import HostState
from isthmus.planner.diff import diff

ROOT = Path(__file__).parent
CASES = sorted(path.parent.name for path in ROOT.glob("*/current.json"))


def state(case: str, name: str) -> HostState:
    return load_state(json.loads((ROOT / case / name).read_text()))


@pytest.mark.parametrize("case", CASES)
def test_plan(case: str, request: pytest.FixtureRequest) -> None:
    found = plan_text(diff(state(case, "current.json"), state(case, "desired.json")))
    expected = ROOT / case / "plan.txt"
    if request.config.getoption("--update"):
        expected.write_text(found)
    assert found == expected.read_text()


@pytest.mark.parametrize("case", CASES)
def test_no_plan_leads_from_a_state_to_itself(case: str) -> None:
    assert plan_text(diff(state(case, "desired.json"), state(case, "desired.json"))) == ""


@pytest.mark.parametrize("case", CASES)
def test_a_state_is_written_as_it_was_read(case: str) -> None:
    for name in ("current.json", "desired.json"):
        assert load_state(save_state(state(case, name))) == state(case, name)


def test_there_are_cases() -> None:
    assert len(CASES) >= 12
    assert not [path for path in ROOT.iterdir() if path.is_dir() and path.name not in (*CASES, "__pycache__")]
