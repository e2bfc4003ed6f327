"""The command line of a bench."""

import argparse
from typing import NoReturn

from pipeline.config import BadInput


class BenchParser(argparse.ArgumentParser):
    """Raises BadInput, in one line, where argparse would print usage and exit."""

    def __init__(self, name: str, about: str | None):
        super().__init__(prog=f"train.py bench {name}", description=about, allow_abbrev=False)
        self.add_argument("--json", action="store_true", help="one JSON object on standard output")

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message.removeprefix('argument ')}; `{self.prog} --help` lists every argument")
