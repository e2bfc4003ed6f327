"""What XLA plans before LLVM makes machine code of it, which is most of the time of a compilation."""

import jax


def planned(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """A program to look at and not to run: its operations and its memory are the same at every level of LLVM."""
    return lowered.compile({"xla_backend_optimization_level": 0})
