"""Chunks by CFDP over real UDP on loopback, through a link that loses a tenth of all packets."""

import contextlib
import errno
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lossy_link import LossyLink
from spacepackets.cfdp import ConditionCode, CrcFlag, Direction, PduConfig, TransmissionMode
from spacepackets.cfdp.pdu import EofPdu, FileDataPdu, MetadataParams, MetadataPdu, NakPdu
from spacepackets.cfdp.pdu.file_data import FileDataParams
from spacepackets.cfdp.pdu.helper import PduFactory
from spacepackets.util import ByteFieldU16, ByteFieldU32

from pipeline.checkpoint import durable
from pipeline.config import BadInput, RunFailed
from pipeline.ground.downlink import cfdp, cfdp_entities, main
from pipeline.ground.downlink.cfdp import MODES, receive, send
from pipeline.ground.downlink.pack import pack
from pipeline.ground.downlink.unpack import unpack

LOSS = 0.1  # of packets; and where disorder is, each 50th comes late and each 50th twice
TIMER_S = 0.1
SILENT_S = 2.5  # longer than a sender waits before it begins a transaction anew
LOSSLESS_S = 1.0  # longer than it waits for anything where nothing is lost


@pytest.fixture(scope="module")
def packed(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few chunks of some packets each."""
    out = tmp_path_factory.mktemp("packed") / "chunks"
    pack(run_dir, out, chunk_bytes=16 << 10)
    return out


def free_address() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()


@contextlib.contextmanager
def listening(inbox: Path, loss: float, disorder: float = 0.0) -> Iterator[tuple[tuple[str, int], LossyLink]]:
    """The address of a link to a receiver that fills `inbox`."""
    address = free_address()
    silent_s = SILENT_S if loss else LOSSLESS_S
    receiver = threading.Thread(target=receive, args=(inbox, address, silent_s, TIMER_S))
    receiver.start()
    try:
        with LossyLink(address, loss, disorder) as link:
            yield link.address, link
            receiver.join()
    finally:
        receiver.join()


def fails(monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[[int], bool]) -> None:
    """The sockets of CFDP find the link down in the n-th call of `name`, counted from 1, if `when` says so of n."""

    class Link(socket.socket):
        calls = 0

        def fail(self) -> None:
            self.calls += 1
            if when(self.calls):
                raise OSError(errno.ENETUNREACH, "Network is unreachable")

        def send(self, *given: Any) -> int:
            if name == "send":
                self.fail()
            return super().send(*given)

        def sendto(self, *given: Any) -> int:
            if name == "sendto":
                self.fail()
            return super().sendto(*given)

    monkeypatch.setattr(cfdp, "socket", SimpleNamespace(**vars(socket) | {"socket": Link}))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_every_chunk_arrives_through_loss_and_only_because_it_is_sent_again(packed: Path, tmp_path: Path) -> None:
    with listening(tmp_path / "acknowledged", LOSS, disorder=0.04) as (address, link):
        result = send(packed, address, timer_s=TIMER_S, mbit_s=40)
    assert link.lost > 10, "the link lost too little to prove anything"
    assert result["failed"] == []
    assert result["again"] > 0
    assert contents(tmp_path / "acknowledged") == contents(packed)
    assert unpack(tmp_path / "acknowledged", tmp_path / "run")["missing"] == {}

    with listening(tmp_path / "control", LOSS) as (address, link):
        send(packed, address, acknowledged=False, timer_s=TIMER_S, mbit_s=40)
    came = contents(tmp_path / "control")
    assert len(came) < len(contents(packed)), "class 1 lost nothing either: the test proves nothing"
    assert came.items() <= contents(packed).items()
    found = unpack(tmp_path / "control", tmp_path / "partial")
    assert found["missing"] or not found["manifest"]


def test_a_link_without_loss_carries_either_class(packed: Path, tmp_path: Path) -> None:
    """Otherwise the control above would fail for another reason than loss."""
    for name, acknowledged in (("two", True), ("one", False)):
        with listening(tmp_path / name, 0.0) as (address, _):
            send(packed, address, acknowledged=acknowledged, timer_s=TIMER_S, mbit_s=40)
        assert contents(tmp_path / name) == contents(packed)


def test_a_peer_that_has_gone_is_given_up_once_for_all_chunks(packed: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        began = time.monotonic()
        result = send(packed, silent.getsockname(), timer_s=0.05)
    assert sorted(result["failed"]) == sorted(contents(packed))
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_link_that_takes_nothing_any_more_ends_the_pass(packed: Path, acknowledged: bool) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # full, when nobody reads
    with ours, theirs:
        sender, began = cfdp._Sender(ours, acknowledged, None, 0.05), time.monotonic()
        while sender.transfer(min(packed.iterdir())):
            pass
    assert sender.alone
    assert time.monotonic() - began < 5.0


def test_an_outage_longer_than_a_transaction_is_no_end_of_the_pass(packed: Path, tmp_path: Path) -> None:
    """Some trees before the antenna, say. Were one unheard transaction the end, all chunks would wait for the next."""
    with listening(tmp_path / "inbox", 1.0) as (address, link):
        clear = threading.Timer(2 * cfdp_entities.EXPIRATIONS * TIMER_S, setattr, (link, "loss", 0.0))
        clear.start()
        assert send(packed, address, timer_s=TIMER_S, mbit_s=40)["failed"] == []
        clear.join()
    assert contents(tmp_path / "inbox") == contents(packed)


def test_a_slow_link_is_not_taken_for_a_dead_one(packed: Path, tmp_path: Path) -> None:
    """The first chunk alone takes longer than all timers together."""
    (tmp_path / "one").mkdir()
    shutil.copy(max(packed.iterdir(), key=lambda path: path.stat().st_size), tmp_path / "one")
    with listening(tmp_path / "inbox", 0.0) as (address, _):
        result = send(tmp_path / "one", address, timer_s=0.1, mbit_s=0.1)
    assert result["failed"] == []
    assert contents(tmp_path / "inbox") == contents(tmp_path / "one")


def test_no_name_of_a_peer_leads_out_of_the_inbox(tmp_path: Path) -> None:
    names = [
        "../../escaped",
        "/tmp/escaped",
        "000001-0123456789abcdef.chunk/../../../x",
        "received.json",
        "x" * 200,
        "",
    ]
    inbox = tmp_path / "a" / "b" / "inbox"
    with listening(inbox, 0.0) as (address, _), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for number, name in enumerate(names):
            config = PduConfig(
                *(ByteFieldU16(1), ByteFieldU16(2), ByteFieldU32(number), TransmissionMode.UNACKNOWLEDGED),
                crc_flag=CrcFlag.WITH_CRC,
            )
            metadata = MetadataPdu(config, MetadataParams(False, 0, 15, "x", name))
            data = FileDataPdu(config, FileDataParams(b"not yours", 0, None))
            for packet in (metadata.pack(), data.pack(), b"", b"\x00" * 40, b"\xff" * 1200):
                peer.sendto(packet, address)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "inbox"]


def test_a_packet_that_cannot_be_understood_does_not_end_listening(packed: Path, tmp_path: Path) -> None:
    def config(mode: TransmissionMode) -> PduConfig:
        return PduConfig(ByteFieldU16(1), ByteFieldU16(2), ByteFieldU32(1), mode, crc_flag=CrcFlag.NO_CRC)

    acknowledged = config(TransmissionMode.ACKNOWLEDGED)
    named = bytes(MetadataPdu(config(TransmissionMode.UNACKNOWLEDGED), MetadataParams(False, 0, 9, "x", "y")).pack())
    cancelled = EofPdu(acknowledged, b"\x00" * 4, 9, condition_code=ConditionCode.CANCEL_REQUEST_RECEIVED).pack()
    packets = [
        named.replace(b"\x01y", b"\x01\xff"),  # a name that is no text
        cancelled,  # of a transaction that is new
        EofPdu(acknowledged, b"\x00" * 4, 9).pack(),
        cancelled,  # of one that has had its EOF
    ]
    with listening(tmp_path / "inbox", 0.0) as (address, _):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for packet in packets:
                peer.sendto(packet, address)
                time.sleep(0.05)
        assert send(packed, address, timer_s=TIMER_S, mbit_s=40)["failed"] == []
    assert contents(tmp_path / "inbox") == contents(packed)


def test_answers_that_a_link_does_not_take_are_lost_and_listening_goes_on(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, "sendto", lambda call: call <= 2)
    with listening(tmp_path / "inbox", 0.0) as (address, _):
        assert send(packed, address, timer_s=TIMER_S, mbit_s=40)["failed"] == []
    assert contents(tmp_path / "inbox") == contents(packed)


@pytest.mark.parametrize("mode", MODES)
def test_what_a_link_that_went_down_did_not_take_is_accounted_for(
    mode: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In class 1 too, where nobody else says that a chunk did not arrive."""
    fails(monkeypatch, "send", lambda call: call > 100)
    with listening(tmp_path / "inbox", 0.0) as ((host, port), _):
        to = ["--to", f"{host}:{port}", "--mode", mode, "--mbit-s", "40", "--timer-s", str(TIMER_S)]
        assert main(["send", str(packed), *to, "--json"]) == 75
    told = json.loads(capsys.readouterr().out)
    came = contents(tmp_path / "inbox")
    assert told["sent"] == sorted(came)
    assert 0 < len(came) < len(contents(packed))
    assert sorted(told["sent"] + told["failed"]) == sorted(contents(packed))
    assert told["bytes"] < 100 * 1024


def test_a_link_that_is_down_for_a_moment_loses_packets_and_no_chunk(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, "send", lambda call: 50 < call < 60)
    with listening(tmp_path / "inbox", 0.0) as (address, _):
        assert send(packed, address, timer_s=TIMER_S, mbit_s=40)["failed"] == []
    assert contents(tmp_path / "inbox") == contents(packed)


def test_a_sender_is_not_told_that_a_chunk_came_which_is_none(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"000001-{'0' * 16}.chunk").write_bytes(b"whole, and no chunk" * 100)
    with listening(tmp_path / "inbox", 0.0) as (address, _):
        assert len(send(tmp_path / "out", address, timer_s=TIMER_S)["failed"]) == 1
    assert contents(tmp_path / "inbox") == {}


def test_an_address_that_cannot_be_had_is_named(packed: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(BadInput, match="--listen: 127"):
            receive(tmp_path, taken.getsockname(), silent_s=0.1)
    with pytest.raises(BadInput, match="no such folder"):
        send(tmp_path / "none", ("127.0.0.1", 1))


def test_while_the_metadata_is_missing_no_packet_is_answered_by_a_request_for_all(tmp_path: Path) -> None:
    config = PduConfig(
        *(ByteFieldU16(1), ByteFieldU16(2), ByteFieldU32(1), TransmissionMode.ACKNOWLEDGED),
        crc_flag=CrcFlag.WITH_CRC,
    )
    answers: list[object] = []
    with (
        listening(tmp_path / "inbox", 0.0) as (address, _),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        contextlib.suppress(TimeoutError),
    ):
        peer.settimeout(5 * TIMER_S)
        for number in range(40):
            peer.sendto(FileDataPdu(config, FileDataParams(b"x" * 900, 900 * number, None)).pack(), address)
        peer.sendto(EofPdu(config, b"\x00" * 4, 36000).pack(), address)
        while len(answers) < 40:
            answers.append(PduFactory.from_raw(peer.recv(1 << 16)))
    assert 1 <= sum(isinstance(answer, NakPdu) for answer in answers) < 10


def test_what_is_no_chunk_costs_itself_alone_and_is_said_once(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(packed, tmp_path / "out"))
    first, second, *_ = sorted(contents(packed))
    (folder / f"000000-{'0' * 16}.chunk").mkdir()
    (folder / f"000000-{'1' * 16}.chunk").symlink_to("nowhere")
    (folder / "copy (1).chunk").write_bytes((folder / first).read_bytes())
    real = cfdp.is_sendable

    def gone_by_then(path: Path) -> bool:
        found = real(path)
        if path.name == second:
            path.unlink()
        return found

    monkeypatch.setattr(cfdp, "is_sendable", gone_by_then)
    with listening(tmp_path / "inbox", 0.0) as ((host, port), _):
        assert main(["send", str(folder), "--to", f"{host}:{port}", "--mbit-s", "40", "--timer-s", str(TIMER_S)]) == 75
    told = capsys.readouterr().out
    assert "; 4 failed, of them no chunks: 000000-0" in told
    assert told.count("copy (1).chunk") == 1
    assert contents(tmp_path / "inbox").keys() == contents(packed).keys() - {second}


REQUESTS = {
    "wrong after right": [(0, 100), (200, 100)],
    "beyond the end": [(0, 2 << 20)],
    "the same again and again": [(0, 1000)] * 100,
    "the metadata again and again": [(0, 0)] * 100,
}


@pytest.mark.parametrize("asked", [*REQUESTS.values(), None], ids=[*REQUESTS, "no answer at all"])
def test_a_forged_answer_costs_itself_alone(asked: list[tuple[int, int]] | None, packed: Path, tmp_path: Path) -> None:
    def forged(data: bytes) -> bytes | None:
        packet = PduFactory.from_raw(data)
        if not isinstance(packet, FileDataPdu) or packet.offset:
            return None
        config = PduConfig(
            *(ByteFieldU16(1), ByteFieldU16(2), packet.transaction_seq_num, TransmissionMode.ACKNOWLEDGED),
            crc_flag=CrcFlag.WITH_CRC,
            direction=Direction.TOWARDS_SENDER,
        )
        if asked is None:
            return bytes(FileDataPdu(config, FileDataParams(b"x", 0, None)).pack())
        return bytes(NakPdu(config, 0, 1000, asked).pack())

    (tmp_path / "two").mkdir()
    for path in sorted(packed.iterdir(), key=lambda path: path.stat().st_size)[-2:]:
        shutil.copy(path, tmp_path / "two")
    with listening(tmp_path / "inbox", 0.0) as (address, link):
        link.stranger = forged
        result = send(tmp_path / "two", address, timer_s=TIMER_S, mbit_s=2)
    assert result["failed"] == []
    assert result["bytes"] < 1.3 * sum(map(len, contents(tmp_path / "two").values()))
    assert contents(tmp_path / "inbox") == contents(tmp_path / "two")


@pytest.mark.parametrize("satellite", [1, 7])
def test_forged_packets_do_not_end_what_is_under_way(satellite: int, packed: Path, tmp_path: Path) -> None:
    """An end of no transaction that was begun, or the metadata of another satellite."""
    over = threading.Event()

    def forge(address: tuple[str, int]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            number = 1 << 31
            while not over.wait(TIMER_S / 10):
                number += 1
                config = PduConfig(
                    *(ByteFieldU16(satellite), ByteFieldU16(2), ByteFieldU32(number), TransmissionMode.ACKNOWLEDGED),
                    crc_flag=CrcFlag.WITH_CRC,
                )
                packet: Any = EofPdu(config, b"\x00" * 4, 9)
                if satellite != 1:
                    packet = MetadataPdu(config, MetadataParams(False, 0, 9, "x", f"000001-{'0' * 16}.chunk"))
                stranger.sendto(packet.pack(), address)

    with listening(tmp_path / "inbox", 0.0) as (address, link):
        forger = threading.Thread(target=forge, args=(link.beyond,))
        forger.start()
        try:
            result = send(packed, address, timer_s=TIMER_S, mbit_s=2)
        finally:
            over.set()
            forger.join()
    assert result["failed"] == []
    assert result["bytes"] < 1.3 * sum(map(len, contents(packed).values()))
    assert contents(tmp_path / "inbox") == contents(packed)


WRITE, FLUSH = (cfdp_entities.RestrictedFilestore, "write_data"), (durable, "fsync")
NO_SPACE, ANOTHER = "no space; free some: what", "; give another folder: what"


@pytest.mark.parametrize(
    ("where", "number", "said"),
    [
        (WRITE, errno.ENOSPC, NO_SPACE),
        (FLUSH, errno.ENOSPC, NO_SPACE),
        ((cfdp_entities.Incoming, "create_file"), errno.EROFS, "Read-only file system" + ANOTHER),
        (FLUSH, errno.EIO, "Input/output error" + ANOTHER),
    ],
    ids=["write", "flush", "create, read-only", "flush, failing"],
)
def test_a_disk_that_takes_no_more_ends_receiving_in_one_line_and_leaves_no_part(
    where: tuple[object, str],
    number: int,
    said: str,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls, address = getattr(*where), [0], free_address()

    def fail(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] > 3:
            raise OSError(number, os.strerror(number))
        return real(*given)

    monkeypatch.setattr(*where, fail)
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(receive, tmp_path / "inbox", address, SILENT_S, TIMER_S)
        result = send(packed, address, timer_s=TIMER_S, mbit_s=40)
        with pytest.raises(RunFailed, match=said):
            received.result()
    assert contents(tmp_path / "inbox").keys() == set(result["sent"])
    assert not (tmp_path / "inbox" / ".incoming").exists()


def test_a_chunk_under_the_name_of_another_takes_no_place(packed: Path, tmp_path: Path) -> None:
    first, *others = sorted(packed.iterdir())
    (tmp_path / "other").mkdir()
    another = next(path for path in others if path.read_bytes() != first.read_bytes())  # no copy of the manifest
    shutil.copy(another, tmp_path / "other" / first.name)
    with listening(tmp_path / "inbox", 0.0) as (address, _):
        assert send(packed, address, timer_s=TIMER_S, mbit_s=40)["failed"] == []
        assert send(tmp_path / "other", address, timer_s=TIMER_S, mbit_s=40)["failed"] == [first.name]
    assert contents(tmp_path / "inbox") == contents(packed)
