"""What XLA on a CPU makes of a step: products as they were asked for, and nothing kept that need not be."""

import re

import jax
import numpy as np
import pytest
from planned_by_xla import planned

from pipeline.config import Config
from pipeline.lm import attention, matmul, model
from pipeline.lm.schedule import Cooldown
from pipeline.lm.settle import settle
from pipeline.lm.step import init_state, make_train_chunk

VOCAB = 65


def compiled(precision: str, depth: int, context: int) -> jax.stages.Compiled:
    shape = {"depth": depth, "width": 64, "heads": 2, "context": context}
    train = {"batch": 8, "precision": precision, "device": "cpu"}
    config = Config(model=shape, train=train, optimizer={"name": "adamw"})
    state = jax.eval_shape(lambda: init_state(config, VOCAB))
    tokens = jax.ShapeDtypeStruct((1, 8, context + 1), np.int32)
    return planned(make_train_chunk(config).lower(state, tokens, 1, Cooldown()))


def widened(program: str) -> int:
    """Products whose factors are fp32."""
    count, types = 0, {}
    for line in program.splitlines():
        if made := re.match(r"\s*(?:ROOT )?%?([\w.-]+) = (\w+)\[.*? ([\w-]+)\((.*)", line):
            name, dtype, operation, operands = made.groups()
            types[name] = dtype
            if operation == "dot":
                count += all(types[operand] == "f32" for operand in re.findall(r"%([\w.-]+)", operands)[:2])
    return count


def test_products_of_16_bits_are_not_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    of_logits = 3  # themselves, and their two gradients
    assert widened(compiled("mixed", 2, 64).as_text()) == of_logits
    for module in (attention, matmul):  # the control: a transpose as it comes
        monkeypatch.setattr(module, "turned", lambda x: settle(x.mT))
    assert widened(compiled("mixed", 2, 64).as_text()) > of_logits


@pytest.mark.slow
def test_unrolled_layers_take_little_more_memory_than_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def temporary() -> int:
        return compiled("fp32", 6, 256).memory_analysis().temp_size_in_bytes

    unrolled = temporary()
    with monkeypatch.context() as patch:
        patch.setitem(model.MOST_UNROLLED, "cpu", 0)
        loop = temporary()
    assert unrolled < 1.2 * loop
    for module in (attention, model):  # the control: what is computed again as soon as may be
        monkeypatch.setattr(module, "not_before", lambda first, x: x)
    assert temporary() > 1.2 * loop
