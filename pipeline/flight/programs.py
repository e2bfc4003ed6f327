"""Compiled programs, kept from launch to launch, each under a hash: a damaged one is compiled again.

JAX trusts what its cache holds. It compresses entries without a checksum: of 1,800 single flipped bits 1,146 unpacked
without complaint, to other machine code. It writes them in place and never over an entry that exists, so one that a
power cut truncated would be compiled anew at every restart. So whatever is not listed here with its hash is removed
before JAX looks.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from xxhash import xxh3_128_hexdigest

from pipeline.checkpoint import durable

LIST = "SEALED"  # {name: xxh3_128}
_ENTRY = "-cache"  # how the name of a compiled program ends


class Programs:
    """The cache in `directory`. `kept` programs were found as they were sealed, `damaged` ones were not.

    `unusable`: why JAX must not look there, for what is not vetted could not be removed; null where it may.

    For one process at a time, before it compiles anything.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self.compiling: Callable[[], bool] = lambda: False
        self.unusable: str | None = None
        listed = self._listed()
        self._sealed: dict[str, str] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name in self._names():
                # What is not listed was being written when the last launch ended.
                if (digest := _read(directory / name)) and digest == listed.get(name):
                    self._sealed[name] = digest
                else:
                    (directory / name).unlink()
        except OSError as error:
            self.unusable, self._sealed = f"{error}; compiled anew, and not kept", {}
            listed = {}
        self.kept, self.damaged = len(self._sealed), len(listed.keys() - self._sealed)

    def seal(self) -> None:
        """Makes what was compiled since durable. 0.1 ms if there is nothing new. On a full disk, or while something is
        being compiled, the next call does."""
        if self.unusable or self.compiling():
            return
        with suppress(OSError):
            new = {}
            for name in self._names() - self._sealed.keys():
                path = self._directory / name
                if _whole(path):
                    durable.fsync(path)
                    new[name] = xxh3_128_hexdigest(path.read_bytes())
                else:
                    path.unlink()
            if new:
                durable.write(self._directory / LIST, json.dumps(self._sealed | new, indent=1).encode())
                self._sealed |= new

    def _names(self) -> set[str]:
        files = (path for path in self._directory.rglob("*") if path.is_file())
        return {path.relative_to(self._directory).as_posix() for path in files} - {LIST}

    def _listed(self) -> dict[str, str]:
        """As it was last written; nothing if that cannot be read, and then everything is compiled again."""
        try:
            listed = json.loads((self._directory / LIST).read_bytes())
        except (OSError, ValueError):
            return {}
        return listed if isinstance(listed, dict) else {}


def _read(path: Path) -> str | None:
    """The hash of a file; None if the disk no longer gives it back."""
    try:
        return xxh3_128_hexdigest(path.read_bytes())
    except OSError:
        return None


def _whole(path: Path) -> bool:
    """Whether all of an entry was written: a full disk takes the first part of it."""
    import zstandard

    if not path.name.endswith(_ENTRY):
        return True
    try:
        zstandard.ZstdDecompressor().decompress(path.read_bytes())
    except zstandard.ZstdError:
        return False
    return True
