"""int8 weights: the error of each, the loss that they cost, the way back, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.config import BadInput, RunFailed
from pipeline.ground import export_folder as module
from pipeline.ground.export import export, main
from pipeline.ground.export_int8 import export_int8, write_back
from pipeline.ground.int8 import dequantise, quantise
from pipeline.ground.run_directory import open_run
from pipeline.ground.token_losses import window_losses
from pipeline.lm import qwen3


@pytest.fixture(scope="module")
def exported(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "out"
    export_int8(run_dir, out)
    return out


def test_no_weight_is_off_by_more_than_half_its_scale() -> None:
    random = np.random.default_rng(0)
    rows = 10.0 ** random.uniform(-8, 4, size=(50, 1))
    matrix = (random.standard_normal((50, 70)) * rows).astype(np.float32)
    matrix[3] = 0.0
    matrix[4] = np.float32(1e-44)  # below the smallest normal number
    vector = random.standard_normal(9).astype(np.float32)
    stored = quantise({"matrix": matrix, "vector": vector})
    assert stored["matrix"].dtype == np.int8
    assert stored["matrix"].min() == -127, "the largest of a row fills the range"
    back = dequantise(stored)
    assert list(back) == ["matrix", "vector"]
    np.testing.assert_array_equal(back["vector"], vector)
    assert np.all(np.abs(back["matrix"] - matrix) <= stored["matrix_scale"][:, None] * 0.5000001)
    np.testing.assert_array_equal(back["matrix"][3], 0.0)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="w: a weight is not finite"):
        quantise({"w": np.array([[1.0, np.inf]], np.float32)})


@pytest.mark.parametrize(
    "tensors",
    [
        {"w": np.zeros((2, 3), np.int8)},
        {"w": np.zeros((2, 3), np.int8), "w_scale": np.ones(3, np.float32)},
        {"w": np.zeros((2, 3), np.int8), "w_scale": np.ones(2, np.float64)},
        {"w": np.zeros((2, 3), np.float32)},
        {"w": np.zeros(3, np.int8)},
    ],
)
def test_what_is_not_of_the_layout_is_refused(tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="w"):
        dequantise(tensors)


def test_the_measured_loss_is_that_of_the_stored_weights(run_dir: Path, exported: Path) -> None:
    loss = json.loads((exported / "export.json").read_text())["loss"]
    run = open_run(run_dir)
    model = run.model()
    windows = model.corpus().held_out_windows(run.config.model.context)
    assert loss["windows"] == len(windows)
    assert loss["fp32"] == pytest.approx(window_losses(run.config, model.weights.params, windows).mean(), abs=1e-6)
    stored = dequantise(load_file(exported / "model.int8.safetensors"))
    model.weights.params.update(qwen3.params(run.config.model, stored.__getitem__))
    assert loss["int8"] == pytest.approx(window_losses(run.config, model.weights.params, windows).mean(), abs=1e-6)
    assert loss["difference"] == pytest.approx(loss["int8"] - loss["fp32"], abs=1e-6)
    assert loss["difference_low"] <= loss["difference"] <= loss["difference_high"]
    assert 0 < abs(loss["difference"]) < 0.02


def test_it_takes_about_a_quarter_of_the_bytes_and_equal_weights_give_equal_ones(
    run_dir: Path, exported: Path, tmp_path: Path
) -> None:
    export(run_dir, tmp_path / "fp32")
    sizes = [(tmp_path / "fp32" / module.FP32).stat().st_size, (exported / module.INT8).stat().st_size]
    assert sizes[1] < 0.4 * sizes[0], "of a model 40 wide, whose scales and names weigh more than a real one's"
    export_int8(run_dir, tmp_path / "again")
    assert (tmp_path / "again" / module.INT8).read_bytes() == (exported / module.INT8).read_bytes()


def test_the_way_back_keeps_every_number(exported: Path, tmp_path: Path) -> None:
    about = write_back(exported, tmp_path / "fp32")
    stored = dequantise(load_file(exported / "model.int8.safetensors"))
    written = load_file(tmp_path / "fp32" / "model.safetensors")
    assert written.keys() == stored.keys()
    assert all(np.array_equal(written[name], stored[name]) for name in stored)
    assert (tmp_path / "fp32" / "tokenizer.json").read_bytes() == (exported / "tokenizer.json").read_bytes()
    assert about == json.loads((tmp_path / "fp32" / "export.json").read_text())
    assert about["loss"]["int8"] > 0, "the manifest still says what the rounding cost"


def test_a_flipped_bit_in_any_file_is_refused(exported: Path, tmp_path: Path) -> None:
    for name in ("model.int8.safetensors", "config.json", "tokenizer.json"):
        copy = Path(shutil.copytree(exported, tmp_path / name))
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 4
        (copy / name).write_bytes(data)
        with pytest.raises(BadInput, match=f"{name}: is not what export.json says"):
            write_back(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_model_than_config_json_says_is_refused(exported: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    tensors = load_file(copy / module.INT8)
    tensors["model.norm.weight"] = np.ones(7, np.float32)
    save_file(tensors, copy / module.INT8)
    manifest = json.loads((copy / "export.json").read_text())
    manifest["sha256"] |= module.digests({module.INT8: (copy / module.INT8).read_bytes()})
    (copy / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput, match=r"model\.norm\.weight is not of the model in config\.json"):
        write_back(copy, tmp_path / "out")
    (copy / "export.json").write_text('{"sha256": ["../../etc/passwd"]}')
    with pytest.raises(BadInput, match="has no sha256"):
        write_back(copy, tmp_path / "out")


def test_weights_that_are_not_finite_are_not_exported(run_dir: Path) -> None:
    from pipeline.ground.export_int8 import contents

    run = open_run(run_dir)
    weights = run.weights()
    weights.params["embedding"] = np.full_like(weights.params["embedding"], np.nan)
    with pytest.raises(RunFailed, match="a weight is not finite"):
        contents(run, weights, None)


def test_the_verb_writes_both_ways(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, back = str(tmp_path / "int8"), str(tmp_path / "fp32")
    assert main([str(run_dir), "--out", out, "--int8"]) == 0
    said = capsys.readouterr().out
    assert "int8, 0.0 MB" in said
    assert "difference" in said
    assert main([out, "--out", back, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 40
    with pytest.raises(BadInput, match="int8 export already"):
        main([out, "--out", back, "--int8"])
    with pytest.raises(BadInput, match="is the int8 export itself"):
        main([out, "--out", out])
    with pytest.raises(BadInput, match=r"--corpus\.path"):
        main([str(run_dir), "--out", back, "--corpus.path", "x.txt"])
