"""What survives: sealed checkpoints that no power cut takes back and no bit flip passes through.

`Store` writes and restores them; `verify` checks a whole run.
"""

from pipeline.checkpoint.restore import Restored, metas
from pipeline.checkpoint.retention import Tag
from pipeline.checkpoint.store import Store
from pipeline.checkpoint.verify import verify

__all__ = ["Restored", "Store", "Tag", "metas", "verify"]
