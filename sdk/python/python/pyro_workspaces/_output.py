"""What a running command writes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ._generated.types import ExecResult, Stream


class Output(NamedTuple):
    """A piece of output as it came: `for stream, data in command`."""

    stream: Stream
    data: bytes

    @property
    def text(self) -> str:
        """The data as text; bytes that are not UTF-8, or half a character, are replaced."""
        return self.data.decode("utf-8", "replace")


def read_event(event: Any) -> Output | ExecResult:
    """A piece of output, or the result after the last of them."""
    if isinstance(event, str):
        return ExecResult.from_json(json.loads(event))
    stream, data = event
    return Output(Stream(stream), data)


def as_bytes(data: bytes | str) -> bytes:
    """Input for a command."""
    return data.encode() if isinstance(data, str) else bytes(data)
