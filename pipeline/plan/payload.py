"""What GPU and host are in the middle of, and how one slot of time goes on with it.

Flight and forecast share this arithmetic, so that what was forecast is what is flown.
"""

from typing import NamedTuple

from pipeline.power.plant import Scalar, lesser, positive

OFF_S = 60.0  # once off, it stays off for at least so long: sensor noise must not make it chatter
ROUNDING = 1e-9  # a step is not left undone for the sake of the last bit


class Work(NamedTuple):
    """What one slot is used for."""

    restarting_s: Scalar
    training_s: Scalar
    steps: Scalar  # whole steps that end in it

    def gpu_w(self, training_w: Scalar, idle_w: Scalar, slot_s: Scalar) -> Scalar:
        """Mean power of the GPU over the slot [W]."""
        return (self.training_s * training_w + self.restarting_s * idle_w) / slot_s


class Payload(NamedTuple):
    """Operators alone, so that floats, NumPy and traced arrays all pass."""

    on: Scalar = False
    restart_left_s: Scalar = 0.0  # of the restart under way
    rest_left_s: Scalar = 0.0  # of the least time off
    part: Scalar = 0.0  # of the step under way that is done [steps]

    def permit(self, cap_w: Scalar) -> Scalar:
        """The power that a policy asks for [W], or 0 while the least time off lasts."""
        return cap_w * (self.on | (self.rest_left_s <= 0.0))

    def slot(self, cap_w: Scalar, slot_s: Scalar, restart_s: Scalar, steps_per_s: Scalar) -> tuple["Payload", Work]:
        """What comes after `slot_s` under a cap (0: off), and what was done in it. A step cut short is lost."""
        on = cap_w > 0.0
        left_s = (self.restart_left_s * self.on + restart_s * (1 - self.on)) * on
        restarting_s = lesser(left_s, slot_s)
        training_s = (slot_s - restarting_s) * on
        done = (self.part + training_s * steps_per_s) * on
        steps = (done + ROUNDING) // 1.0
        rest_s = positive(self.rest_left_s - slot_s)
        rest_s = OFF_S * on + rest_s * (1 - on)
        return Payload(on, left_s - restarting_s, rest_s, done - steps), Work(restarting_s, training_s, steps)


SWITCHED_OFF = Payload()
