"""The configuration of a run: a damaged config.yaml is made anew from what a checkpoint says, and is never believed."""

import random
from pathlib import Path

import pytest
from launching import final_bits, ledger

import train
from pipeline.checkpoint import layout, restore
from pipeline.config import BadInput, dump_yaml, load
from pipeline.drill.damage import ANY, DELETED, wound
from pipeline.flight.directory import open_directory
from pipeline.flight.recorded import record, recorded


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
    assert [event["config_damaged"] for event in ledger(run, "resume")] == [True]
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
    path.write_bytes(path.read_bytes()[:100])
    assert recorded(config.directory) is None
    assert train.main(command) == 0


def test_a_run_begun_before_there_were_hashes_is_read_as_it_is(command: list[str], tmp_path: Path) -> None:
    config = load(command[:-1])
    config.directory.mkdir()
    path = config.directory / "config.yaml"
    path.write_text(dump_yaml(config))
    assert recorded(config.directory) == config
    (config.directory / "checkpoints/10").mkdir(parents=True)  # whose meta.json knows no configuration
    path.write_bytes(b"\0" * 100)
    assert recorded(config.directory) is None
    with pytest.raises(BadInput, match=r"checkpoints, but no config\.yaml that is whole; copy it back"):
        open_directory(config)
