"""What is written is what another reader reads."""

import struct
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from pipeline.flight.scalars import Scalars


def events(directory: Path) -> list[Event]:
    """Parsed by the messages of another library, checksums by its arithmetic."""
    found = []
    for path in sorted(directory.glob("*tfevents*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            assert struct.unpack_from("<I", data, at + 8)[0] == masked_crc32c(data[at : at + 8])
            payload = data[at + 12 : at + 12 + length]
            assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked_crc32c(payload)
            found.append(Event.FromString(payload))
            at += 16 + length
    return found


def test_another_library_reads_every_point(tmp_path: Path) -> None:
    scalars = Scalars(tmp_path, 0)
    for step in (1, 127, 128, 3_000_000_000):
        scalars.add(step, {"train/loss": step / 7, "validation/bits_per_byte": -2.5})
    scalars.close()
    first, *points = events(tmp_path)
    assert first.file_version == "brain.Event:2"
    told = [(p.step, p.summary.value[0].tag, p.summary.value[0].simple_value) for p in points]
    assert [t[0] for t in told] == [1, 1, 127, 127, 128, 128, 3_000_000_000, 3_000_000_000]
    assert told[0][1:] == ("train/loss", float(np.float32(1 / 7)))
    assert told[-1][1:] == ("validation/bits_per_byte", -2.5)


def test_a_resume_says_from_which_step_points_are_replaced(tmp_path: Path) -> None:
    for resume_step in (0, 40):
        Scalars(tmp_path, resume_step).close()
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [40]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_written_as_it_is(value: float, tmp_path: Path) -> None:
    scalars = Scalars(tmp_path, 0)
    scalars.add(1, {"train/loss": value})
    scalars.close()
    assert np.array_equal(events(tmp_path)[-1].summary.value[0].simple_value, value, equal_nan=True)
