"""Every knob of a run: one frozen, typed tree, read from YAML and overridden on the command line.

Nothing else knows YAML. Start at `tree.Config`; `load` turns arguments into one.
"""

from pipeline.config.errors import FULL, BadInput, Refused, RunFailed, stopped_by
from pipeline.config.load import dump_yaml, load, load_file
from pipeline.config.tree import Config

__all__ = ["FULL", "BadInput", "Config", "Refused", "RunFailed", "dump_yaml", "load", "load_file", "stopped_by"]
