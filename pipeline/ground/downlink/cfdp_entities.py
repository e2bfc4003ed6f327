"""The two ends of the link, as cfdp-py asks for them: who they are, how long they wait, and what they remember."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cfdppy import (
    CfdpUserBase,
    IndicationConfig,
    LocalEntityConfig,
    RemoteEntityConfig,
    RemoteEntityConfigTable,
    RestrictedFilestore,
)
from cfdppy.mib import CheckTimerProvider, DefaultFaultHandlerBase
from spacepackets.cfdp import (
    ChecksumType,
    ConditionCode,
    FaultHandlerCode,
    FilestoreResponseStatusCode,
    TransmissionMode,
)
from spacepackets.cfdp.pdu.finished import DeliveryCode
from spacepackets.countdown import Countdown
from spacepackets.util import ByteFieldU16

SATELLITE, GROUND = ByteFieldU16(1), ByteFieldU16(2)  # entity identifiers
TIMER_S = 1.0  # until what was not acknowledged is sent again
EXPIRATIONS = 8  # of that timer, in a row, then the transaction is given up
PACKET = 1024  # bytes; an S-band frame holds about as many


class Incoming(RestrictedFilestore):
    def create_file(self, file: Path) -> FilestoreResponseStatusCode:
        """Of a file that cannot be made for want of space cfdp-py says that it was not allowed."""
        self.restricted_path.mkdir(parents=True, exist_ok=True)
        (self.restricted_path / file.name).touch()
        return FilestoreResponseStatusCode.CREATE_SUCCESS


class User(CfdpUserBase):
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


class Timers(CheckTimerProvider):
    def __init__(self, timer_s: float):
        self.timer_s = timer_s

    def provide_check_timer(self, local_entity_id: Any, remote_entity_id: Any, entity_type: Any) -> Countdown:
        return Countdown.from_seconds(self.timer_s)


def local(entity: ByteFieldU16) -> LocalEntityConfig:
    return LocalEntityConfig(entity, IndicationConfig(), _Faults())


def remote(entity: ByteFieldU16, timer_s: float) -> RemoteEntityConfigTable:
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
