"""The cache: an entry is whole or not there, whoever was killed and whatever was damaged."""

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from limited import limited

from pipeline.config import BadInput, RunFailed
from pipeline.config.learning import Corpus as CorpusConfig
from pipeline.corpus import dataset, open_corpus
from pipeline.corpus.cache import Cache
from pipeline.corpus.hashing import HashIndex

TEXT = b"The satellite crosses the terminator; the battery takes over.\n" * 2000


@pytest.fixture
def config(configure: Callable[..., CorpusConfig], tmp_path: Path) -> CorpusConfig:
    (tmp_path / "a.txt").write_bytes(TEXT)
    return configure(path=str(tmp_path / "a.txt"))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for each time that text is tokenised."""
    made: list[int] = []
    real = dataset.tokenise
    monkeypatch.setattr(dataset, "tokenise", lambda *given: made.append(1) or real(*given))
    return made


def test_text_is_tokenised_once(config: CorpusConfig, builds: list[int]) -> None:
    first, second = open_corpus(config, 16, 0), open_corpus(config, 16, 0)
    assert first.content_hash == second.content_hash
    assert bytes(second.train.astype("u1")) + bytes(second.held_out.astype("u1")) == TEXT
    assert len(builds) == 1


def test_changed_text_or_settings_are_tokenised_anew(config: CorpusConfig, builds: list[int]) -> None:
    before = open_corpus(config, 16, 0)
    path = Path(str(config.path))
    path.write_bytes(TEXT.replace(b"battery", b"BATTERY"))  # same size
    assert b"BATTERY" in bytes(open_corpus(config, 16, 0).train.astype("u1"))
    path.write_bytes(TEXT)
    assert open_corpus(config, 16, 0).content_hash == before.content_hash
    assert len(builds) == 2
    for change in ({"held_out": 0.2}, {"tokenizer": "char"}, {"limit_mb": 0.05}):
        assert open_corpus(config.model_copy(update=change), 16, 0).content_hash != before.content_hash
    assert len(builds) == 5


@pytest.mark.parametrize("name", ["train.bin", "held_out.bin", "tokenizer.json", "meta.json"])
@pytest.mark.parametrize("damage", ["flip", "flip unseen", "truncate", "remove"])
def test_a_damaged_entry_is_built_anew(config: CorpusConfig, builds: list[int], name: str, damage: str) -> None:
    whole = open_corpus(config, 16, 0)
    [path] = config.cache_dir.glob(f"*/{name}")
    status, data = path.stat(), bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        if damage == "flip unseen":  # as radiation does: without a trace in the file's times
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = open_corpus(config, 16, 0)
    assert len(builds) == 2
    assert again.content_hash == whole.content_hash
    assert bytes(again.train.astype("u1")) + bytes(again.held_out.astype("u1")) == TEXT


def test_unchanged_sources_are_not_read_again(config: CorpusConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.corpus import hashing

    monkeypatch.setattr(hashing, "_RACY_NS", 0)
    open_corpus(config, 16, 0)
    read: list[Path] = []
    real = hashing.hash_file
    monkeypatch.setattr(hashing, "hash_file", lambda path, tick: read.append(path) or real(path, tick))
    open_corpus(config, 16, 0)
    assert Path(str(config.path)) not in read
    assert len([entry for entry in config.cache_dir.iterdir() if entry.is_dir()]) == 1, "found again"
    (config.cache_dir / "hashes.json").write_text('{"damaged": ')
    open_corpus(config, 16, 0)
    assert Path(str(config.path)) in read


def test_a_tick_that_raises_leaves_nothing(configure: Callable[..., CorpusConfig], tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(TEXT * 40)
    for tokenizer in ("byte", "char", "bpe"):
        calls = 0

        def stop() -> None:
            nonlocal calls
            calls += 1
            if calls > 5:
                raise KeyboardInterrupt

        config = configure(path=str(tmp_path / "b.txt"), tokenizer=tokenizer)
        with pytest.raises(KeyboardInterrupt):
            open_corpus(config, 16, 0, stop)
        assert {path.name for path in config.cache_dir.iterdir()} <= {"lock", "hashes.json"}


CHILD = """
import sys
from pathlib import Path
from pipeline.config.learning import Corpus
from pipeline.corpus import open_corpus
config = Corpus(source="text", path=sys.argv[1], tokenizer="bpe", vocab_size=300, cache_dir=Path(sys.argv[2]))
print(open_corpus(config, 16, 0).content_hash)
"""


def child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, text=True)


def test_a_process_killed_while_tokenising_leaves_nothing_that_is_taken_for_a_cache(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(TEXT * 100)
    cache, clean = tmp_path / "cache", tmp_path / "clean"
    source = str(tmp_path / "b.txt")
    killed_in = set()

    def written() -> int:
        """Bytes of train.bin. What an earlier process has left may be removed while it is looked at."""
        with suppress(FileNotFoundError):
            return max((draft.stat().st_size for draft in cache.glob("*.draft/train.bin")), default=0)
        return 0

    for size in (1, 500_000, 1_500_000):  # of train.bin, when the kill comes
        process = child(source, str(cache))
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and written() < size:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it finished before it could be killed"
        killed_in.update(path.parent.name for path in cache.glob("*.draft/train.bin"))
        assert not list(cache.glob("*/meta.json"))
    assert killed_in, "no kill came while tokens were written"
    again, fresh = child(source, str(cache)).communicate()[0], child(source, str(clean)).communicate()[0]
    assert again == fresh != ""
    assert not list(cache.glob("*.draft")), "the leftovers of a killed build are never removed"


def test_two_processes_build_one_entry(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(TEXT * 10)
    both = [child(str(tmp_path / "b.txt"), str(tmp_path / "cache")) for _ in range(2)]
    first, second = (process.communicate()[0] for process in both)
    assert first == second != ""
    assert len(list((tmp_path / "cache").glob("*/meta.json"))) == 1


def test_too_little_space_is_said_before_anything_is_written(
    config: CorpusConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(
        RunFailed, match=re.escape(f"corpus.cache_dir: {config.cache_dir}: 0 MB free, but") + ".*limit_mb"
    ):
        open_corpus(config, 16, 0)
    assert not list(config.cache_dir.glob("*.draft"))


FULL_DISK = """
mount -t tmpfs -o size=1m none "$2" && exec "$0" -c "$1" "$3" "$2"
"""


def test_a_disk_that_fills_up_is_tried_again_and_leaves_nothing(tmp_path: Path) -> None:
    """On a real file system of 1 MB; the compressed text hides what it will need."""
    import gzip

    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(TEXT * 80))
    (tmp_path / "small").mkdir()
    catching = (
        CHILD.replace("print(", "try:\n  open_corpus(config, 16, 0)\nexcept Exception as error:\n  print(", 1).rsplit(
            "print("
        )[0]
        + "print(type(error).__name__, error, list(config.cache_dir.glob('*.draft')))\n"
    )
    arguments = [sys.executable, catching, str(tmp_path / "small"), str(tmp_path / "b.txt.gz")]
    done = subprocess.run(["unshare", "-rm", "sh", "-c", FULL_DISK, *arguments], capture_output=True, text=True)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("this machine does not let a test mount a small file system")
    assert done.stdout.startswith("RunFailed corpus.cache_dir:"), done.stderr
    assert "cannot be written (No space left on device); free some space, or name" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_a_folder_that_cannot_be_written_is_named(configure: Callable[..., CorpusConfig], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"corpus.cache_dir: .*file/cache: .*name a folder that can be written"):
        open_corpus(configure(path=str(tmp_path / "a.txt"), cache_dir=tmp_path / "file/cache"), 16, 0)


@pytest.mark.parametrize(
    ("number", "ends", "says"),
    [
        *((number, RunFailed, "try again, or") for number in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENODEV)),
        *((number, RunFailed, "free some space, or") for number in (errno.ENOSPC, errno.EDQUOT)),
        *((number, BadInput, "") for number in (errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG)),
    ],
)
def test_what_may_be_over_by_the_next_try_is_no_bad_input(
    number: int, ends: type[Exception], says: str, tmp_path: Path
) -> None:
    """A supervisor does not start again what ended with bad input. Nor is it space that lacks but where that is so."""

    def build(folder: Path) -> dict[str, object]:
        raise OSError(number, os.strerror(number))

    with pytest.raises(ends) as ended:
        Cache(tmp_path / "cache").entry("key", HashIndex(tmp_path / "hashes.json"), 1_000_000, build)
    reason = f"cannot be written ({os.strerror(number)}); {says}".rstrip()
    assert str(ended.value) == f"corpus.cache_dir: {tmp_path}/cache: {reason} name a folder that can be written"


def test_a_text_that_cannot_be_opened_now_is_no_bad_input(config: CorpusConfig) -> None:
    refused = pytest.raises(
        RunFailed, match=r"corpus.path: .*a\.txt: cannot be read \(Too many open files\); try again"
    )
    with limited(resource.RLIMIT_NOFILE, 0), refused:
        open_corpus(config, 16, 0)


def test_hashes_that_can_be_neither_written_nor_removed_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a whole cache without them, on a read-only file system."""
    monkeypatch.setattr("pipeline.corpus.hashing._RACY_NS", 0)
    (tmp_path / "file").write_text("")
    index = HashIndex(tmp_path / "file" / "hashes.json")
    index.hash(tmp_path / "file", lambda: None)
    index.save()


def test_any_leftover_that_is_called_a_draft_is_in_nobodys_way(config: CorpusConfig) -> None:
    """A file where a killed build would have left a folder."""
    config.cache_dir.mkdir()
    (config.cache_dir / f"{'0' * 32}.draft").write_text("{")
    assert len(open_corpus(config, 16, 0).train)


def test_a_folder_that_holds_something_else_keeps_it(config: CorpusConfig) -> None:
    """It may have been named by mistake."""
    (config.cache_dir / "letter.draft").mkdir(parents=True)
    (config.cache_dir / "lock").write_text("mine")
    open_corpus(config, 16, 0)
    assert (config.cache_dir / "letter.draft").is_dir()
    assert (config.cache_dir / "lock").read_text() == "mine"


def test_another_cache_is_read_and_never_written_to(config: CorpusConfig, builds: list[int], tmp_path: Path) -> None:
    other = config.model_copy(update={"cache_dir": tmp_path / "other"})
    assert len(open_corpus(other, 16, 0, read_only=config.cache_dir).train)  # which is not there
    assert not config.cache_dir.exists()
    whole = open_corpus(config, 16, 0)
    shutil.rmtree(other.cache_dir)
    before = {path: path.stat().st_mtime_ns for path in config.cache_dir.rglob("*")}
    assert open_corpus(other, 16, 0, read_only=config.cache_dir).content_hash == whole.content_hash
    assert len(builds) == 2
    changed = config.model_copy(update={"cache_dir": tmp_path / "other", "held_out": 0.2})
    open_corpus(changed, 16, 0, read_only=config.cache_dir)
    assert len(builds) == 3
    assert {path: path.stat().st_mtime_ns for path in config.cache_dir.rglob("*")} == before
