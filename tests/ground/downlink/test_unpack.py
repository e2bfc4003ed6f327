"""Whatever comes is rebuilt exactly, or what is missing is said exactly: a thousand patterns against an oracle."""

import errno
import hashlib
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.checkpoint import durable, seal
from pipeline.config import BadInput, RunFailed
from pipeline.ground.downlink import main, manifest
from pipeline.ground.downlink import received as listing
from pipeline.ground.downlink.chunk import FURTHEST, LARGEST, LARGEST_FILE, Head, Version, decode, encode
from pipeline.ground.downlink.pack import pack
from pipeline.ground.downlink.received import merge
from pipeline.ground.downlink.unpack import unpack

CHUNK = 512


class Sent(NamedTuple):
    """Two packs of one run: the second after the ground had the first."""

    chunks: dict[Path, Head]
    versions: list[dict[str, bytes]]  # of each pack: path -> what the file was


@pytest.fixture(scope="module")
def sent(make_bare_run: Callable[[Path], Path], go_on: Callable[[Path], None], quick_dir: Path) -> Sent:
    here = quick_dir / "sent"
    run, versions = make_bare_run(here / "run"), []
    for number, received in enumerate([None, here / "ground" / "received.json"]):
        pack(run, here / str(number), received, CHUNK)
        versions.append({path: (run / path).read_bytes() for path in files_of(run)})
        unpack(here / str(number), here / "ground")
        go_on(run)
    chunks = {path: decode(path.read_bytes()).head for number in "01" for path in sorted((here / number).iterdir())}
    assert {head.file.path for head in chunks.values() if head.base} == {"ledger.jsonl", "tensorboard/events.1"}
    return Sent(chunks, versions)


def files_of(folder: Path) -> list[str]:
    ours = {"manifest.json", "received.json"}
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if path not in ours]


def deliver(sent: Sent, inbox: Path, chance: random.Random) -> tuple[set[Path], set[str]]:
    """Puts some chunks into `inbox` under names in any order. Returns the whole ones and the names of the others."""
    loss, harm = chance.choice([0.0, 0.02, 0.1, 0.5, 0.95]), chance.choice([0.0, 0.05, 0.3])
    whole, damaged = set(), set()
    for path in sent.chunks:
        if chance.random() < loss:
            continue
        for _ in range(1 + (chance.random() < 0.2)):
            name = f"{chance.getrandbits(64):016x}"
            if chance.random() >= harm:
                os.link(path, inbox / name)
                whole.add(path)
                continue
            data = bytearray(path.read_bytes())
            if chance.random() < 0.5:
                del data[chance.randrange(len(data)) :]
            else:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            (inbox / name).write_bytes(data)
            damaged.add(name)
    return whole, damaged


class Expected(NamedTuple):
    files: dict[str, bytes]  # what must be in the folder, to the byte, and nothing else
    missing: dict[str, list[tuple[int, int]]]
    manifest: bool


def expected(sent: Sent, whole: set[Path]) -> Expected:
    """What must come of the chunks `whole`, by counting them."""
    came: list[dict[str, list[Head]]] = [{}, {}]  # of each pack: path -> heads that came
    packed: list[dict[str, list[Head]]] = [{}, {}]
    for path, head in sent.chunks.items():
        number = int(path.parent.name)
        packed[number].setdefault(head.file.path, []).append(head)
        if path in whole:
            came[number].setdefault(head.file.path, []).append(head)
    manifests = [set(came[n].get("manifest.json", [])) == set(packed[n]["manifest.json"]) for n in (0, 1)]
    files, missing = {}, {}
    for name in sent.versions[0]:
        new = name in packed[1]  # the second pack holds another version of it
        first = set(came[0].get(name, [])) == set(packed[0][name])
        second = new and set(came[1].get(name, [])) == set(packed[1][name])
        based = new and packed[1][name][0].base is not None
        if second and (first or not based):
            files[name] = sent.versions[1][name]
            continue
        if first:
            files[name] = sent.versions[0][name]
        if new and (came[1].get(name) or manifests[1]):  # the second version is known of
            head = packed[1][name][0]
            if came[1].get(name) and based and not first:
                missing[name] = [(0, head.file.size)]
            else:
                missing[name] = absent(packed[1][name], came[1].get(name, []))
        elif not first and (came[0].get(name) or any(manifests)):
            missing[name] = absent(packed[0][name], came[0].get(name, []))
    for n in (1, 0):
        if manifests[n]:
            break
        if pieces := came[n].get("manifest.json"):
            missing["manifest.json"] = absent(packed[n]["manifest.json"], pieces)
            break
    return Expected(files, missing, any(manifests))


def absent(packed: list[Head], came: list[Head]) -> list[tuple[int, int]]:
    return merge([(head.offset, head.offset + head.length) for head in packed if head not in came])


def check(sent: Sent, whole: set[Path], damaged: set[str], inbox: Path, out: Path) -> bool:
    found, wanted = unpack(inbox, out), expected(sent, whole)
    assert {path: (out / path).read_bytes() for path in files_of(out)} == wanted.files
    assert {path: list(map(tuple, lack["bytes"])) for path, lack in found["missing"].items()} == wanted.missing
    assert found["manifest"] == wanted.manifest
    assert found["damaged"].keys() == damaged
    assert set(found["complete"]) - {"manifest.json"} == wanted.files.keys() - wanted.missing.keys()
    return not wanted.missing and wanted.manifest


@pytest.mark.parametrize("patterns", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_patterns_of_loss_copies_order_and_damage(patterns: int, sent: Sent, quick_dir: Path) -> None:
    done = 0
    for seed in range(patterns):
        chance = random.Random(seed)
        inbox, out = quick_dir / f"inbox-{seed}", quick_dir / f"out-{seed}"
        inbox.mkdir()
        whole, damaged = deliver(sent, inbox, chance)
        done += check(sent, whole, damaged, inbox, out)
        if seed % 4 == 0:  # another pass brings more, and the same command goes on
            more, others = deliver(sent, inbox, chance)
            check(sent, whole | more, damaged | others, inbox, out)
        shutil.rmtree(inbox)
        shutil.rmtree(out)
    assert 0 < done < patterns, "both endings must be met"


def forge(inbox: Path, path: str, content: bytes, **head: object) -> None:
    """One chunk, whole and well-formed, of whatever is asked for."""
    inbox.mkdir(exist_ok=True)
    file = Version(path, head.pop("size", len(content)), head.pop("sha256", hashlib.sha256(content).hexdigest()))
    _, data = encode(Head(head.pop("at", (1, 1.0)), file, 0, len(content), **head), content)
    (inbox / f"{len(list(inbox.iterdir()))}.chunk").write_bytes(data)


def forge_part(
    inbox: Path, content: bytes, start: int, end: int, at: tuple[int, float], of: bytes | None = None
) -> None:
    """The bytes [start, end) of `content` as a chunk of the file plan.json, which is `of`, or `content`."""
    inbox.mkdir(exist_ok=True)
    whole = of or content
    file = Version("plan.json", len(whole), hashlib.sha256(whole).hexdigest())
    _, data = encode(Head(at, file, start, end - start), content[start:end])
    (inbox / f"{len(list(inbox.iterdir()))}.chunk").write_bytes(data)


def test_no_path_of_a_chunk_leads_out_of_the_folder(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    names = ["../x", "/tmp/dayside-x", "a/../../x", "a//x", "./x", "a\\..\\x", "..", ".hidden", "a/.x", "x\0y", "x\ny"]
    names += ["", "a/", "\ud800", "7.partial/x", "x" * 600, "a/" + "x" * 201]
    for name in names:
        forge(inbox, name, b"not yours")
    found = unpack(inbox, out)
    assert len(found["damaged"]) == len(names)
    assert [path.name for path in out.iterdir()] == ["received.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inbox", "out"]


def test_no_link_is_followed_and_no_place_taken_twice(tmp_path: Path) -> None:
    inbox, out, elsewhere = tmp_path / "inbox", tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    forge(inbox, "tensorboard/a", b"a file")
    unpack(inbox, out)
    (out / "tensorboard" / "link").symlink_to(elsewhere)
    forge(inbox, "tensorboard/link/x", b"not yours")
    forge(inbox, "tensorboard/a/b", b"below a file")
    forge(inbox, "tensorboard/c/d", b"a folder is here")
    forge(inbox, "tensorboard/c", b"where a folder is", at=(2, 2.0))
    forge(inbox, "received.json", b"{}")
    forge(inbox, "manifest.json", b'{"format": 1, "files": [{"path": "../x"}]}')
    (inbox / "pipe").symlink_to("/dev/zero")
    found = unpack(inbox, out)
    assert {path: "problem" in lack for path, lack in found["missing"].items()} == dict.fromkeys(
        [*(f"tensorboard/{name}" for name in ("link/x", "a/b", "c")), "received.json", "manifest.json"], True
    )
    assert list(found["damaged"]) == ["pipe"]
    assert list(elsewhere.iterdir()) == []
    assert (out / "tensorboard" / "a").read_bytes() == b"a file"
    assert (out / "tensorboard" / "c" / "d").read_bytes() == b"a folder is here"
    assert unpack(inbox, out)["missing"].keys() == found["missing"].keys(), "and the listing is still readable"


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: os.truncate(path, 4)])
def test_what_was_complete_and_is_lost_on_the_ground_is_asked_for_again(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge(inbox, "plan.json", b'{"steps": 9}')
    assert unpack(inbox, out)["complete"] == ["plan.json"]
    harm(out / "plan.json")
    (tmp_path / "nothing").mkdir()
    assert "plan.json" not in unpack(tmp_path / "nothing", out)["complete"]
    assert "plan.json" not in listing.read(out / "received.json").whole
    assert unpack(inbox, out)["complete"] == ["plan.json"]
    assert (out / "plan.json").read_bytes() == b'{"steps": 9}'


def test_a_full_disk_on_the_ground_is_no_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge(tmp_path / "inbox", "plan.json", b"{}")

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write", full)
        with pytest.raises(RunFailed, match="no space; free some and unpack again"):
            unpack(tmp_path / "inbox", tmp_path / "out")
    assert unpack(tmp_path / "inbox", tmp_path / "out")["complete"] == ["plan.json"]


@pytest.mark.parametrize("name", ["received.json", "received.json.tmp", "received.json/x", "received.json.tmp/x"])
def test_the_place_of_the_listing_is_taken_by_nothing_that_comes(name: str, tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge(inbox, name, b"not a listing")
    forge(inbox, "ledger.jsonl", b"good", at=(2, 2.0))
    for _ in range(2):
        found = unpack(inbox, out)
        assert found["complete"] == ["ledger.jsonl"]
        assert found["missing"][name]["problem"] == "no file of a pack"
    assert sorted(path.name for path in out.iterdir()) == ["ledger.jsonl", "received.json"]


def test_what_no_pack_sends_is_not_written(tmp_path: Path) -> None:
    """Compiled programs least of all: a run that goes on from here would execute them."""
    names = ["cache/xla/SEALED", "cache/xla/jit_step-0-cache", "Cache/xla/SEALED", "wandb/x", "weights/x", "x", "x.py"]
    names += ["checkpoints/7", "checkpoints/7.deleted/x", "checkpoints/a/x", "weights/07/x", "config.yaml/x"]
    for name in names:
        forge(tmp_path / "inbox", name, b"not yours")
    missing = unpack(tmp_path / "inbox", tmp_path / "out")["missing"]
    assert {name: lack["problem"] for name, lack in missing.items()} == dict.fromkeys(names, "no file of a pack")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["received.json"]


def test_bytes_that_are_not_those_that_were_packed_are_never_written(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge(inbox, "ledger.jsonl", b"another text", sha256="0" * 64)
    found = unpack(inbox, out)
    assert "not those that were packed" in found["missing"]["ledger.jsonl"]["problem"]
    assert not (out / "ledger.jsonl").exists()
    assert not list(out.glob(".*")), "nor is a draft left behind"


@pytest.mark.parametrize("wrong", [1.0, 3.0])
def test_of_chunks_for_one_place_the_newest_counts_and_then_the_oldest(wrong: float, tmp_path: Path) -> None:
    """A flip on board between the hash of a file and that of a chunk makes a chunk that is whole and wrong."""
    content = random.Random(0).randbytes(3000)
    for seed in range(8):  # of the wrong bytes: their address must not decide
        inbox, rotten = tmp_path / str(seed), random.Random(seed).randbytes(1000)
        forge_part(inbox, content, 1000, 3000, at=(1, 1.0))
        for at in (1.0, 3.0):
            forge_part(inbox, rotten if at == wrong else content, 0, 1000, at=(1, at), of=content)
        assert unpack(inbox, tmp_path / f"out-{seed}")["missing"] == {}
        assert (tmp_path / f"out-{seed}" / "plan.json").read_bytes() == content


def test_what_is_sent_again_in_other_chunks_takes_the_place_of_a_wrong_one(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(3000)
    forge_part(tmp_path / "inbox", b"rotten" * 100, 0, 600, at=(1, 1.0), of=content)
    forge_part(tmp_path / "inbox", content, 600, 3000, at=(1, 1.0))
    assert "problem" in unpack(tmp_path / "inbox", tmp_path / "out")["missing"]["plan.json"]
    forge_part(tmp_path / "inbox", content, 0, 3000, at=(1, 2.0))
    assert unpack(tmp_path / "inbox", tmp_path / "out")["missing"] == {}


def test_a_manifest_that_is_larger_than_any_is_left_out_and_all_else_is_built(tmp_path: Path) -> None:
    inbox, out, size = tmp_path / "inbox", tmp_path / "out", manifest.LARGEST + 1
    forge_blank(inbox, "manifest.json", size)
    forge(inbox, "ledger.jsonl", b"good", at=(2, 2.0))
    found = unpack(inbox, out)
    assert found["complete"] == ["ledger.jsonl"]
    assert "no more than 16,777,216 bytes" in found["missing"]["manifest.json"]["problem"]
    assert sorted(path.name for path in out.iterdir()) == ["ledger.jsonl", "received.json"]


def forge_blank(inbox: Path, path: str, size: int) -> None:
    """A file of blanks, whole."""
    inbox.mkdir()
    file = Version(path, size, hashlib.sha256(b" " * size).hexdigest())
    for start in range(0, size, LARGEST):
        length = min(LARGEST, size - start)
        (inbox / f"{start}.chunk").write_bytes(encode(Head((1, 1.0), file, start, length), b" " * length)[1])


def test_no_draft_is_left_by_what_ends_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: bytes) -> None:
        raise MemoryError

    forge(tmp_path / "inbox", "manifest.json", b"x")
    monkeypatch.setattr(manifest, "decode", fail)
    with pytest.raises(MemoryError):
        unpack(tmp_path / "inbox", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["received.json"]


def test_a_second_unpacking_into_the_same_folder_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a draft: else what one has checked is what the other is writing when it gets its name."""
    inbox, found, real = tmp_path / "inbox", [], durable.rename
    for name in ("config.yaml", "plan.json"):
        forge(inbox, name, name.encode())
    second = threading.Thread(target=lambda: found.append(unpack(inbox, tmp_path / "out")))

    def rename(source: Path, target: Path) -> None:
        if source.name == ".rebuilding" and second.ident is None:
            second.start()
            second.join(0.3)
        real(source, target)

    monkeypatch.setattr(durable, "rename", rename)
    found.append(unpack(inbox, tmp_path / "out"))
    second.join()
    assert [one["complete"] for one in found] == [["config.yaml", "plan.json"]] * 2


def test_an_older_version_that_comes_late_replaces_nothing(sent: Sent, tmp_path: Path) -> None:
    for number in ("0", "1"):
        (tmp_path / number).mkdir()
    for path in sent.chunks:
        shutil.copy(path, tmp_path / path.parent.name)
    out = tmp_path / "out"
    unpack(tmp_path / "0", out)
    unpack(tmp_path / "1", out)
    (tmp_path / "1" / "x").write_bytes(b"x")
    assert unpack(tmp_path / "0", out)["missing"] == {}
    assert {path: (out / path).read_bytes() for path in files_of(out)} == sent.versions[1]


@pytest.mark.parametrize("lost", [False, True], ids=["a clock set back", "a ledger begun anew"])
def test_what_is_packed_later_is_newer_whatever_befell_clock_and_ledger(
    lost: bool, make_bare_run: Callable[[Path], Path], go_on: Callable[..., None], tmp_path: Path
) -> None:
    run, inbox, out = make_bare_run(tmp_path / "run"), tmp_path / "inbox", tmp_path / "out"
    pack(run, inbox / "1")
    unpack(inbox / "1", out)
    shutil.copy(out / "manifest.json", tmp_path)
    if lost:  # with the run's own disk: it went on from the second device
        (run / "ledger.jsonl").unlink()
    go_on(run, back_s=3600.0)
    pack(run, inbox / "2", out / "received.json")
    assert unpack(inbox / "2", out)["missing"] == {}
    assert {path: (out / path).read_bytes() for path in files_of(out)} == {
        path: (run / path).read_bytes() for path in files_of(run)
    }
    assert (out / "manifest.json").read_bytes() != (tmp_path / "manifest.json").read_bytes()
    packed = pack(run, inbox / "3", out / "received.json")
    assert sum(file["sent"] for file in packed["files"]) == 0, "nothing is sent again"


@pytest.mark.parametrize("ledger_bytes", [5000, 1 << 36, FURTHEST])
def test_the_latest_moment_that_a_chunk_may_name_spoils_no_later_pack(
    ledger_bytes: int, make_bare_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    run, inbox, out = make_bare_run(tmp_path / "run"), tmp_path / "inbox", tmp_path / "out"
    pack(run, inbox)
    for name in ("ledger.jsonl", "plan.json", "manifest.json"):
        forge(inbox, name, manifest.encode("not yours", []), at=(ledger_bytes, 9e11))
    ahead = unpack(inbox, out)["ahead"]
    assert len(ahead) == (3 if ledger_bytes == FURTHEST else 0)
    for number in range(3):  # again and again, with all that was forged before still there
        forge(inbox, "plan.json", b"not yours", at=(FURTHEST, 9e11 - number))
        unpack(inbox, out)
        pack(run, tmp_path / str(number), out / "received.json")
        for path in (tmp_path / str(number)).iterdir():
            shutil.copy(path, inbox)
        found = unpack(inbox, out)
        assert (found["missing"], found["damaged"], found["later"]) == ({}, {}, [])
        whole = {path: (run / path).read_bytes() for path in files_of(run)}
        assert {path: (out / path).read_bytes() for path in files_of(out)} == whole
    fresh = tmp_path / "fresh"  # once more from all that came
    assert unpack(inbox, fresh)["missing"] == {}
    assert {path: (fresh / path).read_bytes() for path in files_of(fresh)} == whole


def test_a_listing_that_believed_any_moment_is_read_and_the_next_pack_is_newer(
    make_bare_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    run, out = make_bare_run(tmp_path / "run"), tmp_path / "out"
    forge(tmp_path / "forged", "plan.json", b"not yours", at=(1, 9e11))
    unpack(tmp_path / "forged", out)
    listed = out / "received.json"
    listed.write_text(listed.read_text().replace(", 1]]", f", {LARGEST_FILE}]]"))
    assert listing.read(listed).latest == LARGEST_FILE
    pack(run, tmp_path / "chunks", listed)
    assert unpack(tmp_path / "chunks", out)["missing"] == {}
    assert (out / "plan.json").read_bytes() == (run / "plan.json").read_bytes()


def test_what_was_packed_after_many_idle_packs_is_newer_in_a_new_folder_too(
    make_bare_run: Callable[[Path], Path], go_on: Callable[[Path], None], tmp_path: Path
) -> None:
    run, inbox, listed = make_bare_run(tmp_path / "run"), tmp_path / "inbox", tmp_path / "out" / "received.json"
    pack(run, inbox)
    unpack(inbox, tmp_path / "out")
    size = (run / "ledger.jsonl").stat().st_size
    listed.write_text(listed.read_text().replace(f", {size}]]", f", {size + 200_000}]]"))
    go_on(run)
    pack(run, tmp_path / "2", listed)
    for path in (tmp_path / "2").iterdir():
        shutil.copy(path, inbox / f"2-{path.name}")
    found = unpack(inbox, tmp_path / "new")
    assert (found["missing"], found["later"], found["ahead"]) == ({}, [], [])
    assert (tmp_path / "new" / "ledger.jsonl").read_bytes() == (run / "ledger.jsonl").read_bytes()


def test_what_is_later_than_the_manifest_is_told_of(
    make_bare_run: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    pack(make_bare_run(tmp_path / "run"), inbox)
    assert unpack(inbox, out)["later"] == []
    forge(inbox, "plan.json", b"not yours", at=(1 << 36, 1.0))
    forge(inbox, "config.yaml", b"not yours", at=(FURTHEST, 1.0))
    assert main(["unpack", str(inbox), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "plan.json: later than the manifest; forged, if no later pack was sent" in said
    assert ".chunk: of a time that nothing here has come to" in said


def test_a_file_that_rotted_on_the_ground_is_asked_for_again(
    make_bare_run: Callable[[Path], Path], go_on: Callable[[Path], None], tmp_path: Path
) -> None:
    run, out = make_bare_run(tmp_path / "run"), tmp_path / "out"
    pack(run, tmp_path / "1")
    unpack(tmp_path / "1", out)
    go_on(run)
    rotten = bytearray((out / "ledger.jsonl").read_bytes())
    rotten[100] ^= 1
    (out / "ledger.jsonl").write_bytes(rotten)
    pack(run, tmp_path / "2", out / "received.json")
    assert unpack(tmp_path / "2", out)["missing"]["ledger.jsonl"]["base"] == "ledger.jsonl"
    pack(run, tmp_path / "3", out / "received.json")
    assert unpack(tmp_path / "3", out)["missing"] == {}
    assert (out / "ledger.jsonl").read_bytes() == (run / "ledger.jsonl").read_bytes()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kept", [True, False], ids=["of its chunks", "by the next pack"])
def test_a_manifest_that_rotted_on_the_ground_is_had_again(
    kept: bool, make_bare_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    run, chunks, out = make_bare_run(tmp_path / "run"), tmp_path / "chunks", tmp_path / "out"
    pack(run, chunks)
    unpack(chunks, out)
    flip(out / "manifest.json")
    if not kept:
        chunks = tmp_path / "none"
        chunks.mkdir()
        assert not unpack(chunks, out)["manifest"]
        pack(run, chunks, out / "received.json")
    found = unpack(chunks, out)
    assert (found["manifest"], found["missing"]) == (True, {})


def test_a_folder_of_something_else_is_left_alone(sent: Sent, tmp_path: Path) -> None:
    """A run directory, say: what came down must not replace what is going on."""
    (tmp_path / "ledger.jsonl").write_text("mine")
    with pytest.raises(BadInput, match=r"--out: .*holds no received\.json"):
        unpack(next(iter(sent.chunks)).parent, tmp_path)
    (tmp_path / "received.json").write_text('{"format": 1, "whole": [["../x", 1, "00", [0, 0]]], "parts": []}')
    with pytest.raises(BadInput, match=r"received\.json: not what"):
        unpack(next(iter(sent.chunks)).parent, tmp_path)
    with pytest.raises(BadInput, match="no such folder"):
        unpack(tmp_path / "none", tmp_path / "out")
    assert (tmp_path / "ledger.jsonl").read_text() == "mine"


def test_the_way_out_of_a_damaged_listing_is_named_and_is_one(sent: Sent, tmp_path: Path) -> None:
    inbox, out = next(iter(sent.chunks)).parent, tmp_path / "out"
    unpack(inbox, out)
    listing = out / "received.json"
    listing.write_bytes(listing.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"received\.json: not what .*; give a new --out$"):
        unpack(inbox, out)
    assert {path: (out / path).read_bytes() for path in files_of(out)} == sent.versions[0], "and nothing is lost"
    assert unpack(inbox, tmp_path / "new")["missing"] == {}
    with pytest.raises(BadInput, match=r"received\.json: not what .*; copy it once more, or leave --received out$"):
        pack(tmp_path / "new", tmp_path / "chunks", listing)


def test_no_more_is_listed_than_may_be_read_and_the_oldest_steps_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_LARGEST", 5000)
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge(inbox, "config.yaml", b"of the first pass")
    forge(inbox, "plan.json", b"a part", size=1000, at=(1, 1.0))
    for step in range(50):
        forge(inbox, f"weights/{step}/x", b"weights", at=(1, 2.0 + step), together=1)
    for _ in range(2):
        assert len(unpack(inbox, out)["complete"]) == 51
        listed = listing.read(out / "received.json")
        assert 20 < len(listed.whole) < 51
        assert {"config.yaml", "weights/49/x"} < listed.whole.keys()
        assert "weights/0/x" not in listed.whole
        assert list(listed.parts) == ["plan.json"]


def test_cut_short_after_any_file_it_goes_on(sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.ground.downlink import unpack as module

    inbox, real = next(iter(sent.chunks)).parent, module.durable.rename
    for cut in range(6):
        out, left = tmp_path / str(cut), [cut]

        def rename(source: Path, target: Path, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(module.durable, "rename", rename)
            with pytest.raises(KeyboardInterrupt):
                unpack(inbox, out)
        assert unpack(inbox, out)["missing"] == {}
        assert {path: (out / path).read_bytes() for path in files_of(out)} == sent.versions[0]


def seal_of(files: dict[str, bytes]) -> bytes:
    """The SEAL of step 7 with these files."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = {name: (len(data), seal.digest(data)) for name, data in files.items()}
        seal.put(Path(folder), seal.Seal(7, sizes, {}))
        return (Path(folder) / seal.NAME).read_bytes()


def forge_step(inbox: Path, at: float, files: dict[str, bytes], *come: str) -> None:
    """Those files that come of step 7 as it is at this time."""
    for name, data in (files | {"SEAL": seal_of(files)}).items():
        if name in come:
            forge(inbox, f"checkpoints/7/{name}", data, at=(1, at), together=len(files) + 1)


FIRST, AGAIN = {"d/a": b"array", "meta": b"1", "same": b"="}, {"d/b": b"array", "meta": b"2", "same": b"="}


def test_a_step_that_was_sealed_again_is_never_made_of_both(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge_step(inbox, 1.0, FIRST, "d/a", "same")
    unpack(inbox, out)
    forge_step(inbox, 2.0, AGAIN, "meta", "SEAL")  # with d/a as many as there are to be
    unpack(inbox, out)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["7.partial"]
    forge_step(inbox, 2.0, AGAIN, "d/b")
    assert unpack(inbox, out)["missing"] == {}
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["7"]
    assert seal.inspect(out / "checkpoints" / "7", 7)[1] == []
    before = files_of(out)
    forge_step(inbox, 1.0, FIRST, "meta", "SEAL")  # late
    assert unpack(inbox, out)["missing"] == {}
    assert files_of(out) == before
    assert unpack(inbox, tmp_path / "other")["missing"] == {}, "in one go as well"
    assert sorted(files_of(tmp_path / "other")) == sorted(before)


def test_a_whole_step_stays_until_the_one_that_was_sealed_again_is_whole(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge_step(inbox, 1.0, FIRST, *FIRST, "SEAL")
    unpack(inbox, out)
    shutil.rmtree(inbox)  # what is the same in both comes once
    for come in ("d/b", "SEAL"):
        forge_step(inbox, 2.0, AGAIN, come)
        unpack(inbox, out)
        assert seal.inspect(out / "checkpoints" / "7", 7)[1] == []
        assert (out / "checkpoints" / "7" / "meta").read_bytes() == b"1"
    forge_step(inbox, 2.0, AGAIN, "meta")
    assert unpack(inbox, out)["missing"] == {}
    assert seal.inspect(out / "checkpoints" / "7", 7)[1] == []
    assert (out / "checkpoints" / "7" / "meta").read_bytes() == b"2"
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["7"]
    assert "checkpoints/7/d/a" not in (out / "received.json").read_text()


def test_a_step_that_is_not_what_was_sealed_gets_no_number_and_that_is_said(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge_step(inbox, 1.0, FIRST, "d/a", "same", "SEAL")
    forge_step(inbox, 1.0, FIRST | {"meta": b"rotten"}, "meta")
    for _ in range(2):
        missing = unpack(inbox, out)["missing"]
        assert "checkpoints/7: meta: 6 bytes, sealed with 1" in missing["checkpoints/7/SEAL"]["problem"]
        assert [path.name for path in (out / "checkpoints").iterdir()] == ["7.partial"]


@pytest.mark.parametrize("name", ["d/a", "SEAL"])
@pytest.mark.parametrize("kept", [True, False], ids=["of its chunks", "by the next pack"])
def test_a_file_of_a_step_that_rotted_before_the_last_one_came_is_had_again(
    kept: bool, name: str, tmp_path: Path
) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge_step(inbox, 1.0, FIRST, "d/a", "same", "SEAL")
    unpack(inbox, out)
    flip(out / "checkpoints" / "7.partial" / name)
    if not kept:
        shutil.rmtree(inbox)
    forge_step(inbox, 1.0, FIRST, "meta")
    unpack(inbox, out)
    if not kept:
        assert f"checkpoints/7/{name}" not in listing.read(out / "received.json").whole
        forge_step(inbox, 2.0, FIRST, name)
    assert unpack(inbox, out)["missing"] == {}
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["7"]
    assert seal.inspect(out / "checkpoints" / "7", 7)[1] == []


def test_few_bytes_have_nothing_read_many_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal of many files, and a large file that many chunks say to be differences to."""
    from pipeline.ground.downlink import unpack as module

    inbox, out, blocks, seals = tmp_path / "inbox", tmp_path / "out", [], []
    forge(inbox, "plan.json", b"large" * 1000)
    forge_step(inbox, 1.0, FIRST, "SEAL", "same")
    unpack(inbox, out)
    for number in range(50):
        base = Version("plan.json", 5000 - number, f"{number:064x}")
        forge(inbox, "plan.json", b"x", at=(2, 1.0), base=base, sha256=f"{number:064x}")
        forge(inbox, f"checkpoints/7/{number}", b"", at=(2, 1.0))
    real, read = module._blocks, seal.read
    monkeypatch.setattr(module, "_blocks", lambda *given: blocks.append(given[2] - given[1]) or real(*given))
    monkeypatch.setattr(seal, "read", lambda *given: seals.append(given) or read(*given))
    unpack(inbox, out)
    assert sum(blocks) <= 2 * 5000, "all of it, and all else that is asked for"
    assert len(seals) == 1


def test_no_other_folder_passes_for_a_step(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge_step(inbox, 1.0, FIRST, *FIRST, "SEAL")
    unpack(inbox, out)
    for at in (2.0, 3.0):
        for folder in ("07", "\u0667", "+7", "7 ", "7.deleted"):
            for name, data in {"meta": str(at).encode(), "SEAL": seal_of({"meta": str(at).encode()})}.items():
                forge(inbox, f"checkpoints/{folder}/{name}", data, at=(1, at), together=2)
        assert {lack["problem"] for lack in unpack(inbox, out)["missing"].values()} == {"no file of a pack"}
        assert [path.name for path in (out / "checkpoints").iterdir()] == ["7"]
        assert seal.inspect(out / "checkpoints" / "7", 7)[1] == []
        assert (out / "checkpoints" / "7" / "meta").read_bytes() == b"1"


def test_a_step_sealed_again_that_is_on_board_no_more_is_asked_for_no_more(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge_step(inbox, 1.0, FIRST, *FIRST, "SEAL")
    forge_step(inbox, 2.0, AGAIN, "d/b", "SEAL")
    assert list(unpack(inbox, out)["missing"]) == ["checkpoints/7/SEAL"]
    forge(inbox, "manifest.json", manifest.encode("x", []), at=(1, 3.0))
    assert unpack(inbox, out)["missing"] == {}
    assert seal.inspect(out / "checkpoints" / "7", 7)[1] == [], "the first one stays"
    forge_step(inbox, 2.0, AGAIN, "meta")  # late
    assert unpack(inbox, out)["missing"] == {}
    assert (out / "checkpoints" / "7" / "meta").read_bytes() == b"2"


def test_a_step_gets_its_number_with_the_last_of_its_files(tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge(inbox, "checkpoints/7/SEAL", seal_of({"state/x": b"array"}), together=2)
    unpack(inbox, out)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["7.partial"]
    forge(inbox, "checkpoints/7/state/x", b"array", together=2)
    (inbox / "0.chunk").unlink()  # of a whole file: no longer needed
    unpack(inbox, out)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["7"]
    assert (out / "checkpoints" / "7" / "state" / "x").read_bytes() == b"array"
    assert unpack(inbox, out)["complete"] == ["checkpoints/7/SEAL", "checkpoints/7/state/x"]


def test_a_step_of_another_version_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    forge_step(inbox, 1.0, {"meta": b"1"}, "meta", "SEAL")
    forge(inbox, "plan.json", b"{}")
    monkeypatch.setattr(seal, "_FORMAT", 2)
    missing = unpack(inbox, out)["missing"]
    assert "sealed by another version of Dayside" in missing["checkpoints/7/SEAL"]["problem"]
    assert (out / "plan.json").read_bytes() == b"{}"
    assert (out / "checkpoints/7.partial/meta").read_bytes() == b"1"
