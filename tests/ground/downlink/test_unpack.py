"""Whatever comes is rebuilt exactly, or what is missing is said exactly: a thousand patterns against an oracle."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.config import BadInput
from pipeline.ground.downlink.chunk import Head, decode
from pipeline.ground.downlink.pack import pack
from pipeline.ground.downlink.received import merge
from pipeline.ground.downlink.unpack import unpack

CHUNK = 512
PATTERNS = 1000


class Sent(NamedTuple):
    """Two packs of one run: the second after the ground had the first."""

    chunks: dict[Path, Head]
    versions: list[dict[str, bytes]]  # of each pack: path -> what the file was


@pytest.fixture(scope="module")
def sent(
    make_bare_run: Callable[[Path], Path], go_on: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory
) -> Sent:
    here = tmp_path_factory.mktemp("sent")
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


def test_a_thousand_patterns_of_loss_copies_order_and_damage(sent: Sent, quick_dir: Path) -> None:
    done = 0
    for seed in range(PATTERNS):
        chance = random.Random(seed)
        inbox, out = quick_dir / f"inbox-{seed}", quick_dir / f"out-{seed}"
        inbox.mkdir()
        for path in sent.chunks:  # links need one file system
            if not (quick_dir / path.parent.name / path.name).exists():
                (quick_dir / path.parent.name).mkdir(exist_ok=True)
                shutil.copy(path, quick_dir / path.parent.name / path.name)
        near = Sent(
            {quick_dir / path.parent.name / path.name: head for path, head in sent.chunks.items()}, sent.versions
        )
        whole, damaged = deliver(near, inbox, chance)
        done += check(near, whole, damaged, inbox, out)
        if seed % 4 == 0:  # another pass brings more, and the same command goes on
            more, others = deliver(near, inbox, chance)
            check(near, whole | more, damaged | others, inbox, out)
        shutil.rmtree(inbox)
        shutil.rmtree(out)
    assert 0.1 * PATTERNS < done < 0.9 * PATTERNS, "both endings must be met"
