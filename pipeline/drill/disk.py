"""A disk of its own, that can lose its power or be full: ext4 in a file, mounted through a loop device. Needs root."""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.checkpoint import durable

EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
BUSY_S = 10.0  # a killed process may still be letting go


class NoDisk(Exception):
    """This machine cannot make one; the message says what it lacks."""


class Disk:
    """Mounted at `at` from the start; `close` unmounts it and gives everything back, whatever happened before.

    Raises:
        NoDisk: no root, no mkfs.ext4, no loop device, or a kernel that mounts no ext4.
    """

    def __init__(self, folder: Path, size_mb: int) -> None:
        if lack := lacking():
            raise NoDisk(lack)
        self.at, self._image, self._mounted = folder / "disk", folder / "disk.ext4", False
        self.at.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(size_mb << 20)  # sparse: it takes what is written
        try:
            _run("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
            self._mount()
        except BaseException:  # Ctrl-C too
            self.close()
            raise

    def cut(self) -> None:
        """The power goes: from this instant nothing reaches the medium, and what was in memory is lost."""
        at = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(at, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(at)

    def remount(self) -> None:
        """The power is back: the journal is replayed, and only what was on the medium is there."""
        self._unmount()
        self._mount()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not one block is free, until the block is left."""
        filler = self.at / "filler"
        try:
            with filler.open("wb") as file:
                _fill(file.fileno())
            yield
        finally:
            filler.unlink(missing_ok=True)
            durable.fsync(self.at)  # or a cut soon afterwards would bring it back (seen)

    def close(self) -> None:
        if self._mounted:
            self._unmount()
        self._image.unlink(missing_ok=True)
        self.at.rmdir()

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", self._image, self.at)  # the loop device is freed with the mount
        self._mounted = True

    def _unmount(self) -> None:
        give_up = time.monotonic() + BUSY_S
        while True:
            try:
                _run("umount", self.at)
                self._mounted = False
                return
            except NoDisk:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.05)


def lacking() -> str | None:
    """What this machine lacks to make a disk; None if it looks able to."""
    if os.geteuid() != 0:
        return "a disk that can be cut off or filled needs root: run it with sudo, or in a container with --privileged"
    for program in ("mkfs.ext4", "mount", "umount", "losetup"):
        if not shutil.which(program):
            return f"a disk that can be cut off or filled needs {program}: install e2fsprogs and mount"
    return None


def _fill(file: int) -> None:
    """Takes every free block: whole pieces while they fit, then half as much."""
    size, piece = 0, 1 << 30
    while piece >= 1024:
        try:
            os.posix_fallocate(file, size, piece)
            size += piece
        except OSError:
            size = os.fstat(file).st_size  # part of it may have been given
            piece //= 2
    os.fsync(file)


def _run(*command: object) -> None:
    try:
        subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise NoDisk(f"{command[0]}: {' '.join(error.stderr.split())}") from error
