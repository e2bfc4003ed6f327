"""Measured charge and temperature of the satellite: newest readings from whoever measures them, never blocking.

A source that has nothing new says so; what is garbled, out of order or not finite never becomes a reading. Whether the
newest reading is too old is for the watchdog to say. One that no satellite can give stays a reading, so that the
watchdog sees a sensor that cannot be trusted; but nothing is put right by it.
"""

import json
import math
import os
import socket
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from errno import EADDRINUSE
from pathlib import Path
from stat import S_ISREG
from typing import IO, NamedTuple, Protocol

import numpy as np

from pipeline.config import BadInput, RunFailed
from pipeline.config.mission import Telemetry

BODY = struct.Struct(">ff")  # charge [Wh], plate temperature [°C]
CRC = struct.Struct(">H")
LONGEST_PACKET = 4096
FEED_END = 65536  # bytes: of a feed that has grown by more, the end is enough
KNOWN = 1024  # bytes of its beginning and before what is new, by which a feed is known to be the one read before
COLDEST_C, HOTTEST_C = -150.0, 200.0  # between which a plate may be; the codes of sensors without data lie outside
MOST_CHARGE = 1.5  # of the nominal capacity
LEAP, LEAP_K = 0.05, 5.0  # of that capacity, and of the plate: more is no change of a moment


class Reading(NamedTuple):
    """One measurement of the satellite."""

    mission_s: float  # when it was measured
    charge_wh: float
    plate_c: float

    def impossible(self, capacity_wh: float) -> str | None:
        """Why no satellite with a battery of `capacity_wh` can give this reading, or None."""
        if self.charge_wh < 0.0:
            return f"charge {self.charge_wh:.0f} Wh cannot be"
        if self.charge_wh > MOST_CHARGE * capacity_wh:
            return f"charge {self.charge_wh:.0f} Wh is more than the battery holds"
        if not COLDEST_C <= self.plate_c <= HOTTEST_C:
            return f"plate {self.plate_c:.1f} °C cannot be"
        return None

    def agrees(self, other: "Reading", capacity_wh: float) -> bool:
        """Whether both may be of one moment."""
        near_wh = abs(self.charge_wh - other.charge_wh) <= LEAP * capacity_wh
        return near_wh and abs(self.plate_c - other.plate_c) <= LEAP_K


class Source(Protocol):
    @property
    def trouble(self) -> str:
        """Why there is no newer reading, as far as that is known; empty otherwise."""
        ...

    def newest(self) -> Reading | None:
        """The newest reading so far; None before the first. Returns at once."""
        ...

    def shift(self, seconds: float) -> None:
        """Mission time was set by so much: moments of before have other names."""
        ...

    def close(self) -> None: ...


class _Newest:
    """Keeps the newest of all readings offered. One from the past, from the future or not finite is passed over."""

    def __init__(self, now: Callable[[], float], slack_s: float):
        self._now, self._slack_s = now, slack_s
        self._newest: Reading | None = None
        self._refused, self._why = 0, ""  # since the newest

    @property
    def trouble(self) -> str:
        return f"{self._refused:,} refused since, the last {self._why}" if self._refused else ""

    def offer(self, reading: Reading, again: bool = False) -> None:
        """`again`: it may have been offered before, and is of the past then."""
        ahead_s = reading.mission_s - self._now()
        since_s = reading.mission_s - self._newest.mission_s if self._newest else math.inf
        if not all(map(math.isfinite, reading)):
            self.refuse("not finite")
        elif ahead_s > self._slack_s:
            self.refuse(f"{ahead_s:,.0f} s ahead of this machine's clock")
        elif since_s > 0.0:
            self._newest, self._refused = reading, 0
        elif since_s < 0.0 and not again:
            self.refuse(f"{-since_s:,.0f} s older than the one before")

    def refuse(self, why: str) -> None:
        self._refused, self._why = self._refused + 1, why

    def newest(self) -> Reading | None:
        return self._newest

    def shift(self, seconds: float) -> None:
        if self._newest:
            self._newest = self._newest._replace(mission_s=self._newest.mission_s + seconds)

    def close(self) -> None:
        pass


class FileSource(_Newest):
    """A JSONL feed that something else appends to, as a power-system daemon would:

        {"time": "2026-07-26T04:00:00Z", "charge_wh": 612.5, "temperature_c": 41.2}

    Or one that is written anew each time, in place or under another name first. Half a line waits for its other half.
    """

    def __init__(self, path: Path, start: datetime, now: Callable[[], float], slack_s: float):
        super().__init__(now, slack_s)
        self._path, self._start = path, start
        self._offset, self._head, self._end, self._rest = 0, b"", b"", b""
        self._unreadable = ""

    @property
    def trouble(self) -> str:
        return self._unreadable or super().trouble

    def newest(self) -> Reading | None:
        try:
            if not S_ISREG(self._path.stat().st_mode):  # to open a pipe would wait for its writer
                self._unreadable = f"{self._path} is no file"
                return super().newest()
            with self._path.open("rb") as feed:
                fresh, anew = self._fresh(feed)
        except OSError as error:  # not there yet, or not there now: the watchdog sees that nothing new comes
            self._unreadable = f"{self._path}: {error.strerror}"
            return super().newest()
        self._unreadable = ""
        if fresh:
            *lines, self._rest = (self._rest + fresh).split(b"\n")
            self._rest = self._rest[-FEED_END:]
            for line in filter(bytes.strip, lines):
                if not self._take(line, again=anew and line is not lines[-1]):
                    self.refuse("not as it should be written")
            self._take(self._rest)  # whole already, where a writer ends with no new line
        return super().newest()

    def _fresh(self, feed: IO[bytes]) -> tuple[bytes, bool]:
        """What was written since the last time, and whether the feed was written anew. Such a one may have the size and
        the number of the one before: it is known by how it begins, and by what stands before what is new."""
        size, head = os.fstat(feed.fileno()).st_size, feed.read(KNOWN)
        feed.seek(self._offset - len(self._end))
        found = feed.read(len(self._end) + FEED_END)
        anew = not (head.startswith(self._head) and found.startswith(self._end) and size >= self._offset)
        if anew or size - self._offset > FEED_END:
            self._offset, self._end, self._rest = max(0, size - FEED_END), b"", b""
            feed.seek(self._offset)
            found = feed.read(FEED_END)
        fresh = found[len(self._end) :]
        self._offset += len(fresh)
        self._head, self._end = head, found[-KNOWN:]
        return fresh, anew

    def _take(self, line: bytes, again: bool = False) -> bool:
        """Whether it is a reading, whatever it says."""
        try:
            fields = json.loads(line)
            when = datetime.fromisoformat(fields["time"])
            mission_s = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - self._start).total_seconds()
            charge_wh, plate_c = fields["charge_wh"], fields["temperature_c"]
            if isinstance(charge_wh, bool) or isinstance(plate_c, bool):
                return False
            self.offer(Reading(mission_s, float(charge_wh), float(plate_c)), again)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return False
        return True


class UdpSource(_Newest):
    """CCSDS space packets (133.0-B) over UDP, one a datagram, telemetry type, of one APID:

    secondary header  7 bytes  CDS short timestamp (301.0-B): P-field, days since 1958, milliseconds of the day
    user data         8 bytes  charge [Wh] and plate temperature [°C], IEEE 754 single, big-endian
    error control     2 bytes  CRC-16/CCITT-FALSE over all that precedes it
    """

    def __init__(self, config: Telemetry, start: datetime, now: Callable[[], float], slack_s: float):
        super().__init__(now, slack_s)
        try:
            import spacepackets  # noqa: F401
        except ImportError as error:
            raise BadInput("telemetry.source: udp needs spacepackets; `pip install '.[udp]'`") from error
        self._apid, self._start = config.apid, start
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind((config.host, config.port))
        except OSError as error:
            self._socket.close()
            what = f"telemetry.port: {config.host}:{config.port}: {error.strerror}"
            if error.errno in (EADDRINUSE, socket.EAI_AGAIN):  # it may be there by the next try
                raise RunFailed(f"{what}; try again, or give a free address of this host") from error
            raise BadInput(f"{what}; give a free address of this host") from error
        except (TypeError, ValueError) as error:  # before anything is looked up
            self._socket.close()
            raise BadInput(f"telemetry.host: {config.host!r}: no host's name; give an address of this one") from error

    @property
    def address(self) -> tuple[str, int]:
        return self._socket.getsockname()

    def newest(self) -> Reading | None:
        for _ in range(256):  # a flood must not hold up the loop
            try:
                datagram = self._socket.recv(LONGEST_PACKET)
            except BlockingIOError:
                break
            if reading := unpack(datagram, self._apid, self._start):
                self.offer(reading)
            else:
                self.refuse("no whole packet of that APID and layout")
        return super().newest()

    def close(self) -> None:
        self._socket.close()


def pack(reading: Reading, apid: int, start: datetime, count: int = 0) -> bytes:
    """The packet that `UdpSource` reads."""
    from datetime import timedelta

    from fastcrc.crc16 import ibm_3740
    from spacepackets.ccsds import PacketType, SpHeader
    from spacepackets.ccsds.time import CdsShortTimestamp

    stamp = CdsShortTimestamp.from_datetime(start + timedelta(seconds=reading.mission_s)).pack()
    data = bytes(stamp) + BODY.pack(reading.charge_wh, reading.plate_c)
    header = SpHeader(PacketType.TM, apid, count % 16384, len(data) + CRC.size - 1, sec_header_flag=True)
    packet = bytes(header.pack()) + data
    return packet + CRC.pack(ibm_3740(packet))


def unpack(packet: bytes, apid: int, start: datetime) -> Reading | None:
    """The reading in a packet; None if it is not whole, not of `apid`, or not what the layout says."""
    from fastcrc.crc16 import ibm_3740
    from spacepackets.ccsds import PacketType, SpHeader
    from spacepackets.ccsds.time import CdsShortTimestamp

    size = 6 + CdsShortTimestamp.TIMESTAMP_SIZE + BODY.size + CRC.size
    if len(packet) != size or ibm_3740(packet[: -CRC.size]) != CRC.unpack(packet[-CRC.size :])[0]:
        return None
    try:
        header = SpHeader.unpack(packet)
        stamp = CdsShortTimestamp.unpack(packet[6:])
        when = stamp.as_datetime()
    except (ValueError, OverflowError):
        return None
    if header.apid != apid or header.packet_type != PacketType.TM or header.packet_len != size:
        return None
    charge_wh, plate_c = BODY.unpack_from(packet, 6 + CdsShortTimestamp.TIMESTAMP_SIZE)
    return Reading((when - start).total_seconds(), charge_wh, plate_c)


class SimulatedSource:
    """The plant as sensors would show it: Gaussian noise, the same at the same mission second of every launch."""

    def __init__(self, config: Telemetry, plant: Callable[[], Reading]):
        self.trouble = ""
        self._sigmas = config.charge_noise_wh, config.temperature_noise_k
        self._plant = plant

    def newest(self) -> Reading:
        true = self._plant()
        if not any(self._sigmas):
            return true
        seed = int(true.mission_s * 1000.0) % 2**64  # before mission second 0 too, a whole number that is not negative
        noise = np.random.default_rng(seed).standard_normal(2) * self._sigmas
        return Reading(true.mission_s, float(true.charge_wh + noise[0]), float(true.plate_c + noise[1]))

    def shift(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass
