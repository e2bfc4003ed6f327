"""A drill is passed only when everything that it promises is so."""

from typing import Any

import pytest

from pipeline.drill.tally import Control, Corruptions, Tally


def passed(**changes: Any) -> Tally:
    made: dict[str, Any] = {
        "outages": 5,
        "resumed": 5,
        "runs": 2,
        "identical": 2,
        "corruptions": Corruptions(injected=3, detected=2, repaired=1, harmless=1),
        "controls": [Control("kill", "overwrite", 3, 2), Control("bit-flip", "stock", 3, 3)],
    }
    return Tally(**(made | changes))


def test_all_well_is_well() -> None:
    assert passed().well(5)


@pytest.mark.parametrize(
    "changes",
    [
        {"outages": 4, "resumed": 4},
        {"resumed": 4},
        {"identical": 1},
        {"runs": 0, "identical": 0},
        {"sealed_lost": 1},
        {"failures": ["something"]},
        {"corruptions": Corruptions(injected=3, detected=2)},
        {"controls": []},
        {"controls": [Control("kill", "overwrite", 3, 0)]},
        {"controls": [Control("kill", "overwrite", 3, 3), Control("bit-flip", "stock", 3, 0)]},
    ],
    ids=str,
)
def test_one_thing_wrong_is_a_failed_drill(changes: dict[str, Any]) -> None:
    assert not passed(**changes).well(5)


def test_percentiles_are_values_that_were_measured() -> None:
    tally = passed(lost_steps=[0, 10, 20, 30], lost_seconds=[1.5], restart_s=[])
    answer = tally.as_json()
    assert answer["lost_steps"] == {"p50": 20.0, "p99": 30.0, "max": 30.0}
    assert answer["lost_seconds"] == {"p50": 1.5, "p99": 1.5, "max": 1.5}
    assert answer["restart_s"] == {"p50": None, "p99": None}
