"""A few lines that each sealed checkpoint writes: how the text became what it is."""

from pipeline.config import BadInput, RunFailed
from pipeline.ground.run_directory import RunDirectory

MOST_CHECKPOINTS = 4  # spread over those that are there, the oldest and the newest among them


def samples(run: RunDirectory, tokens: int) -> tuple[list[dict[str, str]], str]:
    """(step, prompt and text of each checkpoint, oldest first; why there are none or fewer)."""
    from pipeline.ground.arguments import set_up_jax
    from pipeline.ground.sample import default_prompt, printable

    steps = run.steps
    if not steps:
        return [], "No sealed checkpoint is here to write one."
    set_up_jax()
    last, most = len(steps) - 1, MOST_CHECKPOINTS - 1
    chosen = sorted({steps[round(i * last / most)] for i in range(most + 1)})
    made, trouble = [], ""
    for step in chosen:
        try:
            prompt = default_prompt(run)
            (text,) = run.model(step).sample([prompt], tokens, temperature=0.8, top_p=0.95)
            shown = printable(text).strip("\n") if text.strip() else "(white space alone)"
            made.append({"step": f"{step:,}", "prompt": printable(prompt).strip("\n"), "text": shown})
        except (BadInput, RunFailed) as error:  # the rest of the page is worth having all the same
            trouble = str(error)
    return made, trouble
