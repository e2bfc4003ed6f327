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
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.checkpoint import durable
from pipeline.config import BadInput, RunFailed
from pipeline.ground.downlink.chunk import LARGEST_CHUNK, Malformed
from pipeline.ground.downlink.inbox import read_chunk
from pipeline.ground.downlink.pack import SUFFIX

try:
    from cfdppy import (
        CfdpState,
        CfdpUserBase,
        IndicationConfig,
        LocalEntityConfig,
        PutRequest,
        RemoteEntityConfig,
        RemoteEntityConfigTable,
        RestrictedFilestore,
    )
    from cfdppy import exceptions as refusals
    from cfdppy.handler.dest import DestHandler, acknowledge_inactive_eof_pdu
    from cfdppy.handler.dest import TransactionStep as DestStep
    from cfdppy.handler.source import SourceHandler
    from cfdppy.mib import CheckTimerProvider, DefaultFaultHandlerBase
    from spacepackets.cfdp import (
        ChecksumType,
        ConditionCode,
        FaultHandlerCode,
        FilestoreResponseStatusCode,
        TransmissionMode,
    )
    from spacepackets.cfdp.pdu import EofPdu, FileDataPdu, MetadataPdu, NakPdu
    from spacepackets.cfdp.pdu.ack import TransactionStatus
    from spacepackets.cfdp.pdu.finished import DeliveryCode
    from spacepackets.cfdp.pdu.helper import PduFactory
    from spacepackets.countdown import Countdown
    from spacepackets.seqcount import SeqCountProvider
    from spacepackets.util import ByteFieldU16
except ImportError as error:
    raise BadInput(f"downlink: CFDP needs cfdp-py ({error}); pip install '.[cfdp]'") from error

MODES = ("acknowledged", "unacknowledged")
SATELLITE, GROUND = ByteFieldU16(1), ByteFieldU16(2)  # entity identifiers
ATTEMPTS = 5
TIMER_S = 1.0  # until what was not acknowledged is sent again
EXPIRATIONS = 8  # of that timer, in a row, then the transaction is given up
PACKET = 1024  # bytes; an S-band frame holds about as many
_REMEMBERED = 4096  # transactions that are over
_NAME = re.compile(rf"[0-9]{{6,12}}-[0-9a-f]{{16}}{re.escape(SUFFIX)}")
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
            if not _is_sendable(path):
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
        RunFailed: the disk is full.
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
            if not _is_full(error):
                raise
            raise RunFailed(f"{inbox}: no space; free some: what it did not take its sender still has") from error
        finally:
            receiver.end()
            with contextlib.suppress(OSError):
                (inbox / _Receiver.INCOMING).rmdir()


class _Sender:
    def __init__(self, link: socket.socket, acknowledged: bool, mbit_s: float | None, timer_s: float):
        self.link, self.mbit_s, self.timer_s = link, mbit_s, timer_s
        self.mode = TransmissionMode.ACKNOWLEDGED if acknowledged else TransmissionMode.UNACKNOWLEDGED
        self.table = _remote(GROUND, timer_s)
        self.numbers = SeqCountProvider(32)
        # A peer may still hold transactions of the last pass.
        self.numbers.count = random.SystemRandom().getrandbits(31)
        self.bytes = self.again = 0
        self.alone = False  # nothing was heard in a whole transaction: the pass is over
        self._free_at = time.monotonic()  # when the link may carry the next packet

    def transfer(self, path: Path) -> bool:
        """One transaction; whether the peer has the file, as far as it can be known."""
        try:
            return self._transfer(path)
        except Exception:  # the file is gone or cannot be read, or cfdp-py stumbles: that costs this transaction
            self.alone = False
            return False

    def _transfer(self, path: Path) -> bool:
        user, furthest, busy = _User(None), 0, time.monotonic()
        source = SourceHandler(_local(SATELLITE), user, self.table, _Timers(self.timer_s), self.numbers)
        source.put_request(PutRequest(GROUND, path.absolute(), Path(path.name), self.mode, None))
        self.alone = self.mode == TransmissionMode.ACKNOWLEDGED
        idle = lost = False
        while source.state != CfdpState.IDLE and time.monotonic() - busy < self.timer_s * EXPIRATIONS:
            answer = self._answer(self.timer_s / 5 if idle else 0.0)
            idle, self.alone = answer is None, self.alone and answer is None
            if not _is_answer(answer, source.file_size or 0):
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
            return _parsed(self.link.recv(1 << 16))
        except OSError:  # nothing came, or the link is down
            return None

    def _put(self, data: bytes) -> bool:
        """Whether the link took the packet: one that is down, or at whose end nobody listens, loses it."""
        if self.mbit_s:
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            self._free_at = max(self._free_at, time.monotonic()) + len(data) * 8e-6 / self.mbit_s
        self.link.settimeout(None)
        try:
            self.bytes += self.link.send(data)
        except OSError:
            return False
        return True


class _Receiver:
    """One transaction at a time, as they are sent: the next one ends the last, of which nothing more can come."""

    INCOMING = ".incoming"

    def __init__(self, link: socket.socket, inbox: Path, timer_s: float):
        self.link, self.inbox, self.timer_s = link, inbox, timer_s
        self.table = _remote(SATELLITE, timer_s)
        self.over: OrderedDict[Any, None] = OrderedDict()
        self.number: Any = None
        self.result: dict[str, Any] = {"whole": [], "refused": []}

    def listen(self, silent_s: float) -> dict[str, Any]:
        peer: Any = None
        heard = time.monotonic()
        self.link.settimeout(min(self.timer_s / 5, silent_s))
        while time.monotonic() - heard < silent_s:
            packet = None
            try:
                data, peer = self.link.recvfrom(1 << 16)
                packet, heard = _parsed(data), time.monotonic()
            except TimeoutError:
                pass
            try:
                answers = self._answers(packet)
            except Exception as error:
                if _is_full(error):
                    raise
                self.end()  # cfdp-py stumbles over some orders of loss; the sender begins such a transaction anew
                continue
            for answer in answers:
                with contextlib.suppress(OSError):  # the link is down: lost, as anything on it may be
                    self.link.sendto(answer, peer)
        return self.result

    def _answers(self, packet: Any) -> list[bytes]:
        if packet is not None:
            number = packet.transaction_seq_num.value
            if number in self.over:
                return [_acknowledged(packet)] if _is_acknowledged_eof(packet) else []
            if number != self.number:
                self._begin(number)
            elif _is_acknowledged_eof(packet) and self.dest.step in _AFTER_EOF:
                return [_acknowledged(packet)]  # the first answer was lost, and cfdp-py gives it once
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
        self.user = _User(_Incoming((self.inbox / self.INCOMING).absolute()), self._take)
        self.dest = DestHandler(_local(GROUND), self.user, self.table, _Timers(self.timer_s))
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
            if _is_full(error):
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


class _Incoming(RestrictedFilestore):
    def create_file(self, file: Path) -> FilestoreResponseStatusCode:
        """Of a file that cannot be made for want of space cfdp-py says that it was not allowed."""
        self.restricted_path.mkdir(parents=True, exist_ok=True)
        (self.restricted_path / file.name).touch()
        return FilestoreResponseStatusCode.CREATE_SUCCESS


class _User(CfdpUserBase):
    """Remembers how a transaction ended; the rest of what cfdp-py tells is of no use here."""

    def __init__(self, files: Any, take: Callable[[str, bool], bool] | None = None):
        super().__init__(files)
        self.take = take
        self.name: str | None = None
        self.finished = self.whole = False

    def transaction_finished_indication(self, params: Any) -> None:
        ended = params.finished_params
        complete = ended.condition_code == ConditionCode.NO_ERROR and ended.delivery_code == DeliveryCode.DATA_COMPLETE
        if self.finished:
            return
        self.finished = True
        self.whole = complete if self.take is None else self.name is not None and self.take(self.name, complete)
        if complete and not self.whole:  # what the sender is told next
            ended.condition_code, ended.delivery_code = (
                ConditionCode.FILE_CHECKSUM_FAILURE,
                DeliveryCode.DATA_INCOMPLETE,
            )

    def metadata_recv_indication(self, params: Any) -> None:
        self.name = params.dest_file_name

    def _unused(self, *_: Any) -> None:
        pass

    transaction_indication = eof_sent_indication = file_segment_recv_indication = report_indication = _unused
    suspended_indication = resumed_indication = fault_indication = abandoned_indication = _unused
    eof_recv_indication = _unused


class _Faults(DefaultFaultHandlerBase):
    def __init__(self) -> None:
        super().__init__()
        # To tell a peer that has gone that it has gone would take as long again.
        self.set_handler(ConditionCode.POSITIVE_ACK_LIMIT_REACHED, FaultHandlerCode.ABANDON_TRANSACTION)

    def _unused(self, *_: Any) -> None:
        pass

    notice_of_suspension_cb = notice_of_cancellation_cb = abandoned_cb = ignore_cb = _unused


class _Timers(CheckTimerProvider):
    def __init__(self, timer_s: float):
        self.timer_s = timer_s

    def provide_check_timer(self, local_entity_id: Any, remote_entity_id: Any, entity_type: Any) -> Countdown:
        return Countdown.from_seconds(self.timer_s)


def _local(entity: ByteFieldU16) -> LocalEntityConfig:
    return LocalEntityConfig(entity, IndicationConfig(), _Faults())


def _remote(entity: ByteFieldU16, timer_s: float) -> RemoteEntityConfigTable:
    return RemoteEntityConfigTable(
        [
            RemoteEntityConfig(
                entity_id=entity,
                max_file_segment_len=None,
                max_packet_len=PACKET,
                closure_requested=False,
                crc_on_transmission=True,
                default_transmission_mode=TransmissionMode.ACKNOWLEDGED,
                # With the metadata lost, each packet that comes would be answered by a request for the whole file.
                immediate_nak_mode=False,
                crc_type=ChecksumType.CRC_32,
                positive_ack_timer_interval_seconds=timer_s,
                positive_ack_timer_expiration_limit=EXPIRATIONS,
                nak_timer_interval_seconds=timer_s,
                nak_timer_expiration_limit=EXPIRATIONS,
            )
        ]
    )


def _parsed(data: bytes) -> Any:
    """The packet; None for anything else: its parsers raise whatever they stumble over, some when a field is read."""
    try:
        packet = PduFactory.from_raw(data)
        return packet if _harmless(packet) else None
    except Exception:
        return None


def _harmless(packet: Any) -> bool:
    """Only what brings a chunk reaches the file store."""
    if isinstance(packet, MetadataPdu):
        named = isinstance(packet.dest_file_name, str) and isinstance(packet.source_file_name, str)
        return named and bool(_NAME.fullmatch(packet.dest_file_name)) and packet.file_size <= LARGEST_CHUNK
    if isinstance(packet, FileDataPdu):
        return packet.offset + len(packet.file_data) <= LARGEST_CHUNK
    if isinstance(packet, EofPdu):  # of another condition spacepackets writes no acknowledgement
        return packet.file_size <= LARGEST_CHUNK and packet.condition_code == ConditionCode.NO_ERROR
    return True


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _is_sendable(path: Path) -> bool:
    """Whether a receiver takes it: `_harmless` there."""
    with contextlib.suppress(OSError):
        return bool(_NAME.fullmatch(path.name)) and path.is_file() and path.stat().st_size <= LARGEST_CHUNK
    return False


def _is_answer(packet: Any, size: int) -> bool:
    """Whether a receiver of so many bytes may say that: it asks for each of them once, and once for the metadata."""
    if not isinstance(packet, NakPdu):
        return not isinstance(packet, FileDataPdu)
    asked = packet.segment_requests
    within = all(start <= end <= size for start, end in asked) and asked.count((0, 0)) <= 1
    return within and sum(end - start for start, end in asked) <= size


def _is_acknowledged_eof(packet: Any) -> bool:
    return isinstance(packet, EofPdu) and packet.transmission_mode == TransmissionMode.ACKNOWLEDGED


def _acknowledged(eof: EofPdu) -> bytes:
    return bytes(acknowledge_inactive_eof_pdu(eof, TransactionStatus.TERMINATED).pack())
