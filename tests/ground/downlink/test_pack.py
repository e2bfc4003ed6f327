"""A run that really trained, down and up again: the order, the differences, and that it can be used."""

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.checkpoint import durable
from pipeline.config import BadInput, RunFailed
from pipeline.ground.downlink import main, manifest
from pipeline.ground.downlink import pack as module
from pipeline.ground.downlink.chunk import decode
from pipeline.ground.downlink.pack import pack
from pipeline.ground.downlink.unpack import unpack
from pipeline.ground.export_int8 import write_back
from pipeline.ground.int8 import dequantise
from pipeline.ground.run_directory import open_run
from pipeline.ground.verify import main as verify

CHUNK = 16 << 10


@pytest.fixture
def run(run_dir: Path, tmp_path: Path) -> Path:
    """With a ledger, and nothing but the first sealed step."""
    copy = Path(shutil.copytree(run_dir, tmp_path / "run"))
    line = '{"event": "step", "mission_s": 60.0, "step": 20, "wall": 1.0, "at": 20}\n'
    (copy / "ledger.jsonl").write_text(line * 50)
    shutil.rmtree(copy / "checkpoints" / "40")
    return copy


def order_of(folder: Path) -> list[str]:
    return [decode(path.read_bytes()).head.file.path for path in sorted(folder.iterdir())]


def test_the_most_useful_comes_first_and_the_manifest_before_and_after(run: Path, tmp_path: Path) -> None:
    packed = pack(run, tmp_path / "out", chunk_bytes=CHUNK)
    order = order_of(tmp_path / "out")
    files = list(dict.fromkeys(path for path in order if path != "manifest.json"))
    assert files[:2] == ["ledger.jsonl", "config.yaml"]
    firsts = [next(i for i, path in enumerate(order) if path.startswith(what)) for what in ("weights/", "checkpoints/")]
    lasts = [max(i for i, path in enumerate(order) if path.startswith(what)) for what in ("ledger", "weights/")]
    assert lasts[0] < firsts[0] <= lasts[1] < firsts[1]
    assert order[0] == order[-1] == "manifest.json" or order[-2] == "manifest.json"
    assert order.count("manifest.json") >= 4
    assert packed["chunks"] == len(order)
    assert packed["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert sum(file["sent"] for file in packed["files"]) == packed["bytes"] - packed["groups"]["manifest"]


def test_equal_runs_give_equal_chunks_named_by_their_hash(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(run, tmp_path / name, chunk_bytes=CHUNK)
    a, b = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert a == b
    assert all(decode(data).address.startswith(name.split("-")[1].removesuffix(".chunk")) for name, data in a.items())


def test_what_came_down_is_a_run_that_is_whole(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(run, tmp_path / "chunks", chunk_bytes=CHUNK)
    assert unpack(tmp_path / "chunks", tmp_path / "out")["missing"] == {}
    assert verify([str(tmp_path / "out")]) == 0, capsys.readouterr()
    ours, theirs = (open_run(path).weights() for path in (run, tmp_path / "out"))
    assert ours.step == theirs.step == 20
    np.testing.assert_array_equal(ours.params["embedding"], theirs.params["embedding"])


def test_weights_can_be_used_without_the_checkpoint(run: Path, tmp_path: Path) -> None:
    pack(run, tmp_path / "chunks", chunk_bytes=CHUNK, last="weights")
    unpack(tmp_path / "chunks", tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoints").exists()
    write_back(tmp_path / "out" / "weights" / "20", tmp_path / "fp32")
    stored = dequantise(load_file(tmp_path / "out" / "weights" / "20" / "model.int8.safetensors"))
    found = load_file(tmp_path / "fp32" / "model.safetensors")
    assert all(np.array_equal(found[name], stored[name]) for name in stored)


def test_the_next_pack_holds_what_is_new_and_weights_as_differences(run: Path, run_dir: Path, tmp_path: Path) -> None:
    first = pack(run, tmp_path / "1", chunk_bytes=CHUNK)
    unpack(tmp_path / "1", tmp_path / "out")
    received = tmp_path / "out" / "received.json"
    nothing = pack(run, tmp_path / "2", received, CHUNK)
    assert sum(file["sent"] for file in nothing["files"]) == 0
    assert set(order_of(tmp_path / "2")) == {"manifest.json"}

    with (run / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"event": "step", "mission_s": 120.0, "step": 40, "wall": 2.0, "at": 40}\n')
    shutil.copytree(run_dir / "checkpoints" / "40", run / "checkpoints" / "40")
    second = pack(run, tmp_path / "3", received, CHUNK)
    sent = {file["path"]: file["sent"] for file in second["files"]}
    assert 0 < sent["ledger.jsonl"] < 700, "one line and a head"
    assert sent["config.yaml"] == 0
    whole = {file["path"]: file["sent"] for file in pack(run, tmp_path / "4", chunk_bytes=CHUNK)["files"]}
    name = "weights/40/model.int8.safetensors"
    assert sent[name] < 0.95 * whole[name], "twenty steps of a fast young run move much of it"
    shutil.rmtree(tmp_path / "1")  # what is whole needs its chunks no more
    assert unpack(tmp_path / "3", tmp_path / "out")["missing"] == {}
    for path in ("ledger.jsonl", "checkpoints/40/SEAL"):
        assert (tmp_path / "out" / path).read_bytes() == (run / path).read_bytes()
    unpack(tmp_path / "4", tmp_path / "other")
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert first["bytes"] > 0


def test_the_listing_of_a_part_brings_the_rest_and_no_more(run: Path, tmp_path: Path) -> None:
    pack(run, tmp_path / "all", chunk_bytes=CHUNK)
    (tmp_path / "inbox").mkdir()
    for number, path in enumerate(sorted((tmp_path / "all").iterdir())):
        if number % 3:
            shutil.copy(path, tmp_path / "inbox")
    lacking = unpack(tmp_path / "inbox", tmp_path / "out")["missing"]
    assert any(path.startswith("checkpoints/") for path in lacking)
    pack(run, tmp_path / "rest", tmp_path / "out" / "received.json", CHUNK)
    heads = [decode(path.read_bytes()).head for path in sorted((tmp_path / "rest").iterdir())]
    asked = {path: set(map(tuple, lack["bytes"])) for path, lack in lacking.items()}
    for head in heads:
        if head.file.path != "manifest.json":
            span = (head.offset, head.offset + head.length)
            assert any(a <= span[0] and span[1] <= b for a, b in asked[head.file.path] | {(0, 0)})
    for path in (tmp_path / "rest").iterdir():
        shutil.copy(path, tmp_path / "inbox")
    assert unpack(tmp_path / "inbox", tmp_path / "out")["missing"] == {}
    assert verify([str(tmp_path / "out")]) == 0


def test_weights_go_down_without_a_tokenizer_that_is_damaged(run: Path, tmp_path: Path) -> None:
    (run / "tokenizer.json").write_text("{}")
    pack(run, tmp_path / "chunks", chunk_bytes=CHUNK, last="weights")
    assert unpack(tmp_path / "chunks", tmp_path / "out")["missing"] == {}
    write_back(tmp_path / "out" / "weights" / "20", tmp_path / "fp32")
    assert not (tmp_path / "fp32" / "tokenizer.json").exists()


def test_a_run_that_was_never_saved_sends_what_it_has(make_bare_run: Callable[[Path], Path], tmp_path: Path) -> None:
    pack(make_bare_run(tmp_path / "run"), tmp_path / "chunks")
    found = unpack(tmp_path / "chunks", tmp_path / "out")
    assert found["complete"] == [
        *("config.yaml", "ledger.jsonl", "manifest.json", "plan.json", "tensorboard/events.1", "tensorboard/events.2")
    ]


def test_a_file_that_shrinks_or_goes_while_it_is_read_is_named(
    make_bare_run: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.ground.downlink import pack as module

    run = make_bare_run(tmp_path / "run")
    real = module.encode

    def encode(*given: object) -> tuple[str, bytes]:
        (run / "ledger.jsonl").write_text("")
        return real(*given)

    monkeypatch.setattr(module, "encode", encode)
    with pytest.raises(RunFailed, match=r"ledger\.jsonl: became shorter"):
        pack(run, tmp_path / "chunks", chunk_bytes=512)


def test_a_checkpoint_that_goes_after_its_weights_were_read_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.ground.downlink import sources as module

    real = module.int8_files

    def thinned_out(*given: object) -> dict[str, bytes]:
        files = real(*given)
        shutil.rmtree(run / "checkpoints" / "20")
        return files

    monkeypatch.setattr(module, "int8_files", thinned_out)
    with pytest.raises(RunFailed, match=r"checkpoints/20: SEAL: missing; .*: run it again$"):
        pack(run, tmp_path / "out", chunk_bytes=CHUNK)
    assert not (tmp_path / "out").exists()


def test_a_pack_that_fails_leaves_nothing_and_says_what_can_be_packed(run: Path, tmp_path: Path) -> None:
    (run / "checkpoints" / "20" / "SEAL").unlink()
    with pytest.raises(RunFailed, match=r"step 20: SEAL: missing; restore a copy .*; .* --until metrics$"):
        pack(run, tmp_path / "out", chunk_bytes=CHUNK)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir(mode=0o700)
    with pytest.raises(RunFailed):
        pack(run, tmp_path / "out", chunk_bytes=CHUNK)
    assert pack(run, tmp_path / "out", chunk_bytes=CHUNK, last="metrics")["chunks"] > 0
    assert unpack(tmp_path / "out", tmp_path / "ground")["missing"] == {}


def test_a_full_disk_is_no_bad_input_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(durable, "fsync_tree", full)
    with pytest.raises(RunFailed, match="no space; free some, or give --until"):
        pack(run, tmp_path / "out", chunk_bytes=CHUNK)
    assert not (tmp_path / "out").exists()


def test_a_second_pack_into_the_same_folder_waits_for_the_first_and_is_refused(
    make_bare_run: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out, refused, real = make_bare_run(tmp_path / "run"), tmp_path / "out", [], module.moment

    def another() -> None:
        with pytest.raises(BadInput, match="is not empty") as error:
            pack(run, out, chunk_bytes=512)
        refused.append(error)

    second = threading.Thread(target=another)

    def moment(*given: Any) -> Any:
        if second.ident is None:  # the first has found the folder empty, and written nothing yet
            second.start()
            second.join(0.3)
        return real(*given)

    monkeypatch.setattr(module, "moment", moment)
    packed = pack(run, out, chunk_bytes=512)
    second.join()
    assert refused
    assert len(list(out.iterdir())) == packed["chunks"]


def test_a_manifest_that_the_ground_would_not_read_is_not_written(
    make_bare_run: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "LARGEST", 1 << 10)
    with pytest.raises(RunFailed, match=r"manifest has .* bytes; give a larger --chunk-kib"):
        pack(make_bare_run(tmp_path / "run"), tmp_path / "out", chunk_bytes=512)
    assert not (tmp_path / "out").exists()


def test_bad_input_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--out: .*is not empty"):
        pack(run, run)
    (tmp_path / "list").write_text('{"whole": []}')
    with pytest.raises(BadInput, match="not what `downlink unpack` writes"):
        pack(run, tmp_path / "x", tmp_path / "list")
    with pytest.raises(BadInput, match=r"no\.json: No such file"):
        pack(run, tmp_path / "x", tmp_path / "no.json")
    assert not (tmp_path / "x").exists(), "nothing is begun that cannot be done"


def test_the_verbs_pack_and_unpack(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chunks, out = str(tmp_path / "chunks"), str(tmp_path / "out")
    assert main(["pack", str(run), "--out", chunks, "--chunk-kib", "16", "--until", "weights"]) == 0
    assert "chunks" in capsys.readouterr().out
    lost = sorted((tmp_path / "chunks").iterdir())[1]
    data = lost.read_bytes()
    lost.unlink()
    assert main(["unpack", chunks, "--out", out]) == 75
    assert f"{decode(data).head.file.path}: bytes 0-" in capsys.readouterr().out
    lost.write_bytes(data)
    assert main(["unpack", chunks, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == {}
    assert main(["unpack", chunks, "--out", out]) == 0
    with pytest.raises(BadInput, match="downlink: fetch: not known"):
        main(["fetch"])
    with pytest.raises(BadInput, match="--chunk-kib"):
        main(["pack", str(run), "--out", chunks, "--chunk-kib", "2000"])
