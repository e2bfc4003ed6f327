"""Which pass of a ground station brings down what. All of it is modelled: passes by SGP4, at a rate that is assumed."""

from pathlib import Path
from typing import Any

from pipeline.config.mission import Radio, Station
from pipeline.ground.downlink import received as listing
from pipeline.ground.downlink.pack import CHUNK_BYTES, Piece, manifest_pieces, pieces
from pipeline.ground.downlink.received import Received
from pipeline.ground.downlink.sources import GROUPS, moment
from pipeline.ground.run_directory import open_run
from pipeline.orbit import Pass, passes, track
from pipeline.orbit.timeline import DAY_S

DAYS = 7.0  # looked ahead


def pass_bytes(radio: Radio, seen: Pass) -> int:
    """What a pass carries of files (modelled)."""
    return int((seen.end_s - seen.start_s) * radio.downlink_mbit_s * 1e6 / 8 * radio.usable)


def plan(
    run_dir: Path | str,
    station: Station,
    start_s: float | None = None,
    days: float = DAYS,
    received: Path | str | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    last: str = GROUPS[-1],
) -> dict[str, Any]:
    """The chunks that `pack` would write, put into the passes of `station` in their order.

    Args:
        start_s: mission second to look from; null: that of the last line of the ledger.
        received, chunk_bytes, last: as for `pack`.

    Returns:
        provenance ("modelled"); station; rate_mbit_s; usable; start_s; passes: start_s, end_s, utc, highest_deg,
        capacity and used [bytes]; files: path, group, sent [bytes], pass (the number of the one that completes it,
        from 1; null: none within `days`; 0: the ground has it); groups: sent and pass of each.

    Raises:
        BadInput: no run, no such listing, or elements that give no position.
        RunFailed: no checkpoint is whole, or the run changed while it was read.
    """
    run = open_run(run_dir)
    ground = listing.read(Path(received)) if received else Received()
    files: list[dict[str, Any]] = []
    at = moment(run, ground)
    begin_s = at[1] if start_s is None else start_s
    sent = list(map(_without_data, pieces(run, at, ground, chunk_bytes, last, files)))
    sent = [*map(_without_data, manifest_pieces(run, at, files, chunk_bytes)), *sent]
    path, radio = track(run.config.orbit), run.config.satellite.radio
    seen = passes(path, station, begin_s, days * DAY_S)
    brought = _fill([pass_bytes(radio, each) for each in seen], [size for _, size in sent])
    done: dict[str, int | None] = {}
    for (name, _), number in zip(sent, brought, strict=True):
        done[name] = number  # of its last chunk
    used = [sum(size for (_, size), at in zip(sent, brought, strict=True) if at == n) for n in range(1, len(seen) + 1)]
    told = [
        {"path": file["path"], "group": file["group"], "sent": file["sent"], "pass": done.get(file["path"], 0)}
        for file in files
    ]
    return {
        "provenance": "modelled",
        "station": station.name,
        "rate_mbit_s": radio.downlink_mbit_s,
        "usable": radio.usable,
        "start_s": begin_s,
        "passes": [
            {
                "start_s": each.start_s,
                "end_s": each.end_s,
                "utc": path.utc(each.start_s).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "highest_deg": each.highest_deg,
                "capacity": pass_bytes(radio, each),
                "used": used[n],
            }
            for n, each in enumerate(seen)
        ],
        "groups": {group: _of_group(told, group) for group in GROUPS if any(file["group"] == group for file in told)},
        "files": told,
    }


def lines(planned: dict[str, Any]) -> str:
    """The plan for a terminal."""
    said = [
        f"{planned['station']}, {planned['rate_mbit_s']:g} Mbit/s of which {100 * planned['usable']:.0f} % carry files "
        "(assumed); all figures modelled"
    ]
    for number, each in enumerate(planned["passes"], 1):
        if each["used"]:
            minutes = (each["end_s"] - each["start_s"]) / 60.0
            said.append(
                f"pass {number}  {each['utc']}  {minutes:4.1f} min, up to {each['highest_deg']:.0f} deg: "
                f"{each['used'] / 1e6:.2f} of {each['capacity'] / 1e6:.1f} MB"
            )
        for name, group in planned["groups"].items():
            if group["pass"] == number:
                said.append(f"        then whole: {name} ({group['sent'] / 1e6:.2f} MB)")
    if left := [name for name, group in planned["groups"].items() if group["pass"] is None]:
        said.append(f"not whole after the {len(planned['passes'])} passes looked at: {', '.join(left)}")
    if not any(group["sent"] for group in planned["groups"].values()):
        said.append("nothing to send")
    return "\n".join(said)


def _of_group(files: list[dict[str, Any]], group: str) -> dict[str, Any]:
    within = [file for file in files if file["group"] == group]
    numbers = [file["pass"] for file in within]
    last = None if None in numbers else max(numbers, default=0)
    return {"sent": sum(file["sent"] for file in within), "pass": last}


def _fill(capacities: list[int], sizes: list[int]) -> list[int | None]:
    """The pass of each chunk, from 1; a chunk that a pass cannot finish waits for the next."""
    found: list[int | None] = []
    number, left = 0, 0
    for size in sizes:
        while size > left and number < len(capacities):
            left = capacities[number]
            number += 1
        fits = size <= left
        left = left - size if fits else 0
        found.append(number if fits else None)
    return found


def _without_data(piece: Piece) -> tuple[str, int]:
    return piece.path, len(piece.data)
