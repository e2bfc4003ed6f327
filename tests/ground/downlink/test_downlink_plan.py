"""What the passes of a station bring down, and how much the shipped models need."""

import json
from pathlib import Path

import pytest
import shipped

from pipeline.config import BadInput, load
from pipeline.config.mission import Radio, Station
from pipeline.ground.downlink import main
from pipeline.ground.downlink.pack import pack
from pipeline.ground.downlink.plan import _fill, pass_bytes, plan
from pipeline.lm import qwen3
from pipeline.orbit import Pass, passes, track

REDMOND = Station(name="Redmond", latitude_deg=47.674, longitude_deg=-122.12)


def int8_bytes(run: str, vocab_size: int) -> int:
    """Of the int8 weights of a shipped run, without the names in their file."""
    model = load(["--config", str(shipped.CONFIGS / f"{run}.yaml")]).model
    shapes = qwen3.tensor_shapes(model, vocab_size).values()
    return sum(4 * shape[0] + (shape[0] * shape[1] if len(shape) == 2 else 0) for shape in shapes)


def test_a_pass_carries_its_seconds_times_the_rate_that_is_of_use() -> None:
    assert pass_bytes(Radio(downlink_mbit_s=2.0, usable=0.75), Pass(0.0, 480.0, 90.0)) == 90_000_000


def test_the_first_s_band_pass_of_starcloud_1_carries_the_weights_of_shakespeare_and_not_of_gpt2() -> None:
    radio = shipped.satellite("starcloud-1").radio
    assert (radio.downlink_mbit_s, radio.usable) == (2.0, 0.75)
    seen = passes(track(shipped.orbit("starcloud-1")), REDMOND, 0.0, 86400.0)
    first, second = (pass_bytes(radio, each) / 1e6 for each in seen[:2])
    assert (first, second) == (pytest.approx(59.9, abs=0.1), pytest.approx(84.7, abs=0.1))
    shakespeare, gpt2 = int8_bytes("shakespeare", 65) / 1e6, int8_bytes("gpt2-124m", 50304) / 1e6
    assert shakespeare == pytest.approx(10.7, abs=0.1)
    assert shakespeare < first
    assert gpt2 == pytest.approx(124.3, abs=0.5)
    assert first < gpt2 < first + second


def test_chunks_keep_their_order_and_none_is_split() -> None:
    assert _fill([10, 3, 20], [4, 6, 5, 5, 9]) == [1, 1, 3, 3, 3]
    assert _fill([10], [4, 7, 1]) == [1, None, None]
    assert _fill([], [1]) == [None]


def test_the_plan_is_of_what_pack_writes(run_dir: Path, tmp_path: Path) -> None:
    packed = pack(run_dir, tmp_path / "chunks")
    planned = plan(run_dir, REDMOND, start_s=0.0)
    assert [(f["path"], f["sent"]) for f in planned["files"]] == [(f["path"], f["sent"]) for f in packed["files"]]
    assert {file["pass"] for file in planned["files"]} == {1}
    assert planned["passes"][0]["start_s"] == pytest.approx(17818.5, abs=1.0)
    assert planned["passes"][0]["utc"].startswith("2026-07-26T08:47")
    copies = packed["groups"]["manifest"]
    assert packed["bytes"] - copies < planned["passes"][0]["used"] < packed["bytes"]
    assert planned["provenance"] == "modelled"


def test_a_narrow_link_brings_groups_one_after_the_other(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run_dir / "config.yaml").read_text()
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run_dir.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "config.yaml").unlink()
    (copy / "config.yaml").write_text(text.replace("downlink_mbit_s: 2.0", "downlink_mbit_s: 0.003"))
    arguments = ["plan", str(copy), "--station", "Redmond,47.674,-122.12", "--chunk-kib", "16", "--from", "0"]
    assert main([*arguments, "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert groups["ledger"]["pass"] <= groups["weights"]["pass"] < groups["checkpoint"]["pass"]
    assert main([*arguments, "--days", "0.25"]) == 0
    said = capsys.readouterr().out
    assert "modelled" in said
    assert "not whole after the 1 passes looked at: " in said
    assert main(["plan", str(copy), "--station", "Svalbard,78.2,15.4"]) == 0
    assert "not whole after the 0 passes" in capsys.readouterr().out


def test_a_station_is_given_or_named(run_dir: Path) -> None:
    for text in ("Nowhere", "A,1", "A,100,0", "A,x,0", "A,1,2,3,4"):
        with pytest.raises(BadInput, match="--station"):
            main(["plan", str(run_dir), "--station", text])
    with pytest.raises(BadInput, match="--station: none"):
        main(["plan", str(run_dir)])
