"""Which software computes: only under the same are bits the same."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from xxhash import xxh3_64_hexdigest


@cache
def software() -> Mapping[str, str]:
    """A hash of the code of this package, as it is when first asked, and versions. Kept in every checkpoint."""
    import jax
    import jaxlib

    code = "not known"
    with suppress(OSError):  # a file of it cannot be read any more: no reason not to fly
        files = sorted(file for file in Path(__file__).parents[1].rglob("*.py") if file.is_file())
        code = xxh3_64_hexdigest(b"".join(file.read_bytes() for file in files))[:8]
    return {"code": code, "jax": jax.__version__, "jaxlib": jaxlib.__version__}


def other_software(before: object) -> str | None:
    """What is other than when a checkpoint was saved, in words; None if nothing is, or that is not known."""
    if not isinstance(before, Mapping):
        return None
    was = {name: before.get(name, now) for name, now in software().items()}  # of what it did not say, nothing is known
    changed = [f"{name} {was[name]}, now {now}" for name, now in software().items() if was[name] != now]
    return f"{'; '.join(changed)}: from here on the last bits need not be the same" if changed else None
