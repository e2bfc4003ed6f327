"""How two trainers compare, for a terminal."""

from typing import Any

from pipeline.ground.bench.energy import NOT_MEASURABLE
from pipeline.ground.bench.printing import console, spanning, tabulate, verdict

BUSY = 0.25  # of the processor time taken by others: then no goal is judged
BUSY_SAID = "not judged on so busy a machine"


def show(answer: dict[str, Any]) -> None:
    terminal, shape, busy = console(), answer["shape"], (answer["others"] or 0.0) > BUSY
    size = f"{shape['depth']} layers x {shape['width']}, context {shape['context']}, batch {shape['batch']}"
    steps = " and ".join(f"{steps:,}" for steps in sorted(set(answer["steps"].values())))
    how = f"{steps} steps on {answer['cores']} cores, by turns of {answer['turn']}"
    terminal.print(f"{answer['provenance']}; {size}; {how}. Medians; in brackets least and most.", style="bold")
    heads: tuple[str, ...] = (
        *("", "parameters", "launch", "tokens/s", "step", "processor time"),
        *("peak memory", "total", "final loss"),
    )
    terminal.print(tabulate("", heads, [_arm(name, row) for name, row in answer["arms"].items()]))
    for name, row in answer["arms"].items():
        if row["joules_per_token"] != NOT_MEASURABLE:
            drawn = (
                f"{counter} {spanning(joules, lambda j: f'{1e3 * j:.3g}')} mJ"
                for counter, joules in row["joules_per_token"].items()
            )
            terminal.print(f"{name}, drawn a token: {', '.join(drawn)}")
    heads = ("", "speed, ours over nanoGPT's", "by processor time", "goal")
    terminal.print(tabulate("", heads, [_speed(name, pair, busy) for name, pair in answer["pairs"].items()]))
    heads = ("time to its final loss", "s", "of its time", "of its processor time", "goal")
    terminal.print(tabulate("", heads, [_reached(name, pair, busy) for name, pair in answer["pairs"].items()]))
    for name, pair in answer["pairs"].items():
        if pair["loss_at_equal_steps"]:  # none where ours ends before the peer is first looked at
            terminal.print(f"{name}, loss at step  {_losses(pair['loss_at_equal_steps'])}")
        for clock, words in (("seconds", "time"), ("processor_s", "processor time")):
            by_share = {f"{100 * float(share):g} %": two for share, two in pair["loss_at_equal_time"][clock].items()}
            terminal.print(f"{name}, loss at a share of its {words}  {_losses(by_share)}")


def _arm(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"nanoGPT {name}" if name in ("eager", "compiled") else name,
        f"{row['parameters']:,}",
        f"{row['launch_s']:.1f} s",
        spanning(row["tokens_per_s"], "{:,.0f}".format),
        f"{1e3 * row['step_s']['median']:.1f} ms",
        f"{1e3 * row['step_processor_s']['median']:.1f} ms",
        f"{row['peak_mb']:,.0f} MB" if row["peak_mb"] else "-",
        f"{row['total_s']:.1f} s",
        f"{row['final_loss']:.4f}",
    )


def _speed(name: str, pair: dict[str, Any], busy: bool) -> tuple[str, ...]:
    ratio, goal = pair["speed"], pair["speed_goal"]
    said = "" if goal is None else f"at least {goal:g}: {BUSY_SAID if busy else verdict(ratio['median'] >= goal)}"
    return name, spanning(ratio, "{:.2f}".format), spanning(pair["speed_by_processor"], "{:.2f}".format), said


def _reached(name: str, pair: dict[str, Any], busy: bool) -> tuple[str, ...]:
    seconds, share, goal = pair["time_to_its_final_loss"], pair["share_of_its_time"], pair["time_goal"]
    shown = ["never" if value is None else f"{value:.2f}" for value in (seconds["seconds"], *share.values())]
    holds = share["seconds"] is not None and goal is not None and share["seconds"] <= goal
    return name, *shown, "" if goal is None else f"at most {goal:g}: {BUSY_SAID if busy else verdict(holds)}"


def _losses(pairs: dict[Any, list[float | None]]) -> str:
    return "  ".join(f"{where}: {_two(two)}" for where, two in pairs.items())


def _two(losses: list[float | None]) -> str:
    return " / ".join("-" if loss is None else f"{loss:.3f}" for loss in losses)
