from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sessions_app import chain
from sessions_app.append_only import AppendOnlyModel


class SealedModel(AppendOnlyModel):
    """A row that is written once with an event, which carries the row's seal: the hash over all that it says."""

    #: The columns that the seal covers. One that is added later belongs into it only where a row has it.
    SEALED: ClassVar[tuple[str, ...]] = ()

    class Meta:
        abstract = True

    def seal(self) -> str:
        """Return the hash that the event carries."""
        return chain.digest([_plain(getattr(self, name)) for name in self.SEALED])


def _plain(value: Any) -> Any:
    return chain.instant(value) if isinstance(value, datetime) else chain.as_stored(value)
