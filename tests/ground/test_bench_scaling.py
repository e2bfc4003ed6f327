"""Scaling measures every size it is given, and its exponent is 1 where the formula holds."""

import json
from pathlib import Path

import pytest

from pipeline.config import BadInput, Config
from pipeline.ground.bench import main, program, scaling
from pipeline.lm.flops import matrix_parameters


@pytest.mark.slow
def test_sizes_are_measured_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(program, "apart", program.measure)  # here, where the tests share a cache
    picture = tmp_path / "scaling.png"
    command = ["scaling", "--sizes", "1x32,2x64", "--repeats", "2", "--train.batch", "2", "--model.context", "32"]
    command += ["--train.device", "cpu", "--out", str(picture)]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    small, large = answer["rows"]
    assert small["parameters"] < large["parameters"]
    assert small["flops_per_token"] < large["flops_per_token"]
    for row in answer["rows"]:
        assert 0.0 < row["share_of_peak"]["median"] < 1.0
        assert row["over_formula"] == pytest.approx(row["peak_mb"] / row["formula_mb"])
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_the_exponent_is_of_time_over_the_peak(power: float) -> None:
    rows = [
        {"flops_per_token": flops, "token_s": {"median": flops**power / peak}, "peak_flops_per_s": peak}
        for flops, peak in ((1e6, 2e9), (1e7, 1e9), (1e8, 3e9))
    ]
    assert scaling.exponent(rows) == pytest.approx(power)
    assert scaling.exponent(rows[:1]) is None


def test_the_sizes_reach_from_1_m_to_100_m_parameters() -> None:
    shapes = [scaling.shaped(Config(), *size).model for size in scaling.SIZES]
    counts = [matrix_parameters(shape, scaling.VOCABULARY) for shape in shapes]
    assert counts == sorted(counts)
    assert 0.5e6 < counts[0] < 1.5e6
    assert 90e6 < counts[-1] < 110e6


@pytest.mark.parametrize("sizes", ["4", "4x", "axb", ""])
def test_a_size_that_is_none_is_named(sizes: str) -> None:
    with pytest.raises(BadInput, match="--sizes"):
        main(["scaling", "--sizes", sizes])
