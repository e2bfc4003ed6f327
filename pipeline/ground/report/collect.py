"""From a run directory, or what of it has come down, to what there is to report on."""

import json
import time
from contextlib import suppress
from pathlib import Path

from pipeline.config import BadInput
from pipeline.flight.recorded import LEDGER, recorded
from pipeline.ground.history import History
from pipeline.ground.report.material import Material
from pipeline.ground.report.samples import samples
from pipeline.ground.run_directory import RunDirectory
from pipeline.ground.tail import Tail, number


class Collector:
    """Reads a ledger once, and after that only what is new in it.

    Raises:
        BadInput: there is no ledger.
    """

    def __init__(self, directory: Path):
        if not (directory / LEDGER).is_file():
            raise BadInput(f"{directory}: has no {LEDGER}; name the directory of a run")
        self._directory = directory
        self._begin()

    def _begin(self) -> None:
        self._tail, self._history = Tail(self._directory / LEDGER), History()

    @property
    def state(self) -> str:
        """Another text whenever the ledger has grown."""
        return self._tail.state

    def collect(self, tokens: int = 0) -> Material:
        """What there is now; `tokens` that each of a few checkpoints writes (0: no samples)."""
        if self._tail.replaced:
            self._begin()
        self._history.read(self._tail.read())
        config = None
        with suppress(BadInput):  # of another version; a ledger alone is worth a report
            config = recorded(self._directory)
        history = self._history.since_beginning()
        made = Material(
            directory=self._directory,
            history=history,
            begin_s=self._history.begin_s,
            lines=self._tail.lines,
            damaged=self._tail.damaged,
            config=config,
            expected=_expected(self._directory / "plan.json", history.set_s),
            now_wall=time.time(),
        )
        run = RunDirectory(self._directory, config) if config else None
        if run and (self._directory / "checkpoints").is_dir():
            made.present = run.steps
        if run and tokens:
            made.samples, made.samples_words = samples(run, tokens)
        return made


def _expected(path: Path, set_s: float) -> dict[str, float]:
    """The figures of plan.json, by a clock that was set by `set_s` since; none if it is missing or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    figures = content.items() if isinstance(content, dict) else ()
    found = {key: value for key, raw in figures if (value := number(raw)) == value}
    return found | ({"end_s": found["end_s"] + set_s} if "end_s" in found else {})
