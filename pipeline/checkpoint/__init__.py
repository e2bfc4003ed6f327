"""What survives: sealed checkpoints that no power cut takes back and no bit flip passes through.

`Store` writes and restores them; `load_newest` only reads; `verify` checks a whole run.
"""

from pipeline.checkpoint.restore import Restored, load_newest, metas
from pipeline.checkpoint.retention import Tag
from pipeline.checkpoint.store import Store
from pipeline.checkpoint.verify import verify

__all__ = ["Restored", "Store", "Tag", "load_newest", "metas", "verify"]
