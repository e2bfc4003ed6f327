import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.flight.ledger import Ledger, recall
from pipeline.flight.progress import Measured
from pipeline.ground.history import PLANS, History
from pipeline.ground.tail import Tail


def test_a_line_torn_by_a_power_cut_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append("launch")
    ledger.append("cooldown", start=5, end=9)
    ledger.close()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        again = Ledger(path)
        again.append("resume")
        again.close()
        events = [event["event"] for event in Tail(path).read()]
        assert events[-1] == "resume"
        assert events[:-1] == [
            json.loads(line)["event"] for line in whole[:length].decode().splitlines() if line[-1:] == "}"
        ]
        assert not recall(path, "cooldown").damaged


def test_what_must_be_relied_on_is_on_the_medium_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed, told = tmp_path / "ledger.jsonl", [], []
    monkeypatch.setattr("os.fsync", lambda file: flushed.append(path.read_text()))
    ledger = Ledger(path)
    ledger.listener = lambda line: told.append((line["event"], f'{{"event": "{line["event"]}"' in "".join(flushed)))
    for event in ("telemetry", "cooldown", "sealed", "step", "done"):
        ledger.append(event)
    assert told == [("telemetry", False), ("cooldown", True), ("sealed", True), ("step", False), ("done", True)]


def test_the_last_decision_and_the_last_step_are_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for step in range(5):
        ledger.position = lambda step=step: (step * 30.0, step)
        ledger.append("cooldown" if step in (1, 3) else "telemetry", start=step)
    found, last, _ = recall(tmp_path / "ledger.jsonl", "cooldown", "resume")
    assert last is not None
    assert (found["cooldown"]["start"], found["cooldown"]["mission_s"], last["step"]) == (3, 90.0, 4)
    assert "resume" not in found
    assert list(recall(tmp_path / "ledger.jsonl", "cooldown", "telemetry").found) == ["cooldown", "telemetry"]


def test_a_run_without_a_ledger_has_no_events(tmp_path: Path) -> None:
    assert recall(tmp_path / "none.jsonl", "cooldown") == ({}, None, {})
    assert list(Tail(tmp_path / "none.jsonl").read()) == []


def test_a_flipped_bit_in_any_line_costs_that_line_and_never_a_decision(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.append("cooldown", start=5, end=9)
    ledger.append("telemetry", charge_wh=1.5)
    whole = path.read_bytes()
    decision = whole.index(b"\n")
    for at in range(decision + 1, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        assert recall(path, "cooldown").found["cooldown"]["end"] == 9
        assert {event.get("charge_wh", 1.5) for event in Tail(path).read()} == {1.5}


def test_any_flipped_bit_in_a_decision_is_found_and_no_other_decision_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append("cooldown", start=5, end=9, **{"budget.until": "2026-12-24T00:00:00Z"})
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        recalled = recall(path, "cooldown")
        # The newline alone is no part of the line.
        assert recalled.damaged == {"cooldown": 1} or recalled.found["cooldown"]["end"] == 9, bit
        assert recalled.damaged or bit >= 8 * (len(whole) - 1), bit


def test_a_line_without_its_checksum_is_shown_but_never_followed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event": "cooldown", "mission_s": 0.0, "step": 3, "wall": 0.0, "start": 5, "end": 9}\n')
    assert [event["end"] for event in Tail(path).read()] == [9]
    assert recall(path, "cooldown") == ({}, None, {"cooldown": 1})


def test_what_json_cannot_say_is_written_as_null(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("step", loss=float("nan"), grad_norm=float("inf"))
    line = json.loads((tmp_path / "ledger.jsonl").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (line["loss"], line["grad_norm"]) == (None, None)


def test_each_look_ahead_tells_the_report_what_was_measured(uninterrupted: Path) -> None:
    plans = History().read(Tail(uninterrupted / "ledger.jsonl").read()).plans
    assert len(plans) > 1
    assert set(PLANS) == {"planned_steps", *Measured._fields}
    assert all(np.isfinite(plans[name]).all() for name in PLANS)
