"""What the ledger is told, the tracker tells on: in groups, once, and to nobody outside."""

import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import finish, ledger
from test_scalars import events

from pipeline.config import BadInput, Config
from pipeline.flight.ledger import Ledger
from pipeline.flight.scalars import Scalars
from pipeline.flight.tracker import GROUPS, Tracker, check, make_tracker

LINES: list[tuple[str, dict[str, Any]]] = [
    ("step", {"at": 8, "loss": 2.5, "grad_norm": 0.5, "rate": 1.0, "tokens_per_s": 100.0}),
    ("step", {"at": 9, "loss": float("nan"), "grad_norm": 0.5, "rate": 1.0, "tokens_per_s": 100.0}),
    ("validation", {"loss": 2.75, "bits_per_byte": None, "windows": 30}),
    ("telemetry", {"charge": 0.5, "charge_wh": 500.0, "temperature_c": 40.0, "sunlit": 1.0, "orbit": 3}),
    ("sealed", {"checkpoint": 9, "bytes": 1000, "seconds": 0.25, "blocking_s": 0.125}),
    ("quarantined", {"checkpoint": 9, "reason": "damaged"}),
    ("resume", {"lost_steps": 4}),
]  # fmt: skip


def told(path: Path, tracker: Tracker) -> None:
    written = Ledger(path / "ledger.jsonl")
    written.position = lambda: (60.0, 10)
    written.listener = tracker.hear
    for event, fields in LINES:
        written.append(event, **fields)
    tracker.close()
    written.append("sealed", checkpoint=10, bytes=1, seconds=1.0, blocking_s=1.0)  # a save may end after the tracker
    written.close()


def points(directory: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(directory):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_gets_scalars_in_groups_and_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    told(tmp_path, make_tracker(Config(run_dir=tmp_path), 0, pytest.fail))
    found = points(tmp_path / "tensorboard")
    assert {tag.split("/")[0] for tag in found} == {group for group, _ in GROUPS.values()}
    assert found["train/loss"] == [(8, 2.5)]
    assert found["train/grad_norm"] == [(8, 0.5), (9, 0.5)]
    assert found["validation/loss"] == [(10, 2.75)]
    assert "validation/bits_per_byte" not in found
    assert found["mission/charge_wh"] == [(10, 500.0)]
    assert found["mission/lost_steps"] == [(10, 4.0)]
    assert found["checkpoint/seconds"] == [(10, 0.25)]


def test_none_writes_nothing(tmp_path: Path) -> None:
    told(tmp_path, make_tracker(Config(run_dir=tmp_path, train={"tracker": "none"}), 0, pytest.fail))
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]


class Failing:
    """Fails at one of what is asked of it."""

    def __init__(self, at: str):
        self.at, self.asked = at, list[str]()
        self.ask("make")

    def ask(self, what: str) -> None:
        self.asked.append(what)
        if what == self.at:
            raise RuntimeError(f"{what}:\n  no")

    def add(self, step: int, values: dict[str, float]) -> None:
        self.ask("add")

    def close(self) -> None:
        self.ask("close")


@pytest.mark.parametrize("at", ["make", "add", "close"])
def test_a_tracker_that_fails_is_left_and_said_once(at: str, tmp_path: Path) -> None:
    said: list[str] = []
    told(tmp_path, Tracker(lambda: Failing(at), said.append))
    assert said == [f"RuntimeError: {at}: no; this launch goes on without curves"]
    assert len(ledger(tmp_path)) == len(LINES) + 1


def test_a_tracker_that_failed_is_not_asked_again_and_lets_go_of_its_file(tmp_path: Path) -> None:
    backend = Failing("add")
    told(tmp_path, Tracker(lambda: backend, lambda reason: None))
    assert backend.asked == ["make", "add", "close"]


def test_curves_that_a_disk_no_longer_takes_end_no_run_and_name_their_file(tmp_path: Path) -> None:
    said: list[str] = []
    scalars = Scalars(tmp_path / "tensorboard", 0)
    (path,) = (tmp_path / "tensorboard").iterdir()
    os.dup2(os.open(path, os.O_RDONLY), scalars._file._file)
    told(tmp_path, Tracker(lambda: scalars, said.append))
    assert len(said) == 1
    assert str(path) in said[0]


def test_wandb_that_is_not_installed_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BadInput, match=r"train\.tracker: wandb: not installed; `pip install '\.\[wandb\]'`"):
        check(Config(train={"tracker": "wandb"}))
    check(Config(train={"tracker": "tensorboard"}))


def test_wandb_keeps_the_run_on_this_disk_and_a_resume_belongs_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install '.[wandb]'")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config = Config(name="curves", run_dir=tmp_path, train={"tracker": "wandb"})
    for _ in range(2):
        told(tmp_path, make_tracker(config, 0, pytest.fail))
    parts = [records(path) for path in sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))]
    assert len(parts) == 2
    ids, histories = set(), []
    for part in parts:
        ids |= {record.run.run_id for record in part if record.WhichOneof("record_type") == "run"}
        histories.append(
            [
                {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                for record in part
                if record.WhichOneof("record_type") == "history"
            ]
        )
    assert len(ids) == 1
    assert histories[0][0]["train/loss"] == 2.5
    assert [row["step"] for row in histories[0]] == [8, 9, 10, 10, 10, 10]
    assert [row["step"] for row in histories[1]] == [8, 9, 10, 10, 10, 10], "a resumed run computes some steps again"


def records(path: Path) -> list[Any]:
    """The messages of wandb's file: after seven bytes a LevelDB log (blocks of 32 KiB; crc, length, kind, message)."""
    from wandb.proto import wandb_internal_pb2

    data, at, message, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(wandb_internal_pb2.Record.FromString(message))
            message = b""
    return found


def test_a_run_tells_its_tracker_what_it_told_its_ledger(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert finish("--config", tiny, "--run_dir", run, "--budget.steps", "40", "--json")[0] == 0
    found = points(run / "tensorboard")
    lines = ledger(run, "step")
    assert [step for step, _ in found["train/loss"]] == [line["at"] for line in lines]
    assert [value for _, value in found["train/loss"]] == pytest.approx([line["loss"] for line in lines], rel=1e-6)
    assert {"mission/charge", "mission/train_wh", "checkpoint/seconds", "validation/loss"} <= found.keys()
