"""One self-contained page that says how a run stands and what happened to it, from its directory alone."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import BadInput, stopped_by
from pipeline.config.arguments import within
from pipeline.ground.arguments import RunParser, usable_path


def main(arguments: Sequence[str]) -> int:
    """`train.py report RUN`."""
    parser = RunParser("report", "One HTML page about a run: it opens anywhere and asks the network for nothing.")
    parser.add_argument("--out", type=usable_path, metavar="FILE", help="where to write it (default: NAME.html, here)")
    parser.add_argument(
        "--samples",
        type=within(int, 0),
        default=60,
        help="tokens that each of at most four checkpoints writes; 0: none (default: 60)",
    )
    parser.add_argument(
        "--follow", action="store_true", help="serve the page of a live run, without samples, to this computer only"
    )
    parser.add_argument("--port", type=within(int, 0, 65535), default=8765, help="of --follow; 0: any (default: 8765)")
    parser.add_json()
    given = parser.parse_args(arguments)
    if given.follow:
        if given.out or given.json:
            raise BadInput("--follow: serves the page and writes no file; leave --out and --json out")
        from pipeline.ground.report.serve import follow

        return follow(given.run, given.port)
    out = report(given.run, given.out, given.samples)
    print(json.dumps({"report": str(out), "bytes": out.stat().st_size}) if given.json else out)
    return 0


def report(run_dir: Path | str, out: Path | str | None = None, samples: int = 60) -> Path:
    """Writes the page of the run in `run_dir` to `out` (default: NAME.html in the current directory); returns where.

    All of it, or what was there before.

    Args:
        samples: tokens that each of a few sealed checkpoints writes; 0: none, which needs no JAX.

    Raises:
        BadInput: there is no ledger, or `out` cannot be written.
        RunFailed: it cannot be written now: the disk is full, or fails.
    """
    from pipeline.ground.report.collect import Collector
    from pipeline.ground.report.page import render

    directory = Path(run_dir)
    out = Path(out) if out else Path(f"{directory.resolve().name}.html")
    if not out.parent.is_dir():
        raise BadInput(f"--out: {out}: there is no folder {out.parent}; create it")
    page = render(Collector(directory).collect(samples)).encode(errors="replace")  # a name may be no text
    try:
        _put(Path(os.path.realpath(out)), page)
    except OSError as error:
        raise stopped_by(error, f"--out: {out}: cannot be written", "name a file that can") from error
    return out


def _put(out: Path, page: bytes) -> None:
    """All of `page` at `out`, or what was there before."""
    if out.exists() and not out.is_file():  # a pipe or a device, which nothing takes the place of
        out.write_bytes(page)
        return
    file, draft = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with open(file, "wb") as written:
            written.write(page)
        os.chmod(draft, out.stat().st_mode if out.exists() else 0o644)
        os.replace(draft, out)
    except BaseException:  # Ctrl-C too
        Path(draft).unlink(missing_ok=True)
        raise
