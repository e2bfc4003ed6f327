"""What a pack holds: so that what did not come at all is known of too. It goes down as one more file, several times."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pipeline.ground.downlink.chunk import Version, digest, version, whole
from pipeline.ground.downlink.received import Span

NAME = "manifest.json"
LARGEST = 16 << 20  # bytes; a chunk takes about 85, so 50 GB in chunks of 256 KiB
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One file; the leading bytes that need no chunk; and its chunks as (offset, length, address)."""

    file: Version
    kept: int
    chunks: tuple[tuple[int, int, str], ...]

    def addresses(self, spans: list[Span], came: Collection[str]) -> list[str]:
        """The chunks that bring `spans`."""

        def brings(offset: int, length: int) -> bool:
            return length == 0 or any(offset < end and start < offset + length for start, end in spans)

        return [address for offset, length, address in self.chunks if address not in came and brings(offset, length)]


def encode(run: str, files: list[dict[str, Any]]) -> bytes:
    """`files`, in the order of sending: path, size, sha256, group, kept, sent [bytes of its chunks] and chunks."""
    lines = ",\n".join(json.dumps(file, separators=(",", ":")) for file in files)
    return f'{{"format":{_FORMAT},"run":{json.dumps(run)},"files":[\n{lines}\n]}}\n'.encode()


def decode(data: bytes) -> list[Entry]:
    """The files of a manifest.

    Raises:
        ValueError: it is none.
    """
    try:
        content = json.loads(data)
        if content["format"] != _FORMAT:
            raise ValueError("of another format")
        return [_entry(fields) for fields in content["files"]]
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"not its form: {error}") from error


def _entry(fields: Any) -> Entry:
    file = version([fields["path"], fields["size"], fields["sha256"]])
    chunks = [
        (whole(offset, file.size), whole(length, file.size), digest(address))
        for offset, length, address in fields["chunks"]
    ]
    return Entry(file, whole(fields["kept"], file.size), tuple(chunks))
