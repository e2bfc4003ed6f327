"""Cases of a test that prove little beside the ones that every change must pass."""

from typing import Any

import pytest


def slow(*cases: Any) -> list[Any]:
    """The same cases, for the long proofs alone; one of several arguments is a tuple."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]
