"""Chunk files over UDP by the CCSDS File Delivery Protocol (727.0-B-5): cfdp-py has the protocol, this the socket.

One chunk is one transaction, one after the other. Class 2 ("acknowledged") sends again what was lost; class 1 does not,
and what is missing is for the next pass. cfdp-py gives up a transaction in some orders of loss (an EOF that comes
before the metadata, for one), so a transaction that was not acknowledged as whole is begun anew, ATTEMPTS times.

Nothing here is authenticated. Of the names that a peer gives, only those of chunks are taken; a file has no path, no
more bytes than a chunk, and no other message of the protocol touches the disk.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config import BadInput
from pipeline.ground.downlink.chunk import LARGEST_CHUNK, Malformed
from pipeline.ground.downlink.inbox import read_chunk
from pipeline.ground.downlink.pack import SUFFIX

try:
    from cfdppy import IndicationConfig, LocalEntityConfig, RemoteEntityConfig, RemoteEntityConfigTable
    from cfdppy.handler.dest import DestHandler, LostSegmentTracker, acknowledge_inactive_eof_pdu
    from cfdppy.handler.dest import TransactionStep as DestStep
    from cfdppy.handler.source import SourceHandler
    from cfdppy.mib import CheckTimerProvider, DefaultFaultHandlerBase
    from cfdppy.request import PutRequest
    from cfdppy.restricted_filestore import RestrictedFilestore
    from cfdppy.user import CfdpUserBase
    from spacepackets.cfdp import ChecksumType, ConditionCode, TransmissionMode
    from spacepackets.cfdp.pdu import AckPdu, EofPdu, FileDataPdu, FinishedPdu, MetadataPdu, PduFactory
    from spacepackets.cfdp.pdu.ack import TransactionStatus
    from spacepackets.cfdp.pdu.finished import DeliveryCode
    from spacepackets.countdown import Countdown
    from spacepackets.seqcount import SeqCountProvider
    from spacepackets.util import ByteFieldU16
except ImportError as error:
    raise BadInput("downlink: CFDP needs cfdp-py; pip install '.[cfdp]'") from error

MODES = ("acknowledged", "unacknowledged")
SATELLITE, GROUND = ByteFieldU16(1), ByteFieldU16(2)  # entity identifiers
