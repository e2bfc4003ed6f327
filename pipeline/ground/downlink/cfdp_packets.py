"""Which packets are let in, and which files are sent: what brings a chunk, and nothing else."""

import contextlib
import re
from pathlib import Path
from typing import Any

from cfdppy.handler.dest import acknowledge_inactive_eof_pdu
from spacepackets.cfdp import ConditionCode, TransmissionMode
from spacepackets.cfdp.pdu import EofPdu, FileDataPdu, MetadataPdu, NakPdu
from spacepackets.cfdp.pdu.ack import TransactionStatus
from spacepackets.cfdp.pdu.helper import PduFactory

from pipeline.ground.downlink.cfdp_entities import GROUND, SATELLITE
from pipeline.ground.downlink.chunk import LARGEST_CHUNK
from pipeline.ground.downlink.pack import SUFFIX

_NAME = re.compile(rf"[0-9]{{6,12}}-[0-9a-f]{{16}}{re.escape(SUFFIX)}")


def parsed(data: bytes) -> Any:
    """The packet, if it is between satellite and ground; None for anything else: its parsers raise whatever they
    stumble over, some when a field is read."""
    try:
        packet = PduFactory.from_raw(data)
        ours = (packet.source_entity_id.value, packet.dest_entity_id.value) == (SATELLITE.value, GROUND.value)
        return packet if ours and _harmless(packet) else None
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


def is_sendable(path: Path) -> bool:
    """Whether a receiver takes it: `_harmless` there."""
    with contextlib.suppress(OSError):
        return bool(_NAME.fullmatch(path.name)) and path.is_file() and path.stat().st_size <= LARGEST_CHUNK
    return False


def is_answer(packet: Any, size: int) -> bool:
    """Whether a receiver of so many bytes may say that: it asks for each of them once, and once for the metadata."""
    if not isinstance(packet, NakPdu):
        return not isinstance(packet, FileDataPdu)
    asked = packet.segment_requests
    within = all(start <= end <= size for start, end in asked) and asked.count((0, 0)) <= 1
    return within and sum(end - start for start, end in asked) <= size


def is_acknowledged_eof(packet: Any) -> bool:
    return isinstance(packet, EofPdu) and packet.transmission_mode == TransmissionMode.ACKNOWLEDGED


def acknowledgement(eof: EofPdu) -> bytes:
    return bytes(acknowledge_inactive_eof_pdu(eof, TransactionStatus.TERMINATED).pack())
