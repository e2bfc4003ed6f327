"""Where a run stands: what a resume must find again, beside the network's state and the satellite's."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

from pipeline.config import Refused
from pipeline.lm.schedule import NEVER, Cooldown


class Measured(NamedTuple):
    """What a satellite was measured to do, over what is modelled."""

    harvest: float = 1.0
    slowness: float = 1.0  # time of a step
    draw: float = 1.0  # power of the GPU, over that commanded
    rejection: float = 1.0  # heat that the plate loses
    capacity: float = 1.0  # charge that the battery holds


@dataclass
class Progress:
    """Saved inside every checkpoint. Counters are of the run, over all its launches."""

    step: int = 0
    sequences: int = 0  # cursor of the data: sequences trained on
    lost_steps: int = 0  # computed, then lost to an outage and computed again
    validated_step: int = -1
    validated_loss: float | None = None  # of the last validation [nats per token]
    validated_pieces: int = 0  # of the validation under way; their mission time is spent
    planned_steps: int = 0  # steps in all, as last forecast; 0: not forecast yet; NEVER: further away than is looked
    replan_s: float = -math.inf  # mission time of the next look ahead
    recount_s: float = -math.inf  # and of the next to the budget's end
    planned_from: dict[str, Any] = field(default_factory=dict)  # the satellite at the last one
    measured_from: dict[str, Any] = field(default_factory=dict)  # and at the one from which harvest is being measured
    harvest: float = 1.0  # as `Measured` says, and those that follow
    slowness: float = 1.0
    draw: float = 1.0
    rejection: float = 1.0
    capacity: float = 1.0
    cooldown: Cooldown = field(default_factory=Cooldown)
    corruptions: int = 0  # found
    replayed_steps: int = 0  # computed a second time, to compare
    # What losses and gradient norms are measured against, and where they last stood out. Saved, because a replay takes
    # mission time, and an interrupted run must take the same.
    spiked_step: int | None = None
    spikes: int = 0  # how often they stood out, and were the same when computed again
    recent_losses: list[float] = field(default_factory=list)
    recent_norms: list[float] = field(default_factory=list)

    @property
    def measured(self) -> Measured:
        return Measured(*(getattr(self, name) for name in Measured._fields))

    @measured.setter
    def measured(self, measured: Measured) -> None:
        vars(self).update(measured._asdict())

    def back_to(self, saved: "Progress") -> None:
        """Takes training back to where it stood. Mission time goes on, and what it was measured and decided with."""
        self.lost_steps += self.step - saved.step
        self.step, self.sequences = saved.step, saved.sequences
        self.validated_step, self.validated_pieces = saved.validated_step, saved.validated_pieces
        self.validated_loss = saved.validated_loss
        self.spiked_step, self.spikes = saved.spiked_step, saved.spikes
        self.recent_losses, self.recent_norms = saved.recent_losses, saved.recent_norms

    @property
    def foreseen_steps(self) -> int | None:
        """Steps in all, where they are known."""
        return self.planned_steps if 0 < self.planned_steps < NEVER else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"cooldown": list(self.cooldown)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Progress":
        """What `as_json` gave, or that of an older version.

        Raises:
            Refused: it is of a newer one.
        """
        with of_this_version("progress", saved, {each.name for each in fields(cls)}):
            return cls(**(saved | {"cooldown": Cooldown(*saved["cooldown"])}))


@contextmanager
def of_this_version(what: str, saved: Iterable[str], known: Iterable[str]) -> Iterator[None]:
    """Around the reading of what a checkpoint keeps.

    Raises:
        Refused: it keeps more than this version knows, which may be what decides, or it is read otherwise.
    """
    advice = "not as this version of Dayside keeps it; go on with the one that wrote it"
    try:
        if unknown := sorted(set(saved) - set(known)):
            raise Refused(f"checkpoint: {what}.{unknown[0]}: {advice}")
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Refused(f"checkpoint: {what}: {error}: {advice}") from error
