"""Between Python's values and JSON's."""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


def request(**fields: Any) -> dict[str, Any]:
    """A request: what was not said is left out, and has the contract's default."""
    return {
        name.rstrip("_"): _encode(value) for name, value in fields.items() if value is not None
    }


def _encode(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return request(**{field.name: getattr(value, field.name) for field in fields})
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _encode(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(one) for one in value]
    return value


def argv_of(command: str | Sequence[str] | None) -> list[str] | None:
    """The arguments of a command; one string is a script of the shell."""
    if command is None:
        return None
    return ["sh", "-lc", command] if isinstance(command, str) else list(command)


def env_of(variables: Mapping[str, str] | Sequence[Any] | None) -> list[Any] | None:
    """Environment variables, as the contract lists them."""
    if variables is None or not isinstance(variables, Mapping):
        return None if variables is None else list(variables)
    return [{"name": name, "value": value} for name, value in variables.items()]


def seed_of(seed: Any) -> Any:
    """A seed; a path alone means the directory or archive there."""
    if isinstance(seed, (str, os.PathLike)):
        return {"kind": "path", "path": os.fspath(seed)}
    return seed


def path_of(field: str, path: str | bytes | os.PathLike[str] | None) -> dict[str, Any]:
    """A path of any bytes, as the two fields that the contract has for it."""
    if path is None:
        return {}
    exact = path if isinstance(path, bytes) else os.fsencode(path)
    fields = {field: exact.decode("utf-8", "replace")}
    if fields[field].encode() != exact:
        fields[f"{field}_base64"] = base64.b64encode(exact).decode()
    return fields


def exact_bytes(text: str, exact: str | None) -> bytes:
    """The bytes of a text that could not hold them all."""
    return text.encode() if exact is None else base64.b64decode(exact)


def maybe(value: Any, read: Callable[[Any], T]) -> T | None:
    """What `read` makes of a value, if there is one."""
    return None if value is None else read(value)
