"""The closing table of a run, from its ledger alone, and a few lines that the model writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import BadInput
from pipeline.flight.display import clock
from pipeline.ground.tail import Tail
from pipeline.ground.totals import ENDINGS, Summary, summarise

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def table(summary: Summary) -> "Table":
    """The summary for a terminal. A figure that the ledger does not have is left out."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_header=False)
    made.add_column(style="dim")
    made.add_column()
    for name, value in _rows(summary):
        made.add_row(name, value)
    return made


def show(run_dir: Path, console: "Console | None" = None) -> None:
    """Prints the table of the run in `run_dir` and, if it is done and has a tokenizer, a short sample.

    Raises:
        BadInput: there is no ledger.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    summary = summarise(Tail(run_dir / "ledger.jsonl").read())
    if not summary.launches:
        raise BadInput(f"{run_dir}/ledger.jsonl: has no launch; name the directory of a run")
    ending = ENDINGS.get(summary.ending or "", "cut short; the same command resumes")
    console.print(Text(f"{run_dir}: {ending}", style="bold"), soft_wrap=True)
    console.print(table(summary))
    if summary.ending == "done" and (text := _sample(run_dir)):
        console.print(Text(text), soft_wrap=True)


def _rows(summary: Summary) -> Iterator[tuple[str, str]]:
    totals = summary.totals
    if result := summary.validation:
        yield "validation loss", _spread(result, "loss", "standard_error", " nats per token")
        if summary.unigram_loss:
            yield "unigram model", f"{summary.unigram_loss:.4f} nats per token"
        if result["bits_per_byte"] is not None:
            yield "bits per byte", _spread(result, "bits_per_byte", "bits_per_byte_error")
        yield "", f"± standard error over {result['windows']:,} held-out windows"
    yield "steps", f"{summary.steps:,}"
    if "lost_steps" in totals:
        yield "lost steps", f"{totals['lost_steps']:,}" + (" (computed again)" if totals["lost_steps"] else "")
    if totals.get("skipped"):
        yield "skipped steps", f"{totals['skipped']:,} (loss or gradient not finite)"
    if "tokens" in totals:
        yield "tokens", f"{totals['tokens']:,}"
        yield "orbits", f"{totals['orbits']:.2f}"
        yield "eclipses", f"{totals['eclipses']:,}"
        yield "energy", f"{totals['train_wh']:,.4g} Wh for training (modelled)"
    quarantined = f", {summary.quarantined} quarantined" if summary.quarantined else ""
    yield "checkpoints", f"{len(summary.sealed)} sealed{quarantined}"
    yield "mission time", clock(summary.mission_s)
    yield "wall time", clock(summary.wall_s) + (f" in {summary.launches} launches" if summary.launches > 1 else "")


def _spread(result: dict[str, Any], key: str, error: str, unit: str = "") -> str:
    """A ledger writes null for what was not finite."""
    if result[key] is None:
        return "not finite"
    return f"{result[key]:.4f}" + ("" if result[error] is None else f" ± {result[error]:.4f}") + unit


def _sample(run_dir: Path) -> str | None:
    """A few lines, always the same for the same weights; None without a tokenizer."""
    from pipeline.ground.run_directory import open_run
    from pipeline.ground.sample import default_prompt, printable

    run = open_run(run_dir)
    if not run.has_tokenizer:
        return None
    prompt = default_prompt(run)
    (text,) = run.model().sample([prompt], 160, temperature=0.8, top_p=0.95)
    return printable(text).strip()
