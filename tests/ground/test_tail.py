"""A ledger read as it grows, damage included."""

import json
import math
import os
import tracemalloc
from pathlib import Path

import pytest

from pipeline.flight.ledger import Ledger
from pipeline.ground.tail import Tail, number


def line(event: str, step: int = 0, **fields: object) -> str:
    return json.dumps({"event": event, "mission_s": 1.5 * step, "step": step, "wall": 100.0 + step} | fields) + "\n"


def test_each_look_gives_what_is_new_and_a_line_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    tail = Tail(path)
    assert list(tail.read()) == []
    path.write_text(line("launch") + line("telemetry", 1))
    assert [event["event"] for event in tail.read()] == ["launch", "telemetry"]
    assert list(tail.read()) == []
    whole = line("done", 2)
    with path.open("a") as file:
        file.write(whole[:20])
    assert list(tail.read()) == []
    assert (tail.lines, tail.damaged) == (2, 1)
    with path.open("a") as file:
        file.write(whole[20:])
    assert [event["event"] for event in tail.read()] == ["done"]
    assert (tail.lines, tail.damaged) == (3, 0)


@pytest.mark.parametrize(
    "damage",
    [
        line("telemetry", 1)[:-9] + "\n",
        "\x00\x00\x00\n",
        '["step"]\n',
        line("telemetry", 1).replace("100", '"').replace("1.5", "NaN"),
        '{"event": "telemetry", "mission_s": "noon", "step": 1, "wall": 3.0}\n',
        '{"event": "telemetry", "mission_s": 1e999, "step": 1, "wall": 3.0}\n',
        '{"event": "telemetry", "mission_s": 1.0, "step": true, "wall": 3.0}\n',
        '{"event": 5, "mission_s": 1.0, "step": 1, "wall": 3.0}\n',
        line("step", 1),  # has no `at`
        line("sealed", 1, checkpoint=None),
        line("telemetry", -1),
        line("cooldown", 1, start=5),
        "[" * 5000 + "\n",
        line("telemetry", 1, mission_s=10**400),
        line("telemetry", 1, mission_s=1e308),  # a number, and no mission second
        line("telemetry", 1, wall=-1e18),
        line("step", 1, at=10**13),
        line("telemetry", 1).replace('"step": 1', f'"step": {10**400}'),
    ],
)
def test_a_line_that_says_nothing_is_passed_over_and_counted(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(line("launch") + damage + line("done", 2))
    tail = Tail(path)
    assert [event["event"] for event in tail.read()] == ["launch", "done"]
    assert (tail.lines, tail.damaged) == (3, 1)


def test_a_line_that_does_not_match_its_checksum_is_damaged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("step", at=10, loss=2.5)
    ledger.append("step", at=20, loss=2.25)
    ledger.close()
    tail = Tail(tmp_path / "ledger.jsonl")
    events = list(tail.read())
    assert [event["loss"] for event in events] == [2.5, 2.25]
    assert "crc" not in events[0]
    text = (tmp_path / "ledger.jsonl").read_text()
    (tmp_path / "ledger.jsonl").write_text(text.replace("2.25", "2.65"))  # one bit
    tail = Tail(tmp_path / "ledger.jsonl")
    assert [event["loss"] for event in tail.read()] == [2.5]
    assert tail.damaged == 1


def test_bytes_that_are_no_text_and_empty_lines_stop_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line("launch").encode() + b"\xff\xfe\xfd\n\n" + line("done", 2).encode())
    tail = Tail(path)
    assert len(list(tail.read())) == 2
    assert tail.damaged == 1  # the empty line is how a launch ends a torn one


def test_a_line_of_any_length_is_one_damaged_line_and_is_never_held_whole(tmp_path: Path) -> None:
    path, beginning = tmp_path / "ledger.jsonl", line("launch").encode()
    for length in ((1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20, 64 << 20):
        path.write_bytes(beginning)
        os.truncate(path, len(beginning) + length)  # a hole, as a power cut may leave it
        tail = Tail(path)
        tracemalloc.start()
        assert [event["event"] for event in tail.read()] == ["launch"]
        with path.open("ab") as file:
            file.write(b"\n" + line("done", 2).encode())
        assert [event["event"] for event in tail.read()] == ["done"], length
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (tail.lines, tail.damaged) == (3, 1), length
        assert peak < 16 << 20
        assert list(tail.read()) == []


def test_another_file_in_its_place_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text(line("launch") + line("done", 5))
    tail = Tail(path)
    list(tail.read())
    before = tail.state
    assert not tail.replaced
    path.write_text(line("launch"))
    assert tail.replaced
    assert tail.state != before


def test_a_file_that_goes_while_it_is_looked_at_has_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda _: True)  # as it was a moment before
    tail = Tail(tmp_path / "ledger.jsonl")
    assert tail.state == ""
    assert not tail.replaced
    assert list(tail.read()) == []


def test_only_finite_numbers_are_numbers() -> None:
    assert number(3) == 3.0
    for other in (True, "3", None, math.inf, math.nan, [3], 10**400):
        assert math.isnan(number(other))
