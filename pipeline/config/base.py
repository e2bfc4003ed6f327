"""What every section of the configuration is: frozen, strict about unknown keys, each field described."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def resolved(self, **derived: Any) -> Self:
        """A copy, in which what is null of `derived` has its value."""
        return self.model_copy(update={name: v for name, v in derived.items() if getattr(self, name) is None})
