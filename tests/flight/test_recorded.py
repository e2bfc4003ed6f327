"""The configuration of a run: a damaged config.yaml is made anew from what a checkpoint says, and is never believed."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from launching import final_bits, ledger, start, wait_for

import train
from pipeline.checkpoint import layout, restore
from pipeline.config import BadInput, Config, dump_yaml, load
from pipeline.drill.damage import ANY, DELETED, wound
from pipeline.flight import run as flight
from pipeline.flight.directory import open_directory
from pipeline.flight.recorded import Found, look, record, recorded
from pipeline.ground.run_directory import open_run


@pytest.fixture
def command(tiny: Path, tmp_path: Path) -> list[str]:
    size = ["--budget.orbits", "null", "--budget.steps", "20"]
    return ["--config", str(tiny), "--run_dir", str(tmp_path / "run"), *size, "--json"]


def test_damaged_in_any_way_it_is_made_anew_and_the_run_goes_on(command: list[str], tmp_path: Path) -> None:
    run, dice = tmp_path / "run", random.Random(0)
    assert train.main(command) == 0
    written, bits = (run / "config.yaml").read_bytes(), final_bits(run)
    config = recorded(run)
    for way in (*ANY, DELETED) * 20:  # what each launch reads of it
        wound(run / "config.yaml", dice, (way,))
        assert recorded(run) == config
        (run / "config.yaml").write_bytes(written)
    (run / "config.yaml").write_bytes(written.replace(b"seed: 0", b"seed: 4"))  # by itself a whole configuration
    assert train.main(command) == 0
    assert (run / "config.yaml").read_bytes() == written
    assert final_bits(run) == bits
    assert [event["config_found"] for event in ledger(run, "resume")] == ["damaged"]
    assert train.main([*command, "--seed", "4"]) == 2, "nor is it another run now"


def test_a_damaged_checkpoint_is_not_asked(command: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train.main(command) == 0
    config = recorded(run)
    (run / "config.yaml").unlink()
    first, *_, last = layout.steps(run / "checkpoints")
    meta = layout.path(run / "checkpoints", last) / restore.META
    meta.write_bytes(meta.read_bytes().replace(b'"seed": 0', b'"seed": 4'))
    assert recorded(run) == config, f"that is of step {first}"


def test_where_nothing_was_sealed_a_damaged_one_stands_in_nobodys_way(command: list[str], tmp_path: Path) -> None:
    config = load(command[:-1])
    config.directory.mkdir()
    record(config)
    path = config.directory / "config.yaml"
    assert recorded(config.directory) == config
    written = path.read_bytes()
    lines = written.splitlines(keepends=True)
    for damage in (
        *(b"".join(lines[:count]) for count in range(1, len(lines))),  # some are YAML still, all else at its default
        *(written.replace(b"seed: 0", b"seed: 4"), b"", written[:-2], written[:20], bytes(len(written))),
    ):
        path.write_bytes(damage)
        assert look(config.directory) is Found.DAMAGED
        assert recorded(config.directory) is None
    path.write_bytes(written.replace(b"seed: 0", b"seed: 4"))
    assert train.main(command) == 0


def test_where_no_checkpoint_at_home_says_it_the_second_device_does(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    command = [*command, "--checkpoint.mirror_dir", str(tmp_path / "second")]
    run = tmp_path / "run"
    assert train.main(command) == 0
    for step in layout.steps(run / "checkpoints"):
        (layout.path(run / "checkpoints", step) / restore.META).write_bytes(b"{}")
    config = run / "config.yaml"
    config.write_bytes(config.read_bytes().replace(b"seed: 0", b"seed: 4"))
    shutil.rmtree(tmp_path / "second/run/checkpoints" / str(layout.steps(run / "checkpoints")[0]))  # not yet copied
    assert recorded(run) is None
    assert train.main([*command, "--seed", "4"]) == 2
    assert train.main(command) == 0


@pytest.mark.slow
def test_the_budget_of_the_cooldown_outlives_the_file(command: list[str], tmp_path: Path) -> None:
    """It was changed, as it may be, and decided upon; the power went before the next seal, and the file with it."""
    run, other = tmp_path / "run", [*command[:-2], "600", "--json"]
    shutil.copytree(_stopped(command, run), tmp_path / "older")
    assert train.main(other) == 0  # decides
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(tmp_path / "older/checkpoints", run / "checkpoints")
    (run / "config.yaml").unlink()
    assert train.main(command) == 2, "that budget was left"
    assert train.main([*command[:-2], "20000", "--json"]) == 2, "and that, though it is what was sealed under"
    assert train.main(other) == 0
    assert layout.steps(run / "checkpoints")[-1] == 600


def _stopped(command: list[str], run: Path) -> Path:
    """The run, sealed before its cooldown was decided."""
    process = start(*command[:-2], "20000", "--json")
    wait_for("first_step", run, process)
    process.terminate()
    assert process.wait(60) == 75
    assert not ledger(run, "cooldown")
    return run


def test_the_ground_reads_what_a_checkpoint_says_and_verify_names_the_file(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train.main(command) == 0
    whole = open_run(run).config
    path = run / "config.yaml"
    assert train.main(["verify", str(run)]) == 0
    path.write_bytes(path.read_bytes().replace(b"rope_theta: 10000", b"rope_theta: 90000"))
    assert open_run(run).config == whole
    capsys.readouterr()
    assert train.main(["verify", str(run)]) == 1
    assert capsys.readouterr().err.strip() == f"{path}: damaged"
    path.unlink()
    assert open_run(run).config == whole
    assert train.main(["verify", str(run)]) == 1
    assert capsys.readouterr().err.strip() == f"{path}: lost"


def test_a_damaged_tokeniser_is_named_not_used_and_made_anew(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command += ["--corpus.tokenizer", "char"]
    assert train.main(command) == 0
    path = run / "tokenizer.json"
    written = path.read_bytes()
    assert open_run(run).tokenizer() is not None
    path.write_bytes(written.replace(b'"s": ', b'"t": '))
    assert path.read_bytes() != written
    for damaged in (path.read_bytes(), written[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"tokenizer\.json: not what was sealed"):
            open_run(run).tokenizer()
    capsys.readouterr()
    assert train.main(["verify", str(run)]) == 1
    assert capsys.readouterr().err.strip() == f"{path}: damaged"
    assert train.main(command) == 0
    assert path.read_bytes() == written
    path.write_bytes(written.replace(b'"s": ', b'"t": '))
    shutil.rmtree(run / "checkpoints")
    assert open_run(run).tokenizer() is not None, "without a hash nothing notices it"


@pytest.mark.parametrize("name", ["tokenizer.json", "ledger.jsonl"])
def test_a_run_is_done_whatever_of_it_can_be_shown(
    name: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def struck(config: Config, quiet: bool = False) -> tuple[flight.Outcome, dict[str, Any]]:
        ended = fly(config, quiet)
        (tmp_path / "run" / name).write_bytes(b"")
        return ended

    fly = flight.fly
    monkeypatch.setattr(flight, "fly", struck)
    assert train.main(command[:-1]) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"train.py run: {tmp_path}/run/{name}: ")


def test_a_run_begun_before_there_were_hashes_is_read_as_it_is(command: list[str], tmp_path: Path) -> None:
    config = load(command[:-1])
    config.directory.mkdir()
    path = config.directory / "config.yaml"
    path.write_text(dump_yaml(config).replace("seed: 0", "seed: 4"))
    control = recorded(config.directory)
    assert control is not None
    assert control.seed == 4, "without a hash nothing notices it"
    path.write_text(dump_yaml(config))
    assert recorded(config.directory) == config
    (config.directory / "checkpoints/10").mkdir(parents=True)  # whose meta.json knows no configuration
    path.write_bytes(b"\0" * 100)
    assert recorded(config.directory) is None
    with pytest.raises(BadInput, match=r"checkpoints, but no config\.yaml that is whole; copy it back"):
        open_directory(config)
