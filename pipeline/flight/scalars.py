"""Training curves for TensorBoard: an event file of scalars, and nothing that has to be imported for it.

The library that writes such files imports PyTorch where it finds it (1.2 s of every restart), and its writer thread
dies on a full disk, after which the training waits for it for ever. Format: records of length, payload and two masked
CRC-32C (TensorFlow's record_writer); a payload is an `Event` message (tensorflow/core/util/event.proto).
"""

import os
import struct
import time
from pathlib import Path

from pipeline.flight.appender import Appender

SESSION_STARTS = b"\x3a\x02\x08\x01"  # session_log { status: START }: later points replace those of steps from here on


class Scalars:
    """Event files under `directory`. A resume drops the points of steps that will be computed again."""

    def __init__(self, directory: Path, resume_step: int):
        directory.mkdir(parents=True, exist_ok=True)
        self._file = Appender(directory / f"events.out.tfevents.{time.time_ns() // 1000:016d}.{os.getpid()}")
        self._put(0, _field(3, b"brain.Event:2"))
        if resume_step:
            self._put(resume_step, SESSION_STARTS)

    def add(self, step: int, values: dict[str, float]) -> None:
        for tag, value in values.items():
            point = _field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
            self._put(step, _field(5, _field(1, point)))

    def close(self) -> None:
        self._file.close()

    def _put(self, step: int, what: bytes) -> None:
        self._file.write(record(b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + what))


def record(payload: bytes) -> bytes:
    """One record of the file."""
    length = struct.pack("<Q", len(payload))
    return length + _masked(length) + payload + _masked(payload)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _table() -> list[int]:
    made = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # Castagnoli, bits reversed
        made.append(value)
    return made


_CRC32C = _table()


def _masked(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
