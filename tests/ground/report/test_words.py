"""A run in words."""

from typing import Any

import pytest
from ledger_lines import BEFORE, event, step

from pipeline.ground.history import History
from pipeline.ground.report import words

NOW = 1e9


def told(*events: dict[str, Any]) -> list[str]:
    shown, _ = words.incidents(History().read([*BEFORE, *events]))
    return [f"{incident.weight}: {incident.text}" for incident in shown[1:]]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [event("resume", 11.0, 10) | {"wall": 1090.0}],
            "warning: Outage without notice at step 30: resumed from step 10 after 1 min; 20 steps computed again",
        ),
        (
            [event("resume", 7231.0, 30) | {"wall": 1090.0}],  # a simulated clock; it was dark
            "warning: Outage without notice at step 30: resumed from step 30 after 2 h; nothing lost",
        ),
        (
            [event("spike", 31.0, 30, reason="loss 2.486 at step 29, before it 1.874")],
            "info: Stood out, and was the same when computed again: loss 2.486 at step 29, before it 1.874",
        ),
        (
            [event("stopped", 31.0, 30, notice="SIGTERM"), event("resume", 31.0, 30)],
            "info: Resumed at step 30 after a stop of 0 s; nothing lost",
        ),
        (
            [event("stopped", 31.0, 30, notice="SIGTERM"), event("resume", 31.0, 30, config_found="damaged")],
            "warning: Resumed at step 30 after a stop of 0 s; nothing lost; config.yaml was damaged, and made anew",
        ),
        (
            [event("stopped", 31.0, 30, notice="SIGTERM"), event("resume", 31.0, 30, tokenizer_found="lost")],
            "warning: Resumed at step 30 after a stop of 0 s; nothing lost; tokenizer.json was lost",
        ),
        (
            [event("resume", 30.0, 30, changed={"satellite.array.area_m2": [2.0, 1.2], "mission.policy": ["a", "b"]})],
            "warning: Outage without notice at step 30: resumed from step 30 after 0 s; nothing lost; "
            "with other satellite.array.area_m2 and mission.policy",
        ),
        (
            [event("resume", 30.0, 30, changed={f"gpu.{i}": [0, 1] for i in range(20)}, changed_more=2)],
            "warning: Outage without notice at step 30: resumed from step 30 after 0 s; nothing lost; "
            "with other gpu.0, gpu.1, gpu.2, gpu.3, gpu.4, gpu.5, gpu.6, gpu.7 and 14 more",
        ),
        (
            [event("mode", 31.0, 30, mode="OFF", reason="SAFE: telemetry is 200 s old")],
            "bad: Watchdog switched the GPU off: telemetry is 200 s old",
        ),
        (
            [event("quarantined", 31.0, 30, checkpoint=20, reason="data/0: content differs")],
            "bad: Checkpoint 20 was damaged, and set aside: data/0: content differs",
        ),
        (
            [event("save_failed", 31.0, 30, checkpoint=30, reason="disk full")],
            "bad: Checkpoint 30 could not be saved: disk full",
        ),
        ([event("skipped", 31.0, 30, steps=2)], "warning: Updates skipped, because loss or gradient was not finite: 2"),
        (
            [event("cooldown", 31.0, 30, start=30, end=50)],
            "info: The learning rate begins to fall; it is to reach zero at step 50",
        ),
        (
            [event("corruption", 31.0, 30, reason="step 29 differs", found_by="replay")],
            "warning: Silent corruption, found by replay: step 29 differs",
        ),
        (
            [event("quarantined", 31.0, 30, checkpoint=20, reason="SEAL: missing", place="mirror")],
            "bad: Checkpoint 20 on the second device was damaged, and set aside: SEAL: missing",
        ),
        (
            [event("repaired", 31.0, 30, checkpoint=20)],
            "good: Checkpoint 20 made whole again from the copy on the other device",
        ),
        ([event("mirror_failed", 31.0, 30, reason="gone")], "warning: Mirror failed: reason gone"),
        ([event("gpu_health", 31.0, 30, ecc_errors=3)], "info: Gpu health: ecc errors 3"),
        ([event("notice", 31.0, 30, kind="UMBRA", seconds_left=9.0, sealed=False)],
         "bad: Notice UMBRA, 9 s left: the state could not be sealed in time"),
        ([event("failed", 31.0, 30, reason="out of memory")], "bad: Failed: out of memory"),
    ],
)  # fmt: skip
def test_each_incident_is_a_sentence(events: list[dict[str, Any]], expected: str) -> None:
    assert told(*events)[-1] == expected


def test_what_goes_on_all_the_time_is_no_incident() -> None:
    quiet = [event("notice", 31.0, 30, kind="UMBRA", seconds_left=9.0, sealed=True), event("scrubbed", 32.0, 30)]
    quiet += [event("mode", 33.0, 30, mode="OFF", reason="umbra reserve"), event("mirrored", 34.0, 30)]
    assert told(*quiet) == []


def test_of_many_alike_the_first_and_the_last_are_shown_and_the_rest_are_counted() -> None:
    many = [event("skipped", 31.0 + i, 30 + i, steps=1) for i in range(100)]
    shown, more = words.incidents(History().read([*BEFORE, *many, event("done", 200.0, 130, spent="steps")]))
    skipped = [incident.step for incident in shown if "skipped" in incident.text]
    assert skipped == [*range(30, 40), *range(120, 130)]
    assert more == {"skipped": 80}
    assert shown[-1].weight == "good"


def test_fields_that_are_missing_or_of_another_type_do_not_stop_the_report() -> None:
    for kind in (
        "resume",
        "mode",
        "quarantined",
        "save_failed",
        "delete_failed",
        "skipped",
        "notice",
        "stopped",
        "failed",
        "done",
    ):
        assert isinstance(told(event(kind, 31.0, 30)), list)
        odd = {
            key: [{"a": None}]
            for key in ("reason", "checkpoint", "notice", "spent", "steps", "sealed", "kind", "changed")
        }
        assert isinstance(told(event(kind, 31.0, 30, **odd)), list)


def test_a_long_reason_is_cut() -> None:
    (line,) = told(event("failed", 31.0, 30, reason="x" * 5000))
    assert len(line) < 400


@pytest.mark.parametrize(
    ("events", "wall", "name"),
    [
        ([event("done", 40.0, 40, orbits=3.0, train_wh=100.0)], NOW, "Done"),
        ([event("failed", 40.0, 40, reason="r")], NOW, "Failed"),
        ([event("stopped", 40.0, 40)], NOW, "Stopped"),
        ([], 1031.0, "Under way"),
        ([], 1029.0, "Under way"),  # a clock that is a second behind
        ([], NOW, "Cut short"),
        ([], 1030.0 - 3 * 86400, "Clocks disagree"),
    ],
)
def test_how_the_run_stands(events: list[dict[str, Any]], wall: float, name: str) -> None:
    assert words.standing(History().read([*BEFORE, *events]), wall).name == name


def test_a_finished_run_accounts_for_itself_in_a_sentence() -> None:
    lines = [*BEFORE, event("resume", 11.0, 10), event("done", 40.0, 40, orbits=3.0, train_wh=1908.4)]
    assert words.standing(History().read(lines), NOW).text == (
        "All that was budgeted is done: 40 steps in 3.0 orbits for 1,908 Wh of training. "
        "1 interruption cost 20 steps, computed again; nothing is missing."
    )


def test_a_run_that_ended_before_its_cooldown_did_says_by_how_much() -> None:
    cooldown = event("cooldown", 30.0, 30, start=30, end=50)
    last = step(40, 40.0, 3.0) | {"rate": 0.5}

    def account(end: int, *lines: dict[str, Any]) -> str:
        done = event("done", 40.0, end, orbits=3.0, train_wh=1908.4)
        return words.standing(History().read([*BEFORE, *lines, cooldown, last, done]), NOW).text.partition(
            "training. "
        )[2]

    short = "The budget ended 10 steps short of a learning rate of zero, which had fallen to 50 % of its peak."
    assert account(40) == f"Nothing came in between. {short}"
    assert account(40, event("resume", 11.0, 10)) == f"1 interruption cost 20 steps, computed again. {short}"
    assert account(50) == "Nothing came in between."


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 s"), (2.84, "2.8 s"), (59.6, "1 min"), (61.0, "1 min 1 s"), (3600.0, "1 h"), (17008.0, "4 h 43 min"),
     (1.03e6, "11 d 22 h"), (-5.0, "0 s"), (float("nan"), "an unknown time")],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said
