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


# Of each stream, the most that a result holds.
OUTPUT_CAP = 1 << 20


class Collected:
    """Both streams of a command, as far as its result holds them."""

    def __init__(self) -> None:
        self._streams = {stream: bytearray() for stream in Stream}
        self._truncated = False

    def take(self, event: Any) -> Output | ExecResult:
        """A piece of output; or the result, after the last of them."""
        if isinstance(event, str):
            return self._result(json.loads(event))
        output = Output(Stream(event[0]), event[1])
        kept = self._streams[output.stream]
        room = OUTPUT_CAP - len(kept)
        self._truncated |= len(output.data) > room
        kept += output.data[:room]
        return output

    def _result(self, outcome: dict[str, Any]) -> ExecResult:
        text = {s.value: kept.decode("utf-8", "replace") for s, kept in self._streams.items()}
        return ExecResult.from_json({**outcome, **text, "truncated": self._truncated})


def as_bytes(data: bytes | str) -> bytes:
    """Input for a command."""
    return data.encode() if isinstance(data, str) else bytes(data)
