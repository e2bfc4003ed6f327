"""The configuration: what ships loads, what is saved loads back, and every key is described."""

import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import BaseModel, ValidationError

from pipeline.config import BadInput, Config, dump_yaml, load, load_file

ROOT = Path(__file__).parents[1]
RUNS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_run_loads_with_its_parts_from_anywhere(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(["--config", str(path)])
    assert config.name == path.stem
    assert config.satellite.array.area_m2 > 0


@pytest.mark.parametrize("kind", ["orbits", "satellites", "gpus"])
def test_every_shipped_part_can_stand_in_a_run(kind: str) -> None:
    parts = sorted((ROOT / "configs" / kind).glob("*.yaml"))
    assert len(parts) >= 3
    for part in parts:
        config = load(["--config", str(ROOT / "configs" / "demo.yaml"), f"--{kind.removesuffix('s')}", str(part)])
        assert getattr(config, kind.removesuffix("s")).name


def test_a_gpu_curve_is_called_measured_only_with_its_date_and_driver() -> None:
    for part in (ROOT / "configs" / "gpus").glob("*.yaml"):
        gpu = load(["--gpu", str(part)]).gpu
        assert gpu.provenance == ("measured" if part.stem.endswith("-measured") else "modelled")
        said = r"20\d\d-\d\d-\d\d, by duty-cycle, .*driver \d+.*jax \d+" if gpu.provenance == "measured" else "no point"
        assert re.search(said, gpu.source)


def test_a_saved_configuration_loads_back_equal(tmp_path: Path) -> None:
    config = load(["--config", str(ROOT / "configs" / "gpt2-124m.yaml"), "--model.depth", "3", "--run_dir", "x"])
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_file(tmp_path / "config.yaml") == config


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    depth=st.integers(1, 256),
    width=st.none() | st.integers(1, 2048).map(lambda eights: 8 * eights),
    heads=st.none() | st.integers(1, 64),
    head_dim=st.none() | st.integers(1, 128).map(lambda twos: 2 * twos),
    context=st.integers(2, 131072),
)
def test_what_follows_from_a_size_that_is_accepted_is_accepted_when_it_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, **model: int | None
) -> None:
    try:
        config = Config(model=model)
    except ValidationError:
        return
    saved = tmp_path_factory.getbasetemp() / "config.yaml"
    saved.write_text(dump_yaml(config), encoding="utf-8")
    assert load_file(saved) == config


def test_files_are_read_as_utf8_in_any_locale(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from pipeline.config import dump_yaml, load, load_file
config = load(["--config", sys.argv[1] + "/run.yaml"])
saved = Path(sys.argv[1], "config.yaml")
saved.write_bytes(dump_yaml(config).encode())
assert load_file(saved) == config
print(ascii(config.satellite.name))
"""
    (tmp_path / "run.yaml").write_text("satellite: {name: Überflug}", encoding="utf-8")
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, tmp_path]
    read = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert read.stdout == "'\\xdcberflug'\n", read.stderr


# Ten lines that stand for 10^10 numbers.
BOMB = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11))


@pytest.mark.parametrize(
    "text",
    [
        "budget: {until: 2026-99-99}",
        "seed: " + "9" * 5000,
        "seed: " + "[" * 5000,
        "name: &a a\nrun_dir: *a",
        BOMB,
        "just words",
        "- 1",
        "1: 2",
        "",
    ],
)
@pytest.mark.timeout(60)  # BOMB takes longer than anybody waits, where it is read
def test_a_saved_configuration_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(BadInput, match="not a run's configuration") as refusal:
        load_file(tmp_path / "config.yaml")
    assert "\n" not in str(refusal.value)
    if "99" in text:
        with pytest.raises(BadInput):
            load(["--config", str(tmp_path / "config.yaml")])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("seed: " + "[" * 60 + "]" * 60, "more than 50 deep"),  # at 60,000 the parser ends the process
        ("- " * 60 + "a", "more than 50 deep"),
        ("seed: 1 #" + "x" * 300_000, "more than 262,144 characters"),
        ("seed: 0x" + "f" * 4000, "seed: a number of thousands of digits: input"),
        ("seed: " + ":".join(["59"] * 3000), "seed: a number of thousands of digits: input"),
        ("x" * 900 + "y: 1", "x: 1: extra inputs"),
        (f"name: [{', '.join('x' * 900)}]", "'x', 'x"),
    ],
)
def test_a_saved_configuration_can_neither_end_the_process_nor_fill_the_screen(
    text: str, names: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"not (a run.s configuration|as this version of Dayside has it): ") as refusal:
        load_file(tmp_path / "config.yaml")
    assert names in str(refusal.value)
    assert len(str(refusal.value).removeprefix(str(tmp_path))) < 500


def test_every_key_is_described() -> None:
    def bare(model: type[BaseModel], path: str = "") -> list[str]:
        found = []
        for key, field in model.model_fields.items():
            found += [] if field.description else [path + key]
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                found += bare(field.annotation, f"{path}{key}.")
        return found

    assert bare(Config) == []


def test_the_command_line_wins_over_the_file() -> None:
    config = load(["--config", str(ROOT / "configs" / "demo.yaml"), "--model.depth", "7"])
    assert (config.model.depth, config.model.width) == (7, 128)


def test_depth_alone_gives_width_heads_batch_and_rates() -> None:
    config = load(["--model.depth", "6"])
    assert (config.model.width, config.model.heads, config.model.hidden, config.train.batch) == (384, 6, 1024, 72)
    assert (config.optimizer.lr, config.optimizer.muon_lr) == (2.3e-3, 5.8e-3)
    given = load(["--model.depth", "6", "--model.width", "128", "--optimizer.lr", "0.1", "--train.batch", "3"])
    assert (given.model.width, given.model.head_dim, given.optimizer.lr, given.train.batch) == (128, 32, 0.1, 3)
    assert given.optimizer.muon_lr == 1e-2
    assert Config(**given.model_dump()) == given  # what a run directory keeps has no null to derive anew


def test_a_frozen_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load([]).seed = 3


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--model.heads", "7"], "model.heads: 7"),
        (["--model.heads", "4", "--model.kv_heads", "3"], "model.kv_heads: 3"),
        (["--train.microbatch", "5"], "train.microbatch: 5"),
        (["--corpus.source", "text"], "corpus.path"),
        (["--orbit.kind", "sso"], "orbit.altitude_km"),
        (["--gpu.curve", "[[0, 100], [1, 50]]"], "gpu.curve"),
        (["--model.attention", "cudnn", "--train.precision", "fp32"], "model.attention"),
        (["--model.attention", "cudnn", "--model.width", "40", "--model.heads", "4"], "model.head_dim: 10"),
        (["--model.attention", "cudnn", "--model.width", "1024", "--model.heads", "2"], "model.head_dim: 512"),
        (["--model.width", "1024", "--model.heads", "2"], "model.head_dim: 512, from model.heads 2 at width 1024"),
        (["--gpu.idle_w", "350"], "gpu.idle_w: 350"),
        (["--satellite.radiator.initial_c", "80"], "satellite.radiator.initial_c: 80"),
        (["--seed", "nan"], "seed"),
        (["--telemetry.source", "file", "--telemetry.path", "x"], "telemetry.source"),
        (["--gpu.actuator", "nvml"], "gpu.actuator"),
        (["--budget.orbits", ".inf"], "budget.orbits"),
        (["--budget.steps", "ten"], "budget.steps: ten: input should be a valid integer"),
        (["--model.kv_heads", "true"], "model.kv_heads: true: input should be a valid integer"),
        (["--mission.step_flops", "nan"], "mission.step_flops: nan: input should be a finite number, or null"),
        (["--budget.until", "2026-13-45"], "budget.until: 2026-13-45: input should be a valid datetime"),
        (["--orbit.altitude_km", "600"], "orbit.altitude_km: 600: of no effect with orbit.kind tle;"),
        (["--orbit", "configs/orbits/iss.yaml", "--orbit.ltan_h", "0"], "orbit.ltan_h: 0: of no effect"),
        (["--orbit", "configs/orbits/sso-ltan-1030.yaml", "--orbit.raan_deg", "9"], "orbit.raan_deg: 9: of no effect"),
        (["--telemetry.path", "eps.jsonl"], "telemetry.path: eps.jsonl: of no effect with telemetry.source simulated;"),
        (["--gpu.sm_mhz", "1200"], "gpu.sm_mhz: 1200: of no effect with gpu.actuator simulated; set that to nvml"),
        (["--corpus.path", "mine.txt"], "corpus.path: mine.txt: of no effect with corpus.source python-docs; set"),
        (["--orbit.tle", "x"], "orbit.tle: x: input should be a valid tuple, or null"),
        (["--orbit", "nosuch.yaml"], "orbit: nosuch.yaml: not there"),
        (["--gpu", "configs/orbits/iss.yaml"], "gpu.kind: no such key"),
        (["--run_dir", ""], "run_dir: '': no path"),  # of a variable of the shell that is not set
        (["--init_from="], "init_from: '': no path"),
        (["--corpus.cache_dir="], "corpus.cache_dir: '': no path"),
        (["--corpus.path="], "corpus.path: "),
    ],
)
def test_what_does_not_fit_together_is_named(arguments: list[str], names: str) -> None:
    with pytest.raises(BadInput) as refusal:
        load(arguments)
    assert str(refusal.value).startswith(names)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("section", "text", "names"),
    [
        ("gpu", "sm_mhz: x", "gpu.sm_mhz: x: input should be a valid integer"),
        ("gpu", "peak_tflops: x", "gpu.peak_tflops: x: Input should be a valid number"),
        ("gpu", "mfu: 7", "gpu.mfu: 7: Input should be less than or equal to 1"),
        ("train", "microbatch: many", "train.microbatch: many: input should be a valid integer"),
        ("gpu", "a: [1", "gpu: {}: no YAML: while parsing a flow sequence"),
        ("config", "seed: 1\nmodel:\n", "model: None: no section"),
        ("config", "model: 5\n", "model: 5: no section"),
        ("config", "run_dir: 5\n", "run_dir: 5: no path"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(section: str, text: str, names: str, tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(text)
    arguments = [[f"--{section}", str(tmp_path / "part.yaml")]]
    if section != "config":
        (tmp_path / "run.yaml").write_text(f"{section}: part.yaml\n")
        arguments.append(["--config", str(tmp_path / "run.yaml")])
    for words, said in zip(arguments, (tmp_path / "part.yaml", "part.yaml"), strict=False):
        with pytest.raises(BadInput) as refusal:
            load(words)
        assert str(refusal.value).startswith(names.format(said))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp8"])
def test_flash_attention_goes_with_all_precisions_of_16_bits_and_less(precision: str) -> None:
    assert load(["--model.attention", "cudnn", "--train.precision", precision]).model.attention == "cudnn"
