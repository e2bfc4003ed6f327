"""A run directory: made, or found to be of the same run."""

import json
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pipeline.checkpoint import durable, layout, seal
from pipeline.config import BadInput, Config, Refused, RunFailed, stopped_by
from pipeline.config.tree import Budget
from pipeline.flight.ledger import recall
from pipeline.flight.recorded import CHECKPOINTS, CONFIG, LEDGER, TOKENIZER, Found, look, look_at_tokenizer, recorded

# What may differ between two launches of one run: it moves or watches the work, and does not change what is computed.
FREE = (
    *("name", "run_dir", "corpus.path", "corpus.cache_dir", "checkpoint", "orbit", "satellite", "gpu", "telemetry"),
    *(
        "mission.policy",
        "mission.step_flops",
        "mission.harvest_error",
        "mission.restart_s",
        "mission.not_before_s",
        "mission.stations",
        "train.chunk_steps",
        "train.device",
    ),
    *("train.log_every", "train.tracker", "train.replay_every", "train.max_skipped"),
    *("train.eval_every", "train.eval_batches"),
)
# Of these, what is no news: what a run is called, where files lie, and mission second 0, which stays.
_NO_NEWS = ("name", "run_dir", "corpus.path", "corpus.cache_dir", "orbit.start")
_MOST_CHANGED, _LONGEST = 20, 200  # keys told, and characters of the JSON of a value
EPOCH_S = 1e-3  # elements give theirs to about so much
ANSWER_S = 10.0  # a disk that has to spin up takes so long


def within_reach(config: Config) -> Config:
    """`config`, without its second device if that hangs: whoever asks such a one for a file waits for ever.

    Raises:
        RunFailed: it hangs, and the run's own device has no checkpoint, or nothing that says of which run.
    """
    mirror = config.mirror
    if mirror is None:
        return config

    def ask() -> None:
        with suppress(BadInput, OSError):  # that is an answer
            recorded(mirror)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    if not asking.is_alive():
        return config
    if not layout.steps(config.directory / CHECKPOINTS) or recorded(config.directory, config) is None:
        raise RunFailed(
            f"checkpoint.mirror_dir: {mirror.parent} does not answer, and may hold the only copies of this run, for "
            f"{config.directory} has no whole ones; mount it anew, or leave the key out to start anew"
        )
    alone = config.checkpoint.model_copy(update={"mirror_dir": None})
    return config.model_copy(update={"checkpoint": alone})


def open_directory(config: Config) -> Config:
    """Makes the run directory of `config`, or finds that it holds the same run: then mission second 0 is that run's.

    Raises:
        BadInput: it belongs to another run, or cannot be written.
        RunFailed: it cannot be written now.
    """
    directory, mirror = config.directory, config.mirror
    if mirror and mirror.resolve() == directory.resolve():
        raise BadInput(f"checkpoint.mirror_dir: {mirror.parent}: the run itself is there; name another device")
    saved = recorded(directory, config)
    if saved is None and mirror and _holds_ours(mirror, directory):
        saved = recorded(mirror, config)
    if saved:
        _require_same(directory, config, saved)
    else:  # the first launch; or the first device was lost, and a launch that brought copies home was cut short
        copied = layout.steps(mirror / CHECKPOINTS) if mirror and recorded(mirror, config) else []
        if set(layout.steps(directory / CHECKPOINTS)) - set(copied):
            raise BadInput(
                f"run_dir: {directory}: checkpoints, but no {CONFIG} that is whole; copy it back, or give "
                "another --run_dir"
            )
        if mirror and not mirror.parent.is_dir():
            raise BadInput(
                f"checkpoint.mirror_dir: {mirror.parent} is not there, and {directory} is new: it may hold the only "
                "copies of this run; mount it, or leave the key out to start anew"
            )
        saved = _require_copies_of(mirror, config) if mirror else None
    if saved and saved.orbit != config.orbit:
        config = _keep_time(config, saved)
    try:
        durable.make(directory)
        with TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise stopped_by(error, f"run_dir: {directory}: cannot be written", "give a --run_dir that can") from error
    return config


def share(config: Config) -> None:
    """Puts what a resume needs beside the copies on the second device, if that is there: should the first be lost.

    Raises:
        BadInput: the copies there are of another run.
    """
    mirror = config.mirror
    if mirror is None or not mirror.parent.is_dir():
        return
    if not _holds_ours(mirror, config.directory):
        _require_copies_of(mirror, config)
    with suppress(OSError):  # of no use, or full: the store says so
        if (config.directory / CONFIG).exists():
            durable.make(mirror)
            lie = {CONFIG: look(config.directory), TOKENIZER: look_at_tokenizer(config.directory)}
            for name in (CONFIG, TOKENIZER, "plan.json"):
                if (config.directory / name).exists() and lie.get(name) is not Found.DAMAGED:
                    durable.update(mirror / name, (config.directory / name).read_bytes())


def _require_same(directory: Path, config: Config, saved: Config) -> None:
    # The budget may be changed until the cooldown that ends it is decided, which says under which.
    known = recall(directory / LEDGER, "cooldown")
    free = FREE if known.found or known.damaged else (*FREE, "budget")
    decided = known.found.get("cooldown", {})
    if under := {key: decided[f"budget.{key}"] for key in Budget.model_fields if f"budget.{key}" in decided}:
        saved = saved.model_copy(update={"budget": Budget(**under)})
    changed = {key: values for key, values in differing(config, saved).items() if not _under(key, free)}
    if changed:
        now = ", ".join(f"{key} {json.dumps(is_)} (was {json.dumps(was)})" for key, (is_, was) in changed.items())
        raise Refused(f"run_dir: {directory} holds another run: {now}; give the old values, or another --run_dir")


def differing(config: Config, saved: Config) -> dict[str, tuple[Any, Any]]:
    """What differs, by dotted key: its value in `config` and in `saved`."""
    ours, theirs = (_flat(each.model_dump(mode="json")) for each in (config, saved))
    return {key: (ours[key], theirs.get(key)) for key in ours if ours[key] != theirs.get(key)}


def changed(config: Config, saved: dict[str, Any]) -> dict[str, Any]:
    """What the operator changed since `saved`, the configuration that a checkpoint keeps, for the ledger.

    `changed`: [was, now] by dotted key, of at most 20 keys; `changed_more`: how many others. Empty where nothing is
    other. Keys that `saved` lacks, because it is of an earlier version, are not told.
    """
    was, now = _flat(saved), _flat(config.model_dump(mode="json"))
    other = [key for key in now if key in was and now[key] != was[key] and not _under(key, _NO_NEWS)]
    if not other:
        return {}
    told = {key: [_cut(was[key]), _cut(now[key])] for key in other[:_MOST_CHANGED]}
    return {"changed": told} | ({"changed_more": len(other) - len(told)} if len(other) > len(told) else {})


def _cut(value: Any) -> Any:
    text = json.dumps(value)
    return value if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _keep_time(config: Config, saved: Config) -> Config:
    """Newer elements move the satellite, not the clock: by mission seconds, checkpoints and ledger tell time."""
    from pipeline.orbit import track  # where the orbit was changed, which is seldom

    began = track(saved.orbit).utc(0.0)
    if abs((track(config.orbit).utc(0.0) - began).total_seconds()) < EPOCH_S:
        return config
    if config.orbit.start:
        raise BadInput(
            f"orbit.start: {config.orbit.start.isoformat()}: mission second 0 of the run in {config.directory} is "
            f"{began.isoformat()}; give that, or another --run_dir"
        )
    return config.model_copy(update={"orbit": config.orbit.model_copy(update={"start": saved.orbit.start or began})})


def _require_copies_of(mirror: Path, config: Config) -> Config | None:
    """That what the second device holds is of this run, as far as it says; the configuration that lies there."""
    if saved := recorded(mirror, config):
        _require_same(mirror, config, saved)
        return saved
    if layout.steps(mirror / CHECKPOINTS):
        raise BadInput(
            f"checkpoint.mirror_dir: {mirror}: copies of a run, but no {CONFIG} that says of which; put it there, or "
            "name another place"
        )
    return None


def _holds_ours(mirror: Path, directory: Path) -> bool:
    """Whether it holds a copy of a step that is in `directory`, by the hashes of all its files."""
    places = mirror / CHECKPOINTS, directory / CHECKPOINTS
    both = set(layout.steps(places[0])) & set(layout.steps(places[1]))
    with suppress(OSError):
        return any(len({(layout.path(p, step) / seal.NAME).read_bytes() for p in places}) == 1 for step in both)
    return False


def _under(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return flat
