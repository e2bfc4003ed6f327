"""In which types a step computes, by name. Parameters, moments, norms, softmax and loss are fp32 in all of them."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from pipeline.lm.matmul import AS_IT_IS, IN_8_BITS, Matmul, Rounding, matmul, matmul_bf16, matmul_fp8


class Precision(NamedTuple):
    """Type of activations and gradients, how they are multiplied with the matrices of the layers, and what else is
    multiplied is rounded to: attention's queries, keys, values and probabilities, and Muon's polynomials. Products
    are summed in fp32."""

    dtype: DTypeLike
    product: Matmul
    factor: DTypeLike
    in_loss: Rounding = AS_IT_IS  # of hidden states, embedding and the gradient of the logits
    scaled: bool = False  # whether the loss needs a scale, for gradients that the type is too narrow for
    of_sum: float | None = None  # times the sum over all targets is what gradients are of, where 8 bits must hold them

    def for_matrices(self, size: Array) -> "Precision":
        """This, for layers whose matrices share a scale; `size` is their largest magnitude. One for each would be found
        by two kernels for each: 168 in each microbatch of 12 layers."""
        return self._replace(product=partial(self.product, size=size))


PRECISIONS = {
    "fp32": Precision(jnp.float32, matmul, jnp.float32),
    "mixed": Precision(jnp.float32, matmul_bf16, jnp.bfloat16),
    "bf16": Precision(jnp.bfloat16, matmul, jnp.bfloat16),
    "fp16": Precision(jnp.float16, matmul, jnp.float16, scaled=True),
    # E5M2 holds 2^-14 to 2^15. Measured on Tiny Shakespeare after 50 and 500 steps, in all layers: rms 0.09 to 38, at
    # most 740, and of no gradient more than 8 in 1,000 rounded to zero.
    "fp8": Precision(jnp.bfloat16, matmul_fp8, jnp.bfloat16, IN_8_BITS, of_sum=64.0),
}


# As PyTorch's GradScaler: halved where a gradient overflows, doubled after so many steps without.
_FIRST, _LEAST, _LARGEST, _GROWS_AFTER = 2.0**16, 1.0, 2.0**24, 2000


class LossScale(NamedTuple):
    """What the loss is multiplied by before its gradient is taken (Micikevicius et al., arXiv 1710.03740)."""

    scale: Float[Array, ""]
    good_steps: Int[Array, ""]  # since it last changed

    def after(self, overflow: Bool[Array, ""]) -> "LossScale":
        """The scale of the next step. Powers of two: they change no bit of a mantissa."""
        good = jnp.where(overflow, 0, self.good_steps + 1)
        grows = good >= _GROWS_AFTER
        scale = jnp.where(overflow, self.scale / 2, jnp.where(grows, self.scale * 2, self.scale))
        return LossScale(jnp.clip(scale, _LEAST, _LARGEST), jnp.where(grows, 0, good).astype(jnp.int32))

    @property
    def can_fall(self) -> Bool[Array, ""]:
        return self.scale > _LEAST


def first_scale(precision: str) -> LossScale | None:
    """The scale of step 0; None where the type needs none."""
    return LossScale(jnp.float32(_FIRST), jnp.zeros((), jnp.int32)) if PRECISIONS[precision].scaled else None


def scale_of(precision: str, loss_scale: LossScale | None, targets: int) -> Float[Array, ""]:
    """What the mean loss over `targets` is multiplied by before its gradient is taken."""
    if loss_scale is not None:
        return loss_scale.scale
    of_sum = PRECISIONS[precision].of_sum
    return jnp.float32(1.0 if of_sum is None else of_sum * targets)
