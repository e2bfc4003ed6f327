"""Chunk files over UDP by the CCSDS File Delivery Protocol (727.0-B-5): cfdp-py has the protocol, this the socket.

One chunk is one transaction, one after the other. Class 2 ("acknowledged") sends again what was lost; class 1 does not,
and what is missing is for the next pass. cfdp-py gives up a transaction in some orders of loss (an EOF that comes
before the metadata, for one), so a transaction that was not acknowledged as whole is begun anew, ATTEMPTS times.

Nothing here is authenticated. Of the names that a peer gives, only those of chunks are taken; a file has no path, no
more bytes than a chunk, and no other message of the protocol touches the disk.
"""

import contextlib
import errno
import random
import socket
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable
from pipeline.config import FULL, BadInput, RunFailed
from pipeline.ground.downlink.chunk import Malformed
from pipeline.ground.downlink.inbox import read_chunk
from pipeline.ground.downlink.pack import SUFFIX

try:
    from cfdppy import CfdpState, PutRequest
    from cfdppy import exceptions as refusals
    from cfdppy.handler.dest import DestHandler
    from cfdppy.handler.dest import TransactionStep as DestStep
    from cfdppy.handler.source import SourceHandler
    from spacepackets.cfdp import TransmissionMode
    from spacepackets.cfdp.pdu import FileDataPdu, MetadataPdu
    from spacepackets.seqcount import SeqCountProvider

    from pipeline.ground.downlink.cfdp_entities import (
        EXPIRATIONS,
        GROUND,
        SATELLITE,
        TIMER_S,
        Incoming,
        Timers,
        User,
        local,
        remote,
    )
    from pipeline.ground.downlink.cfdp_packets import (
        acknowledgement,
        is_acknowledged_eof,
        is_answer,
        is_sendable,
        parsed,
    )
except ImportError as error:
    raise BadInput(f"downlink: CFDP needs cfdp-py ({error}); pip install '.[cfdp]'") from error

MODES = ("acknowledged", "unacknowledged")
ATTEMPTS = 5
_REMEMBERED = 4096  # transactions that are over
_REFUSALS = (
    refusals.InvalidPduDirection,
    refusals.InvalidSourceId,
    refusals.InvalidDestinationId,
    refusals.InvalidTransactionSeqNum,
    refusals.InvalidPduForSourceHandler,
    refusals.InvalidPduForDestHandler,
    refusals.InvalidNakPdu,
    refusals.NoRemoteEntityConfigFound,
    refusals.PduIgnoredForSource,
    refusals.PduIgnoredForDest,
)


def send(
    folder: Path | str,
    to: tuple[str, int],
    acknowledged: bool = True,
    mbit_s: float | None = None,
    timer_s: float = TIMER_S,
) -> dict[str, Any]:
    """Sends every chunk of `folder` in the order of the names.

    Args:
        to: host and port that listen.
        acknowledged: class 2, where what is lost is sent again; otherwise class 1.
        mbit_s: not to be exceeded; null: as fast as the socket takes it.
        timer_s: about three times as long as a packet and its answer take.

    Returns:
        sent and failed: names of chunks (in class 1 nobody says what arrived: failed is what the link did not take);
        refused: of those that failed, what was not sent, as no receiver takes it: no chunk by its name, kind or size;
        bytes on the link, and of them those sent `again`.

    Raises:
        BadInput: no such folder, or no way to that host.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; name the one that `downlink pack` wrote")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        try:
            link.connect(to)
        except OSError as error:
            raise BadInput(f"--to: {to[0]}:{to[1]}: {error.strerror or error}; give another address") from error
        sender = _Sender(link, acknowledged, mbit_s, timer_s)
        result: dict[str, Any] = {"sent": [], "failed": [], "refused": []}
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if not is_sendable(path):
                result["refused"].append(path.name)
                result["failed"].append(path.name)
                continue
            whole = not sender.alone and any(sender.transfer(path) for _ in range(ATTEMPTS if acknowledged else 1))
            result["sent" if whole else "failed"].append(path.name)
    return result | {"bytes": sender.bytes, "again": sender.again}


def receive(
    inbox: Path | str, listen: tuple[str, int], silent_s: float = 600.0, timer_s: float = TIMER_S
) -> dict[str, Any]:
    """Takes chunks into `inbox`, each under its name when it is whole and durable, until nothing came for `silent_s`.

    Returns:
        whole: names in the order in which they came; refused: what came whole and is not the chunk of that name.

    Raises:
        BadInput: the address or the folder cannot be had.
        RunFailed: the disk is full, or takes nothing any more.
    """
    inbox = Path(inbox)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            link.bind(listen)
        except OSError as error:
            raise BadInput(f"--listen: {listen[0]}:{listen[1]}: {error.strerror or error}; give another") from error
        try:
            (inbox / _Receiver.INCOMING).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{inbox}: cannot be written ({error.strerror}); give another folder") from error
        receiver = _Receiver(link, inbox, timer_s)
        try:
            return receiver.listen(silent_s)
        except OSError as error:
            if not _is_of_disk(error):
                raise
            why = "no space; free some" if error.errno in FULL else f"{error.strerror}; give another folder"
            raise RunFailed(f"{inbox}: {why}: what it did not take its sender still has") from error
        finally:
            receiver.end()
            with contextlib.suppress(OSError):
                (inbox / _Receiver.INCOMING).rmdir()


class _Sender:
    def __init__(self, link: socket.socket, acknowledged: bool, mbit_s: float | None, timer_s: float):
        self.link, self.mbit_s, self.timer_s = link, mbit_s, timer_s
        self.mode = TransmissionMode.ACKNOWLEDGED if acknowledged else TransmissionMode.UNACKNOWLEDGED
        self.table = remote(GROUND, timer_s)
        self.numbers = SeqCountProvider(32)
        # A peer may still hold transactions of the last pass.
        self.numbers.count = random.SystemRandom().getrandbits(31)
        self.bytes = self.again = 0
        self.alone = False  # nothing was heard in the last transaction; after the last attempt, the pass is over
        self._free_at = time.monotonic()  # when the link may carry the next packet

    def transfer(self, path: Path) -> bool:
        """One transaction; whether the peer has the file, as far as it can be known."""
        try:
            return self._transfer(path)
        except TimeoutError:  # the link takes nothing any more
            self.alone = True
            return False
        except Exception:  # the file is gone or cannot be read, or cfdp-py stumbles: that costs this transaction
            self.alone = False
            return False

    def _transfer(self, path: Path) -> bool:
        user, furthest, busy = User(None), 0, time.monotonic()
        source = SourceHandler(local(SATELLITE), user, self.table, Timers(self.timer_s), self.numbers)
        source.put_request(PutRequest(GROUND, path.absolute(), Path(path.name), self.mode, None))
        self.alone = self.mode == TransmissionMode.ACKNOWLEDGED
        idle = lost = False
        while source.state != CfdpState.IDLE and time.monotonic() - busy < self.timer_s * EXPIRATIONS:
            answer = self._answer(self.timer_s / 5 if idle else 0.0)
            idle, self.alone = answer is None, self.alone and answer is None
            if not is_answer(answer, source.file_size or 0):
                continue
            refused = False
            try:
                source.state_machine(answer)
            except _REFUSALS:
                refused = True  # of another transaction, or late
            while (held := source.get_next_packet()) and held.pdu:
                idle = False
                if not self._put(held.pdu.pack()):
                    lost = True
                elif isinstance(held.pdu, FileDataPdu):
                    end = held.pdu.offset + len(held.pdu.file_data)
                    self.again += len(held.pdu.file_data) if end <= furthest else 0
                    furthest = max(furthest, end)
            busy = busy if idle or refused else time.monotonic()
        # What was lost was sent again in class 2 alone.
        return user.whole and (self.mode == TransmissionMode.ACKNOWLEDGED or not lost)

    def _answer(self, wait_s: float) -> Any:
        self.link.settimeout(wait_s)
        try:
            return parsed(self.link.recv(1 << 16))
        except OSError:  # nothing came, or the link is down
            return None

    def _put(self, data: bytes) -> bool:
        """Whether the link took the packet: one that is down, or at whose end nobody listens, loses it.

        Raises:
            TimeoutError: it takes nothing any more.
        """
        if self.mbit_s:
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            self._free_at = max(self._free_at, time.monotonic()) + len(data) * 8e-6 / self.mbit_s
        self.link.settimeout(self.timer_s * EXPIRATIONS)
        try:
            self.bytes += self.link.send(data)
        except TimeoutError:
            raise
        except OSError:
            return False
        return True


class _Receiver:
    """One transaction at a time, as they are sent: the next one's metadata ends the last, of which nothing more can
    come; so does any packet of the next once the last has been silent for a while."""

    INCOMING = ".incoming"

    def __init__(self, link: socket.socket, inbox: Path, timer_s: float):
        self.link, self.inbox, self.timer_s = link, inbox, timer_s
        self.table = remote(SATELLITE, timer_s)
        self.over: OrderedDict[Any, None] = OrderedDict()
        self.number: Any = None
        self.heard = 0.0  # when a packet of that transaction came
        self.result: dict[str, Any] = {"whole": [], "refused": []}

    def listen(self, silent_s: float) -> dict[str, Any]:
        peer: Any = None
        heard = time.monotonic()
        self.link.settimeout(min(self.timer_s / 5, silent_s))
        while True:
            packet = None
            try:
                data, sender = self.link.recvfrom(1 << 16)
                packet, heard = parsed(data), time.monotonic()
                if packet is None or self._is_stray(packet):
                    packet = None
                else:
                    peer = sender
            except TimeoutError:
                if time.monotonic() - heard >= silent_s:
                    return self.result
            try:
                answers = self._answers(packet)
            except Exception as error:
                if _is_of_disk(error):
                    raise
                self.end()  # cfdp-py stumbles over some orders of loss; the sender begins such a transaction anew
                continue
            for answer in answers:
                with contextlib.suppress(OSError):  # the link is down: lost, as anything on it may be
                    self.link.sendto(answer, peer)

    def _is_stray(self, packet: Any) -> bool:
        """Whether it is of a transaction that is not known; while one is under way its metadata alone begins it."""
        number = packet.transaction_seq_num.value
        under_way = self.number is not None and time.monotonic() - self.heard < self.timer_s
        known = number == self.number or number in self.over
        return under_way and not known and not isinstance(packet, MetadataPdu)

    def _answers(self, packet: Any) -> list[bytes]:
        if packet is not None:
            number = packet.transaction_seq_num.value
            if number in self.over:
                return [acknowledgement(packet)] if is_acknowledged_eof(packet) else []
            self.heard = time.monotonic()
            if number != self.number:
                self._begin(number)
            elif is_acknowledged_eof(packet) and self.dest.step in _AFTER_EOF:
                return [acknowledgement(packet)]  # the first answer was lost, and cfdp-py gives it once
        elif self.number is None:
            return []
        with contextlib.suppress(*_REFUSALS):  # of no use now
            self.dest.state_machine(packet)
        answers = []
        while (held := self.dest.get_next_packet()) and held.pdu:
            answers.append(bytes(held.pdu.pack()))
        if self.user.finished and self.dest.state == CfdpState.IDLE:
            self.end()
        return answers

    def _begin(self, number: int) -> None:
        self.end()
        self.number = number
        self.user = User(Incoming((self.inbox / self.INCOMING).absolute()), self._take)
        self.dest = DestHandler(local(GROUND), self.user, self.table, Timers(self.timer_s))
        # All handlers of cfdp-py 0.7 share one list of lost stretches, with what the last transaction left there.
        self.dest._params.acked_params.lost_seg_tracker.reset()

    def end(self) -> None:
        """Of a transaction that was cut short nothing stays: its sender begins it anew."""
        if self.number is not None:
            if self.user.name:
                with contextlib.suppress(OSError):
                    (self.inbox / self.INCOMING / self.user.name).unlink()
            self.over[self.number] = None
            while len(self.over) > _REMEMBERED:
                self.over.popitem(last=False)
        self.number = None

    def _take(self, name: str, whole: bool) -> bool:
        """Whether a chunk is in the inbox for good. Only then is its sender told that it is: cfdp-py takes what it
        missed nothing of for whole, without a look at the checksum."""
        came = self.inbox / self.INCOMING / name
        try:
            if not whole:
                return False
            if not name.endswith(f"-{read_chunk(came).address[:16]}{SUFFIX}"):
                raise Malformed("another chunk than its name says")
            durable.fsync(came)
            durable.rename(came, self.inbox / name)
        except (Malformed, OSError) as error:
            if _is_of_disk(error):
                raise
            self.result["refused"].append(name)
            return False
        finally:
            came.unlink(missing_ok=True)
        if name not in self.result["whole"]:
            self.result["whole"].append(name)
        return True


_AFTER_EOF = (
    DestStep.WAITING_FOR_MISSING_DATA,
    DestStep.TRANSFER_COMPLETION,
    DestStep.SENDING_FINISHED_PDU,
    DestStep.WAITING_FOR_FINISHED_ACK,
)


def _is_of_disk(error: Exception) -> bool:
    """Whether it would meet every other chunk too."""
    return isinstance(error, OSError) and error.errno in (*FULL, errno.EROFS, errno.EIO)
