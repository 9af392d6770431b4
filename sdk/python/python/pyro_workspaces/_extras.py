"""What results can say of themselves. `NAMEExtras` is mixed into the dataclass `NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._generated.types import DiffEntry


class ExecResultExtras:
    """Of a command that ended."""

    exit_code: int | None
    timed_out: bool

    @property
    def ok(self) -> bool:
        """True if it exited with 0."""
        return self.exit_code == 0 and not self.timed_out


class WorkspaceDiffExtras:
    """Of a diff."""

    entries: list[DiffEntry]

    def __bool__(self) -> bool:
        """True if anything changed."""
        return bool(self.entries)

    @property
    def paths(self) -> list[str]:
        """The changed paths."""
        return [entry.path for entry in self.entries]
