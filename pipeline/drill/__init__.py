"""How a run is broken on purpose: killed, cut off, darkened, struck by radiation, out of disk; and what was lost.

A drill starts the very `train.py run` that a person starts, sees of it what anybody can see (its files, its output,
/proc), breaks it, starts it again, and in the end compares every bit with a run that nothing disturbed. Each kind of
outage has a control arm, a way of saving that the same outage must defeat; where it does not, the injector is broken.
"""

KINDS = ("kill", "power-cut", "brown-out", "bit-flip", "disk-full", "mixed")
