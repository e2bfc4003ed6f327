"""The one corpus that is downloaded: once, resumed where it broke off, checked against its SHA-256."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from pipeline.config import BadInput
from pipeline.corpus.cache import Cache, fsync
from pipeline.corpus.progress import Tick, progress

TINY_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
_NAME = "tiny-shakespeare.txt"
_TRIES = 4
_TIMEOUT_S = 20
_BLOCK = 1 << 16  # bytes


def tiny_shakespeare(cache: Cache, url: str = TINY_SHAKESPEARE) -> Path:
    """The file, downloaded into the cache unless it is there.

    Raises:
        BadInput: it cannot be had; the message says how to give a local copy.
    """
    for path in cache.places(_NAME):
        if _is_there(path):
            return path
    path = cache.folder / _NAME
    try:
        with cache.locked():
            if not _is_there(path):  # another process has downloaded it meanwhile
                _download(url, path, TINY_SHAKESPEARE_SHA256, cache.tick)
    except (OSError, http.client.HTTPException) as error:
        raise BadInput(
            f"corpus.source: tiny-shakespeare: {url} could not be downloaded to {cache.folder} ({error}); "
            "give a local copy with --corpus.path FILE"
        ) from error
    return path


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() and _sha256(path) == TINY_SHAKESPEARE_SHA256
    except OSError:
        return False


def _download(url: str, path: Path, sha256: str, tick: Tick) -> None:
    """`url` as `path`, which appears only when it is whole and right.

    Raises:
        OSError: no connection, or none that holds; a content that is not what was expected.
    """
    part = path.with_name(path.name + ".part")
    for attempt in range(_TRIES):
        try:
            if attempt:
                _wait(2 ** (attempt - 1), tick)
            _fetch(url, part, tick)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 416:
                raise
            if error.code == 416:  # more is here than there: not the same file
                part.unlink(missing_ok=True)
            if attempt == _TRIES - 1:
                raise
            continue
        except (OSError, http.client.HTTPException):
            if attempt == _TRIES - 1:
                raise
            continue
        if _sha256(part) == sha256:
            fsync(part)
            os.replace(part, path)
            fsync(path.parent)
            return
        part.unlink()
    raise OSError(f"SHA-256 is not {sha256}")


def _fetch(url: str, part: Path, tick: Tick) -> None:
    """Appends to `part` what it lacks; raises ConnectionError if the connection breaks off."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        with part.open("ab" if resumed else "wb") as file, progress("download", int(length or 0), tick) as advance:
            received = 0
            while block := response.read(_BLOCK):
                file.write(block)
                received += len(block)
                advance(len(block))
    if length is not None and received < int(length):
        raise ConnectionError(f"broke off after {received} of {length} bytes")


def _wait(seconds: float, tick: Tick) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tick()
        time.sleep(0.05)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
