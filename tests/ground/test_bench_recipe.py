"""The ablation trains what it says, keeps what is done, and holds each row against the recipe of the same seed."""

import json
from pathlib import Path

import pytest
from benching import write_config

from pipeline.config import BadInput, Config, load, shipped
from pipeline.ground.bench import main, recipe
from pipeline.lm.flops import matrix_parameters


@pytest.mark.parametrize("name", ["shakespeare-cpu", "shakespeare"])
def test_every_row_is_a_valid_configuration_of_about_the_same_size(name: str) -> None:
    config = load(["--config", str(shipped.CONFIGS / f"{name}.yaml")])
    whole = matrix_parameters(config.model, 65)
    rows = recipe.variants(config)
    assert rows[recipe.WHOLE] == {}
    for name, keys in rows.items():
        other = recipe.changed(config, keys)
        assert (other == config) == (name == recipe.WHOLE), name
        assert matrix_parameters(other.model, 65) == pytest.approx(whole, rel=0.02), name


def test_a_change_that_is_not_valid_is_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        recipe.changed(Config(), {"model.heads": 3})


@pytest.mark.slow
def test_each_result_is_kept_as_it_comes_and_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.jsonl"
    command = ["recipe", "--config", str(write_config(tmp_path)), "--steps", "6", "--seeds", "1", "--out", str(kept)]
    command += ["--only", "recipe,adamw"]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [line["name"] for line in lines] == ["recipe", "adamw"]
    assert answer["rows"]["adamw"]["worse_by"] == pytest.approx(lines[1]["loss"] - lines[0]["loss"])
    assert 0.0 < lines[0]["loss"] != lines[1]["loss"]

    def never(config: Config, steps: int) -> dict[str, float]:
        raise AssertionError("it was done already")

    monkeypatch.setattr(recipe, "_train", never)
    with kept.open("a") as file:
        file.write('{"name": "cut o')  # the bench was killed here
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"{lines[1]['loss']:.4f}" in printed
    with pytest.raises(AssertionError, match="done already"):
        main([*command, "--optimizer.beta1", "0.8"])


def test_a_row_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="--only: sgd: not known"):
        main(["recipe", "--only", "recipe,sgd"])
