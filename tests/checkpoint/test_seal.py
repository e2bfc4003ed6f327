import json
import os

import pytest
from checkpoint_states import like, seal_steps, state_of
from test_mirror import copied, mirrored, second, until  # noqa: F401

from pipeline.checkpoint import layout, seal, verify
from pipeline.config import BadInput, Refused


def sealed_directory(path, content=b"x"):
    path.mkdir(parents=True)
    (path / "file").write_bytes(content)
    seal.write(path, int(path.name), {})
    return path


def forge(path, **changes):
    """Rewrites a SEAL with a right checksum and wrong content."""
    body = json.loads((path / seal.NAME).read_bytes().partition(b"\n")[0]) | changes
    data = json.dumps(body).encode()
    (path / seal.NAME).write_bytes(data + b"\n" + seal.digest(data).encode() + b"\n")


GOOD = [1, "0" * 32]


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"files": {name: GOOD}}
            for name in ["../x", "/etc/passwd", "a/../b", "a//b", "./a", "a/", "", ".", "..", "SEAL", "a\0"]
        ),
        *(
            {"files": {"file": entry}}
            for entry in [[-1, "0" * 32], [1.0, "0" * 32], [True, "0" * 32], [1, "0"], [1, 7], [1], 1]
        ),
        {"files": {"file": [1, "A" * 32]}},
        {"files": []},
        {"files": None},
        {"step": 2},
        {"step": "1"},
        {"step": True},
        {"leaves": {"w": ["float32", [-1], "0" * 32]}},
        {"leaves": {"w": ["float32", 3, "0" * 32]}},
    ],
)
def test_forged_seal_is_refused_even_with_a_right_checksum(tmp_path, changes):
    forge(sealed_directory(tmp_path / "1"), **changes)
    with pytest.raises(seal.Damaged):
        seal.read(tmp_path / "1", 1)


@pytest.mark.parametrize("changes", [{"format": 2}, {"more": 1}])
def test_a_seal_of_another_version_is_refused_and_its_step_stays_where_it_is(
    changes,
    mirrored,  # noqa: F811
    second,  # noqa: F811
    open_store,
    run_dir,
    events,
):
    for place in (run_dir, second / "run"):
        forge(place / "checkpoints/3", **changes)
    store = open_store(mirror_dir=second, scrub_every_s=0.01)
    with pytest.raises(Refused, match=r"checkpoints/3: sealed by another version of Dayside; use that version"):
        store.restore(like(state_of(0, 8)))
    until(store, lambda: {event.get("place", "run") for event in events.of("scrub_failed")} == {"run", "mirror"})
    store.close()
    assert layout.steps(mirrored) == layout.steps(second / "run/checkpoints") == [1, 2, 3]
    assert not list((run_dir / "quarantine").iterdir())
    with pytest.raises(BadInput, match="3/SEAL: sealed by another version of Dayside; use that version"):
        verify(run_dir)


@pytest.mark.parametrize("data", [b"", b"\n", b"{}", b"{}\n", b"[" * 100_000, b"\xff\n\n"])
def test_garbage_in_place_of_a_seal_is_damage_and_no_crash(tmp_path, data):
    path = sealed_directory(tmp_path / "1")
    for tail in (b"", b"\n" + seal.digest(data).encode() + b"\n"):
        (path / seal.NAME).write_bytes(data + tail)
        assert seal.inspect(path, 1)[1]


def test_links_and_pipes_are_named_and_never_followed(tmp_path):
    path = sealed_directory(tmp_path / "1")
    outside = sealed_directory(tmp_path / "2")
    (path / "file").unlink()
    (path / "file").symlink_to(outside / "file")
    assert seal.inspect(path, 1)[1] == ["file: Too many levels of symbolic links"]
    (path / "file").unlink()
    os.mkfifo(path / "file")
    assert seal.inspect(path, 1)[1] == ["file: not a plain file"]
    (path / "file").unlink()
    (path / "file").write_bytes(b"x")
    (path / "extra").symlink_to(tmp_path)
    assert seal.inspect(path, 1)[1] == ["extra: not in the SEAL"]
    (path / "extra").unlink()
    assert seal.inspect(path, 1)[1] == []


@pytest.mark.timeout(20)
def test_a_pipe_among_the_files_fails_the_seal_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "file")
    with pytest.raises(OSError, match="Invalid argument"):
        seal.write(tmp_path, 1, {})


def test_seal_of_one_step_does_not_pass_under_another_number(tmp_path):
    sealed_directory(tmp_path / "1").rename(tmp_path / "3")
    assert seal.inspect(tmp_path / "3", 3)[1] == ["SEAL: of step 1, found under 3"]


def test_verify_names_each_bad_file_of_each_step(open_store, run_dir):
    with open_store() as store:
        seal_steps(store, 1, 2, 3)
    assert verify(run_dir) == [(1, []), (2, []), (3, [])]
    two = run_dir / "checkpoints" / "2"
    (two / "meta.json").write_bytes(b"{}")
    (two / "state" / "_METADATA").unlink()
    (two / "new").write_bytes(b"")
    (run_dir / "checkpoints" / "3" / "SEAL").unlink()
    assert verify(run_dir) == [
        (1, []),
        (2, ["meta.json: 2 bytes, sealed with 11", "new: not in the SEAL", "state/_METADATA: missing"]),
        (3, ["SEAL: missing"]),
    ]


def test_verify_of_no_run_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="holds no checkpoints/"):
        verify(tmp_path)
