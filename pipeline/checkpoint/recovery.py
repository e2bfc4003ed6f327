"""From what two devices hold to the newest state that is whole. Damage is moved to quarantine first, then repaired."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.checkpoint.keeper import Keeper
from pipeline.checkpoint.place import Event, Place, summary
from pipeline.checkpoint.restore import Damage, Restored, Strange
from pipeline.config import RunFailed

Load = Callable[[Path, int], Restored]  # `restore.load` of a step in a directory
Tell = Callable[[Iterable[Event]], None]


def recover(home: Place, mirror: Place | None, keeper: Keeper, load: Load, tell: Tell) -> tuple[Restored, Place] | None:
    """The newest step that is whole anywhere, and where it was read; None if no step was ever sealed.

    Raises:
        RunFailed: there were sealed checkpoints and none can be restored, or the device is at fault.
        BadInput: the newest is whole, but of another model.
    """
    copied = mirror.steps() if mirror else []
    strange: tuple[int, str] | None = None
    for step in sorted({*home.steps(), *copied}, reverse=True):
        try:
            found = _one(home, mirror if step in copied else None, keeper, step, load, tell)
        except Strange as wrong:
            if strange:  # nothing is moved: with another device, or another time, they may be right
                break
            strange = step, str(wrong)
            continue
        if found:
            restored, place = found
            if strange and home.path(strange[0]).exists():  # the device is sound, so it was sealed like that
                _set_aside(home, strange[0], [strange[1]], tell)
            tell([place.event("restored", step=step, verify_s=restored.verify_s, load_s=restored.load_s)])
            return found
    if strange:
        raise RunFailed(
            f"{home.path(strange[0])}: whole, and on the device not what was saved ({strange[1]}), nor was any other: "
            "the device may be at fault; start again, on another if this stays"
        )
    if home.was_sealed() or (mirror and mirror.was_sealed()):
        raise RunFailed(
            f"{home.directory}: checkpoints were sealed here and none can be restored (see REASON in "
            f"{home.quarantine}/*); copy a good one back here, or start anew with another --run_dir"
        )
    return None


def _one(
    home: Place, mirror: Place | None, keeper: Keeper, step: int, load: Load, tell: Tell
) -> tuple[Restored, Place] | None:
    """One step: as it is, else repaired, else as the second device has it; None when it is whole nowhere."""
    damaged: list[Path] = []
    if home.path(step).exists():
        try:
            return load(home.directory, step), home
        except Damage as damage:
            damaged.append(_set_aside(home, step, damage.reasons, tell))
    if mirror is None:
        return None
    keeper.repair(home, step, damaged)
    tell(keeper.events())
    if home.path(step).exists():
        try:
            return load(home.directory, step), home
        except Damage as damage:  # sealed with wrong content, and copied
            _set_aside(home, step, damage.reasons, tell)
            return None
    try:
        return load(mirror.directory, step), mirror
    except (Damage, RunFailed) as error:
        tell([("mirror_failed", {"reason": f"step {step}: {error}"})])
        return None


def _set_aside(home: Place, step: int, reasons: list[str], tell: Tell) -> Path:
    try:
        event = home.set_aside(step, reasons)
    except OSError as error:
        raise RunFailed(
            f"{home.path(step)}: damaged ({summary(reasons)}) and cannot be moved to quarantine: {error}"
        ) from error
    tell([event])
    return Path(event[1]["path"])
