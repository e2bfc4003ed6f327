"""A run as pandas DataFrames, for notebooks. pandas is imported when the first one is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.ground.history import History
from pipeline.ground.tail import Tail
from pipeline.ground.totals import AT_WORK

if TYPE_CHECKING:
    import pandas as pd


def ledger_frame(path: Path) -> "pd.DataFrame":
    """One row an event, in the order written, and a column for every field that any event has.

    `launch` counts the launches of the run from 1. `attrs["damaged"]` is the number of lines passed over.
    """
    tail, launch = Tail(path), 0
    rows: list[dict[str, Any]] = []
    begun = 0  # row after the last one that a run at work wrote
    for event in tail.read():
        if event["event"] in ("launch", "resume"):
            launch += 1
            for row in rows[begun:]:
                row["launch"] = launch
        rows.append({"launch": launch} | event)
        if event["event"] in AT_WORK:
            begun = len(rows)
    frame = _pandas().DataFrame(rows, columns=None if rows else ["launch", "event", "mission_s", "step", "wall"])
    frame.attrs["damaged"] = tail.damaged
    return frame


def metrics_frame(path: Path) -> "pd.DataFrame":
    """One row a step that was logged or validated, in rising order; the index is the step.

    What an outage took back appears as it was computed in the end, once. Columns: mission_s, wall [s], launch, loss,
    grad_norm, rate (share of the peak learning rate), tokens_per_s, train_wh (spent until then; NaN where the ledger
    does not say), and validation_loss, validation_error, validation_bits_per_byte (NaN at steps without a validation).
    """
    pd, history = _pandas(), History().read(Tail(path).read())
    names = ("mission_s", "wall", "launch", "loss", "grad_norm", "rate", "tokens_per_s")
    trained = pd.DataFrame({name: history.steps[name] for name in names}, index=_step_index(history.steps["at"]))
    held_out = {"loss": "validation_loss", "standard_error": "validation_error"}
    held_out |= {"bits_per_byte": "validation_bits_per_byte"}
    columns = {held_out[name]: history.validations[name] for name in held_out}
    validated = pd.DataFrame(columns | {"mission_s": history.validations["mission_s"]})
    validated.index = _step_index(history.validations["step"])
    frame = trained.combine_first(validated[~validated.index.duplicated(keep="last")])
    frame["train_wh"] = history.train_wh(frame["mission_s"].to_numpy(float))
    return frame[[*names, "train_wh", *held_out.values()]]


def checkpoints_frame(path: Path, present: list[int]) -> "pd.DataFrame":
    """One row a step that was ever sealed; the index is the step.

    Columns: mission_s and wall [s] of the report that it was sealed, bytes, seconds (start of the save to sealed),
    blocking_s (of them, the training stood still), and state: present, deleted (thinned out), quarantined, or missing.

    Args:
        present: steps that the directory holds; one that the ledger does not know has NaN for what it would tell.
    """
    pd, history = _pandas(), History().read(Tail(path).read())
    names = ("mission_s", "wall", "bytes", "seconds", "blocking_s")
    frame = pd.DataFrame({name: history.seals[name] for name in names}, index=_step_index(history.seals["checkpoint"]))
    frame = frame[~frame.index.duplicated(keep="last")]
    frame = frame.reindex(sorted({*frame.index, *present}))
    frame.index.name = "step"
    frame["state"] = [history.fate(step, present) for step in frame.index]
    return frame


def _step_index(steps: Any) -> "pd.Index":
    return _pandas().Index(steps.astype(int), name="step")


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("a run's tables are pandas DataFrames; `pip install '.[notebooks]'`") from error
    return pandas
