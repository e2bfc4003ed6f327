"""Which sealed steps stay: the newest, one of each orbit for a while, and the best by validation loss."""

import math
from collections.abc import Mapping
from typing import NamedTuple


class Tag(NamedTuple):
    """What is known of a step besides its number. None: not known, and then only the newest are kept for it."""

    orbit: int | None = None  # number of the revolution
    mission_s: float | None = None
    loss: float | None = None  # of the last validation before it [nats per token]


UNTAGGED = Tag()


def kept(tags: Mapping[int, Tag], newest: int, orbits_s: float) -> set[int]:
    """The steps to keep, of those sealed on one device.

    Args:
        tags: of every sealed step.
        newest: so many of the newest stay, whatever their tags say; at least 1, so that the last sealed copy is never
            among those to go.
        orbits_s: for so long [mission s] before the newest, the last step of each orbit stays.

    Of equal losses the earliest stays: it stands nearest to the step that was validated.
    """
    steps = sorted(tags)
    stay = set(steps[-max(newest, 1) :])
    now_s = tags[steps[-1]].mission_s if steps else None
    last_of = {
        tag.orbit: step
        for step, tag in sorted(tags.items())
        if tag.orbit is not None and tag.mission_s is not None and now_s is not None
        if now_s - tag.mission_s <= orbits_s
    }
    losses = [(tag.loss, step) for step, tag in tags.items() if tag.loss is not None and math.isfinite(tag.loss)]
    return stay | set(last_of.values()) | ({min(losses)[1]} if losses else set())
