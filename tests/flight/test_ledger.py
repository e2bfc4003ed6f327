import json
from pathlib import Path

from pipeline.flight.ledger import Ledger, last_of, read_ledger


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
        events = [event["event"] for event in read_ledger(path)]
        assert events[-1] == "resume"
        assert events[:-1] == [
            json.loads(line)["event"] for line in whole[:length].decode().splitlines() if line[-1:] == "}"
        ]
        last_of(path, "cooldown")


def test_the_last_decision_and_the_last_step_are_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for step in range(5):
        ledger.position = lambda step=step: (step * 30.0, step)
        ledger.append("cooldown" if step in (1, 3) else "telemetry", start=step)
    found, last = last_of(tmp_path / "ledger.jsonl", "cooldown")
    assert found is not None
    assert last is not None
    assert (found["start"], found["mission_s"], last["step"]) == (3, 90.0, 4)


def test_a_run_without_a_ledger_has_no_events(tmp_path: Path) -> None:
    assert last_of(tmp_path / "none.jsonl", "cooldown") == (None, None)
    assert list(read_ledger(tmp_path / "none.jsonl")) == []
