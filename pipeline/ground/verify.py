"""Whether the checkpoints of a run are still, bit for bit, what was sealed."""

import json
import sys
from collections.abc import Sequence

from pipeline.checkpoint import verify
from pipeline.config import BadInput
from pipeline.ground.arguments import Parser


def main(arguments: Sequence[str]) -> int:
    """`train.py verify RUN`: exit 1, and each bad file named, if anything differs from its SEAL."""
    parser = Parser("verify", "Checks every file of every checkpoint against its SEAL, on the disk and not in memory.")
    parser.add_json()
    given = parser.parse_args(arguments)
    checked = verify(given.run)
    if not checked:
        raise BadInput(f"{given.run}: no sealed checkpoint yet; run it further, or name another run")
    bad = {step: problems for step, problems in checked if problems}
    if given.json:
        steps = [{"step": step, "problems": problems} for step, problems in checked]
        print(json.dumps({"run": str(given.run), "whole": not bad, "checkpoints": steps}))
    else:
        for step, problems in checked:
            print(f"step {step:,}: {'whole' if not problems else 'DAMAGED'}")
    for step, problems in bad.items():
        for problem in problems:
            print(f"{given.run}/checkpoints/{step}/{problem}", file=sys.stderr)
    return 1 if bad else 0
