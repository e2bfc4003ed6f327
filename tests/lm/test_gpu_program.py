"""The program that XLA makes for a Hopper, which needs CUDA's compiler (`pip install '.[cuda]'`) but no GPU."""

import importlib.util
import json
from functools import partial

import jax
import numpy as np
import pytest
from jax.experimental import topologies

from pipeline.config import Config
from pipeline.flight.device import FLAGS
from pipeline.lm import loss
from pipeline.lm.model import MOST_UNROLLED
from pipeline.lm.schedule import Cooldown
from pipeline.lm.step import init_state, train_chunk

H200 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H200"
dnn_version_info { major: 9 minor: 10 patch: 0 }
runtime_version { major: 13 minor: 0 }
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 } core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  device_memory_size: 150000000000 memory_bandwidth: 4800000000000 l2_cache_size: 52428800
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
}
"""
VOCABULARY = 4096


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> jax.sharding.Sharding:
    if not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)):
        pytest.skip("CUDA's compiler is not installed")
    (chip,) = topologies.get_topology_desc("", "cuda", target_config=H200, topology="1x1x1").devices
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    return jax.sharding.SingleDeviceSharding(chip)


def program(on: jax.sharding.Sharding, precision: str, depth: int) -> str:
    """A step of two microbatches, as XLA has compiled it."""
    model = {"depth": depth, "width": 256, "heads": 4, "context": 128, "attention": "xla"}
    config = Config(model=model, train={"batch": 16, "microbatch": 8, "precision": precision, "device": "cpu"})
    tokens = np.zeros((1, 16, 129), np.uint16)
    given = jax.eval_shape(lambda: (init_state(config, VOCABULARY), tokens, 1, Cooldown()))
    step = jax.jit(partial(train_chunk, config), in_shardings=on, out_shardings=on).trace(*given)
    flags = {name: json.loads(value) for name, value in FLAGS.items() if name.startswith("xla_gpu")}
    return step.lower(lowering_platforms=("cuda",)).compile(compiler_options=flags).as_text()


@pytest.mark.filterwarnings("ignore:Error reading persistent compilation cache entry")  # which only a GPU could load
@pytest.mark.parametrize(
    ("precision", "depth", "layers"), [("fp8", 2, 2), ("fp8", MOST_UNROLLED["gpu"] + 1, 1), ("bf16", 2, None)]
)
def test_every_product_with_weights_that_is_not_their_gradient_takes_8_bits(
    hopper: jax.sharding.Sharding, monkeypatch: pytest.MonkeyPatch, precision: str, depth: int, layers: int | None
) -> None:
    """Seven matrices in each of the layers that are written out, there and back, and the logits: a loop over two blocks
    of them, as the layers are one where they are many."""
    monkeypatch.setitem(loss.MOST_LOGITS, "gpu", 512 * VOCABULARY)
    found = program(hopper, precision, depth).count('custom_call_target="__cublas$lt$matmul$f8"')
    assert found == (2 * 7 * layers + 2 if layers else 0)
