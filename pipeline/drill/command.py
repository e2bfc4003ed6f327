"""`train.py drill`: breaks a run on purpose, many times, and proves that nothing was lost."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pipeline.config import BadInput, load
from pipeline.config.arguments import Parser, within
from pipeline.drill import KINDS
from pipeline.flight.start_from import settle

QUIET_S = 10.0  # until the first line of what goes on: bad input is found by then
USAGE = "train.py drill --config FILE --outages 20 --seed 1 --kind kill [--work-dir DIR] [--json] [--KEY VALUE]"


def main(arguments: Sequence[str]) -> int:
    """`train.py drill`: 0 if nothing was lost and the control arms lost something, else 1.

    Raises:
        BadInput: an argument is wrong, or this machine cannot do that kind.
        RunFailed: the run that nothing disturbs fails.
    """
    own, rest = _parse(arguments)
    if not any(word.startswith("--config") for word in rest):
        raise BadInput("--config: missing; name the run to break, as configs/drill.yaml")
    config = settle(load(rest, prog=USAGE))
    if config.run_dir is not None and any(word.startswith("--run_dir") for word in rest):
        raise BadInput(f"run_dir: {config.run_dir}: a drill makes its own runs; give --work-dir")
    environment = dict(os.environ)  # of the runs: whatever device they train on, the drill itself needs none
    os.environ["JAX_PLATFORMS"] = "cpu"
    from pipeline.drill.drill import Orders, drill
    from pipeline.drill.table import show
    from pipeline.flight.display import Display

    began = time.monotonic()
    outlives_terminal = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup
    stops = [signal.SIGTERM] if outlives_terminal else [signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.signal(number, _stop) for number in stops}
    try:
        with _work_dir(own.work_dir) as work, closing(Display(quiet_s=QUIET_S)) as display:
            tally = drill(Orders(config, rest, own.kind, own.outages, own.seed, work), environment, display)
            well = tally.well(own.outages)
            if well and not own.work_dir:
                shutil.rmtree(work)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    answer = {"kind": own.kind, "seed": own.seed, "well": well, **tally.as_json()}
    answer["wall_s"] = round(time.monotonic() - began, 1)
    if own.json:
        print(json.dumps(answer))
    else:
        show(answer)
    return 0 if well else 1


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = Parser("train.py drill", USAGE, usage=USAGE, description=__doc__)
    parser.add_argument("--kind", choices=KINDS, default="mixed", help="of outage; mixed: all that this machine can do")
    parser.add_argument("--outages", type=within(int, 1), default=20, metavar="N", help="how many (default: 20)")
    parser.add_argument("--seed", type=within(int, 0), default=0, metavar="S", help="of the dice of the drill")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="empty or new; kept (default: a temporary one)")
    parser.add_json()
    return parser.parse_known_args(list(arguments))


@contextmanager
def _work_dir(given: Path | None) -> Iterator[Path]:
    """Where the drill works. A temporary one is kept too, if something was lost: it holds the evidence."""
    if given is None:
        made = Path(tempfile.mkdtemp(prefix="dayside-drill-"))
        try:
            yield made
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        if made.exists():
            print(f"kept for study: {made}", file=sys.stderr)
        return
    try:
        given.mkdir(parents=True, exist_ok=True)
        if any(given.iterdir()):
            raise BadInput(f"--work-dir: {given}: not empty; give a new one")
    except OSError as error:
        raise BadInput(f"--work-dir: {given}: {error.strerror}; give a folder that can be written") from error
    yield given.absolute()


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
