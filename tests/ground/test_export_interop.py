"""What transformers makes of an export. Needs the `interop` extra."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.ground.export import export
from pipeline.ground.export_int8 import export_int8, write_back
from pipeline.ground.int8 import dequantise
from pipeline.ground.run_directory import open_run
from pipeline.lm import qwen3
from pipeline.lm.model import Transformer

torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[interop]'")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[interop]'")


@pytest.fixture(scope="module", params=["run_dir", "bpe_run"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    run: Path = request.getfixturevalue(request.param)
    out = tmp_path_factory.mktemp("exports") / "out"
    export(run, out)
    return run, out


def test_transformers_computes_the_same_logits(exported: tuple[Path, Path]) -> None:
    run_dir, out = exported
    run = open_run(run_dir)
    weights = run.weights()
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.float32, output_loading_info=True
    )
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert not any(loading.values()), loading
    tokens = np.random.default_rng(0).integers(weights.vocab_size, size=(3, run.config.model.context))
    params = jax.device_put(weights.params)
    ours = Transformer.apply(run.config.model, params, jnp.asarray(tokens)) @ params["embedding"].T
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    assert np.ptp(theirs) > 1, "flat logits would prove little"
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def test_transformers_writes_the_same_text(exported: tuple[Path, Path]) -> None:
    """Greedy, from prompt to characters, through their tokenizer and ours."""
    run_dir, out = exported
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    read = tokenizer("the sun ", return_tensors="pt")
    new = model.generate(**read, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, read.input_ids.shape[1] :]
    (text,) = open_run(run_dir).model().sample(["the sun "], 12, temperature=0)
    assert tokenizer.decode(new) == text


def test_transformers_reads_text_as_the_run_does(exported: tuple[Path, Path]) -> None:
    run_dir, out = exported
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    ours = open_run(run_dir).tokenizer()
    assert ours is not None
    for text in ["the sun rises.\n", " the  sea", "\n\nthe array "]:
        assert theirs(text)["input_ids"] == ours.encode(text).ids
        assert theirs.decode(theirs(text)["input_ids"]) == text
    assert theirs.model_max_length == json.loads((out / "config.json").read_text())["max_position_embeddings"]


def test_transformers_opens_int8_weights_written_back_and_computes_their_logits(run_dir: Path, tmp_path: Path) -> None:
    export_int8(run_dir, tmp_path / "int8")
    write_back(tmp_path / "int8", tmp_path / "out")
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, output_loading_info=True
    )
    assert not any(loading.values()), loading
    run = open_run(run_dir)
    stored = dequantise(load_file(tmp_path / "int8" / "model.int8.safetensors"))
    params = jax.device_put(qwen3.params(run.config.model, stored.__getitem__))
    tokens = np.random.default_rng(0).integers(len(params["embedding"]), size=(3, run.config.model.context))
    ours = Transformer.apply(run.config.model, params, jnp.asarray(tokens)) @ params["embedding"].T
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("the sun ")["input_ids"]
