"""Whether the checkpoints of a run, its config.yaml and its tokenizer are still, bit for bit, what was sealed."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.checkpoint import verify
from pipeline.config import BadInput
from pipeline.flight.recorded import CONFIG, TOKENIZER, Found, look, look_at_tokenizer, recorded
from pipeline.ground.arguments import RunParser


def main(arguments: Sequence[str]) -> int:
    """`train.py verify RUN`: exit 1, and each bad file named, if anything differs from its SEAL or its hash."""
    parser = RunParser(
        "verify",
        "Checks every file of every checkpoint against its SEAL, on the disk and not in memory; config.yaml and "
        "tokenizer.json too, and the copies on the second device. Exit code 1 if anything is damaged.",
    )
    parser.add_json()
    given = parser.parse_args(arguments)
    checked = verify(given.run)
    if not checked:
        raise BadInput(f"{given.run}: no sealed checkpoint yet; run it further, or name another run")
    places = {given.run: checked}
    if mirror := _mirror(given.run):
        if (mirror / "checkpoints").is_dir():
            places[mirror] = verify(mirror)
        else:
            print(f"{mirror}: the copies on the second device are not here, and were not checked", file=sys.stderr)
    bad = [f"{place}/checkpoints/{step}/{one}" for place in places for step, found in places[place] for one in found]
    lie = {place: {CONFIG: look(place), TOKENIZER: look_at_tokenizer(place)} for place in places}
    for place, files in lie.items():
        for name, how in files.items():
            if how is Found.DAMAGED or (how is Found.LOST and _begun(place)):  # which a checkpoint knows
                bad.append(f"{place / name}: {how.value}")
    if given.json:
        listed = [
            {
                "run": str(place),
                "files": {name: how.value for name, how in lie[place].items()},
                "checkpoints": [{"step": step, "problems": problems} for step, problems in found],
            }
            for place, found in places.items()
        ]
        print(json.dumps({"whole": not bad} | listed[0] | {"mirror": listed[1] if len(listed) > 1 else None}))
    else:
        for place, found in places.items():
            where = "" if place == given.run else f" in {place}"
            for step, problems in found:
                print(f"step {step:,}{where}: {'whole' if not problems else 'DAMAGED'}")
    for line in bad:
        print(line, file=sys.stderr)
    return 1 if bad else 0


def _begun(place: Path) -> bool:
    try:
        return recorded(place) is not None
    except BadInput:  # by another version
        return True


def _mirror(run: Path) -> Path | None:
    """The run's copies on a second device, if its configuration names one."""
    try:
        config = recorded(run)
    except BadInput as error:  # of another version: that does not hinder what is here
        print(f"{error} (copies on a second device were not checked)", file=sys.stderr)
        return None
    return config.mirror if config else None
