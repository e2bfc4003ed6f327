"""`train.py drill` as a person starts it, on a mission small enough to be broken in a test."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TINY = ["--config", str(ROOT / "configs" / "drill.yaml"), "--optimizer.name", "adamw", "--budget.steps", "400"]


def drill(*arguments: object) -> dict[str, Any]:
    """The answer of `train.py drill --json`, which must be well."""
    command = [sys.executable, str(ROOT / "train.py"), "drill", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=14_000, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    return json.loads(done.stdout)
