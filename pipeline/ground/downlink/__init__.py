"""What comes down from a satellite, over links that lose things: a run as chunks, the most useful first.

`plan` says which pass brings what, `pack` writes the chunks, `send` and `receive` carry them by CFDP, and `unpack`
makes files of whatever came; its listing goes up, so that the next pack leaves out what the ground has.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.config import BadInput
from pipeline.config.arguments import Parser, within
from pipeline.config.mission import Station
from pipeline.ground.arguments import usable_path

DONE, INCOMPLETE = 0, 75  # as for a run that was stopped: the same command goes on


def main(arguments: Sequence[str]) -> int:
    """`train.py downlink plan|pack|unpack|send|receive`."""
    about = "\n".join(f"  {verb:<10}{(run.__doc__ or '').splitlines()[0]}" for verb, run in _VERBS.items())
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\n{about}")
        return DONE
    if arguments[0] not in _VERBS:
        raise BadInput(f"downlink: {arguments[0]}: not known; one of {', '.join(_VERBS)}")
    return _VERBS[arguments[0]](arguments[1:])


def _plan(arguments: Sequence[str]) -> int:
    """which pass of a ground station brings down what (modelled)"""
    from pipeline.ground.downlink.plan import DAYS, lines, plan
    from pipeline.ground.run_directory import open_run

    parser = _of_run("plan", _plan)
    parser.add_argument(
        "--station",
        metavar="NAME,LAT,LON[,MASK]",
        help="ground station, degrees north and east and the lowest elevation; or the name of one of the run's "
        "mission.stations (default: the first of them)",
    )
    words = "mission second to look ahead from (default: that of the ledger's last line)"
    parser.add_argument("--from", dest="start_s", type=within(float, 0), metavar="S", help=words)
    words = f"how far to look ahead (default: {DAYS:g})"
    parser.add_argument("--days", type=within(float, 0, 60, above=True), default=DAYS, metavar="DAYS", help=words)
    given = parser.parse_args(arguments)
    station = _station(given.station, open_run(given.run).config.mission.stations)
    planned = plan(given.run, station, given.start_s, given.days, **_how(given))
    print(json.dumps(planned) if given.json else lines(planned))
    return DONE


def _pack(arguments: Sequence[str]) -> int:
    """writes a run as chunk files, in the order of sending"""
    from pipeline.ground.downlink.pack import pack

    parser = _of_run("pack", _pack)
    parser.add_argument("--out", type=usable_path, required=True, metavar="DIR", help="new folder for the chunks")
    given = parser.parse_args(arguments)
    packed = pack(given.run, given.out, **_how(given))
    if given.json:
        print(json.dumps(packed))
    else:
        groups = ", ".join(f"{name} {size / 1e6:.2f}" for name, size in packed["groups"].items())
        print(f"{given.out}: {packed['chunks']:,} chunks, {packed['bytes'] / 1e6:.2f} MB: {groups}")
    return DONE


def _unpack(arguments: Sequence[str]) -> int:
    """makes files of the chunks that came, and says what is missing; exit code 75 while something is"""
    from pipeline.ground.downlink.received import NAME
    from pipeline.ground.downlink.unpack import unpack

    parser = _parser("unpack", _unpack)
    parser.add_argument("inbox", type=usable_path, metavar="INBOX", help="folder of whatever chunks came")
    parser.add_argument(
        "--out",
        type=usable_path,
        required=True,
        metavar="DIR",
        help=f"the run as the ground has it; {NAME} in it goes up",
    )
    parser.add_json()
    given = parser.parse_args(arguments)
    found = unpack(given.inbox, given.out)
    print(json.dumps(found) if given.json else _unpacked(found))
    return INCOMPLETE if found["missing"] or not found["manifest"] else DONE


def _send(arguments: Sequence[str]) -> int:
    """sends a packed folder by CFDP over UDP; exit code 75 if some did not get through"""
    from pipeline.ground.downlink.cfdp import MODES, send

    parser = _parser("send", _send)
    parser.add_argument("folder", type=usable_path, metavar="DIR", help="what `pack` wrote")
    parser.add_argument("--to", type=_address, required=True, metavar="HOST:PORT", help="who receives")
    parser.add_argument("--mode", choices=MODES, default=MODES[0], help=f"of CFDP (default: {MODES[0]})")
    parser.add_argument("--mbit-s", type=within(float, 0, above=True), metavar="RATE", help="send no faster")
    _add_timer(parser)
    parser.add_json()
    given = parser.parse_args(arguments)
    acknowledged = given.mode == MODES[0]
    result = send(given.folder, given.to, acknowledged=acknowledged, timer_s=given.timer_s, mbit_s=given.mbit_s)
    refused = f", of them no chunks: {', '.join(result['refused'][:4])}" if result["refused"] else ""
    print(
        json.dumps(result)
        if given.json
        else f"{len(result['sent']):,} chunks sent, {result['bytes'] / 1e6:.2f} MB on the link, of them "
        f"{result['again'] / 1e6:.2f} MB again; {len(result['failed']):,} failed{refused}"
    )
    return INCOMPLETE if result["failed"] else DONE


def _receive(arguments: Sequence[str]) -> int:
    """takes chunks by CFDP over UDP into a folder, until the link has been silent for a while"""
    from pipeline.ground.downlink.cfdp import receive

    parser = _parser("receive", _receive)
    parser.add_argument("inbox", type=usable_path, metavar="INBOX", help="folder for the chunks")
    parser.add_argument(
        "--listen", type=_address, required=True, metavar="HOST:PORT", help="address; nothing is authenticated"
    )
    words = "ends when no packet has come for so long (default: 600)"
    parser.add_argument("--silent-s", type=within(float, 0, above=True), default=600.0, metavar="S", help=words)
    _add_timer(parser)
    parser.add_json()
    given = parser.parse_args(arguments)
    result = receive(given.inbox, given.listen, silent_s=given.silent_s, timer_s=given.timer_s)
    print(json.dumps(result) if given.json else f"{given.inbox}: {len(result['whole']):,} chunks came")
    return DONE


def _add_timer(parser: Parser) -> None:
    from pipeline.ground.downlink.cfdp import TIMER_S

    words = "until what was not answered is sent again: three times what a packet and its answer take (1)"
    parser.add_argument("--timer-s", type=within(float, 0, above=True), default=TIMER_S, metavar="S", help=words)


_VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "plan": _plan,
    "pack": _pack,
    "unpack": _unpack,
    "send": _send,
    "receive": _receive,
}


def _parser(verb: str, run: Callable[[Sequence[str]], int]) -> Parser:
    return Parser(f"train.py downlink {verb}", description=run.__doc__)


def _of_run(verb: str, run: Callable[[Sequence[str]], int]) -> Parser:
    from pipeline.ground.downlink.chunk import LARGEST
    from pipeline.ground.downlink.pack import CHUNK_BYTES
    from pipeline.ground.downlink.sources import GROUPS

    parser = _parser(verb, run)
    parser.add_argument("run", type=usable_path, metavar="RUN", help="directory of a run")
    parser.add_argument(
        "--received", type=usable_path, metavar="FILE", help="the ground's listing: what it has stays here"
    )
    parser.add_argument("--until", choices=GROUPS, default=GROUPS[-1], help=f"last group (default: {GROUPS[-1]})")
    words = f"bytes of a file in one chunk [KiB] (default: {CHUNK_BYTES >> 10})"
    parser.add_argument(
        "--chunk-kib", type=within(int, 1, LARGEST >> 10), default=CHUNK_BYTES >> 10, metavar="N", help=words
    )
    parser.add_json()
    return parser


def _how(given: argparse.Namespace) -> dict[str, Any]:
    return {"received": given.received, "chunk_bytes": given.chunk_kib << 10, "last": given.until}


def _station(text: str | None, known: Sequence[Station]) -> Station:
    if text is None and known:
        return known[0]
    for station in known:
        if station.name == text:
            return station
    names = ("name", "latitude_deg", "longitude_deg", "mask_deg")
    fields = dict(zip(names, (text or "").split(","), strict=False))
    if len(fields) < 3 or (text or "").count(",") > 3:
        raise BadInput(
            f"--station: {text or 'none'}: not one of the run's mission.stations; give NAME,LAT,LON as "
            "Redmond,47.674,-122.12"
        )
    try:
        return Station(**fields)  # type: ignore[arg-type]
    except ValueError as error:
        raise BadInput(f"--station: {text}: {' '.join(str(error).split())[:200]}; give NAME,LAT,LON") from error


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _unpacked(found: dict[str, Any]) -> str:
    said = [f"{found['chunks']:,} chunks; {len(found['complete']):,} files whole, {len(found['missing']):,} not"]
    for path, lack in sorted(found["missing"].items()):
        spans = [f"{start:,}-{end:,}" for start, end in lack["bytes"]]
        more = f" and {len(spans) - 4} stretches more" if len(spans) > 4 else ""
        why = lack.get("problem") or (f"needs {lack['base']}" if "base" in lack else "")
        said.append(f"  {path}: bytes {', '.join(spans[:4])}{more}" + (f" ({why})" if why else ""))
    said += [f"  {name}: no chunk: {reason}" for name, reason in sorted(found["damaged"].items())]
    said += [f"  {name}: of a time that nothing here has come to; counts as the oldest" for name in found["ahead"]]
    for path in found["later"]:
        said.append(f"  {path}: later than the manifest; forged, if no later pack was sent: `pack --received` mends it")
    if not found["manifest"]:
        said.append("no manifest came: there may be files that nothing here tells of")
    return "\n".join(said)
