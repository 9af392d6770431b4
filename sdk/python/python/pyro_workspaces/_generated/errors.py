# Written by `make reference` from the catalogue of operations; a test fails while it differs from
# them. Do not edit.
"""What fails, by its code."""

from __future__ import annotations

from enum import Enum
from typing import Any, Mapping


class ErrorCode(str, Enum):
    """A stable, machine-readable reason. Doors and scripts may match on it; the words beside it
    may change.
    """

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    CONFLICT = "conflict"
    WRONG_STATE = "wrong_state"
    BUSY = "busy"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NO_SPACE = "no_space"
    PERMISSION_DENIED = "permission_denied"
    MISSING_DEPENDENCY = "missing_dependency"
    DAMAGED = "damaged"
    ENVIRONMENT_UNAVAILABLE = "environment_unavailable"
    INVALID_SEED = "invalid_seed"
    MACHINE_FAILED = "machine_failed"
    GUEST_MISBEHAVED = "guest_misbehaved"
    UNSAFE_TARGET = "unsafe_target"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    IO = "io"
    INTERNAL = "internal"

    def __str__(self) -> str:
        return self.value


class PyroError(Exception):
    """What could not be done, and what to do next.

    Attributes:
        code: The stable reason; each has a class of its own.
        message: What was attempted and could not be done, in one sentence.
        cause: What lay underneath, if it helps.
        hint: What to do next.
    """

    code: ErrorCode = ErrorCode.INTERNAL

    def __init__(
        self, message: str, *, cause: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.hint = hint

    def __str__(self) -> str:
        text = self.message
        if self.cause:
            text += f" ({self.cause})"
        if self.hint:
            text += f"; {self.hint}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_error, (self.code.value, self.message, self.cause, self.hint))


class InvalidArgumentError(PyroError):
    """A name, flag or request does not follow the contract's rules."""

    code = ErrorCode.INVALID_ARGUMENT


class NotFoundError(PyroError):
    """The thing named does not exist."""

    code = ErrorCode.NOT_FOUND


class AlreadyExistsError(PyroError):
    """The name is taken."""

    code = ErrorCode.ALREADY_EXISTS


class ConflictError(PyroError):
    """Something is not as the caller had seen it, or expected it; nothing was changed."""

    code = ErrorCode.CONFLICT


class WrongStateError(PyroError):
    """The operation does not fit the workspace's present state."""

    code = ErrorCode.WRONG_STATE


class BusyError(PyroError):
    """Another process holds the workspace and does not let go."""

    code = ErrorCode.BUSY


class CancelledError(PyroError):
    """The operation was interrupted by the user, and what it had begun was undone."""

    code = ErrorCode.CANCELLED


class TimeoutError(PyroError):
    """A time limit ran out."""

    code = ErrorCode.TIMEOUT


class NoSpaceError(PyroError):
    """No space is left on the device that holds `PYRO_HOME`, or in the guest."""

    code = ErrorCode.NO_SPACE


class PermissionDeniedError(PyroError):
    """The user may not read or write something that the operation needs."""

    code = ErrorCode.PERMISSION_DENIED


class MissingDependencyError(PyroError):
    """A program that pyro needs is not installed."""

    code = ErrorCode.MISSING_DEPENDENCY


class DamagedError(PyroError):
    """A stored file is damaged."""

    code = ErrorCode.DAMAGED


class EnvironmentUnavailableError(PyroError):
    """The environment could not be fetched or built."""

    code = ErrorCode.ENVIRONMENT_UNAVAILABLE


class InvalidSeedError(PyroError):
    """The seed cannot be taken as it is."""

    code = ErrorCode.INVALID_SEED


class MachineFailedError(PyroError):
    """The machine did not start, or died."""

    code = ErrorCode.MACHINE_FAILED


class GuestMisbehavedError(PyroError):
    """The guest broke the protocol."""

    code = ErrorCode.GUEST_MISBEHAVED


class UnsafeTargetError(PyroError):
    """The target of an export exists, or lies outside of the directory it must stay in."""

    code = ErrorCode.UNSAFE_TARGET


class TooLargeError(PyroError):
    """What was asked for is larger than a limit allows."""

    code = ErrorCode.TOO_LARGE


class UnsupportedError(PyroError):
    """This engine or build cannot do that."""

    code = ErrorCode.UNSUPPORTED


class IoError(PyroError):
    """A file or system call failed on the host."""

    code = ErrorCode.IO


class InternalError(PyroError):
    """A defect in pyro itself."""

    code = ErrorCode.INTERNAL


CLASSES: dict[str, type[PyroError]] = {
    "invalid_argument": InvalidArgumentError,
    "not_found": NotFoundError,
    "already_exists": AlreadyExistsError,
    "conflict": ConflictError,
    "wrong_state": WrongStateError,
    "busy": BusyError,
    "cancelled": CancelledError,
    "timeout": TimeoutError,
    "no_space": NoSpaceError,
    "permission_denied": PermissionDeniedError,
    "missing_dependency": MissingDependencyError,
    "damaged": DamagedError,
    "environment_unavailable": EnvironmentUnavailableError,
    "invalid_seed": InvalidSeedError,
    "machine_failed": MachineFailedError,
    "guest_misbehaved": GuestMisbehavedError,
    "unsafe_target": UnsafeTargetError,
    "too_large": TooLargeError,
    "unsupported": UnsupportedError,
    "io": IoError,
    "internal": InternalError,
}


def _error(code: str, message: str, cause: str | None, hint: str | None) -> PyroError:
    """The exception of this code; one that a newer pyro has is a plain `PyroError`."""
    if code not in CLASSES:
        cause = f"{code}: {cause}" if cause else code
        return PyroError(message, cause=cause, hint=hint)
    return CLASSES[code](message, cause=cause, hint=hint)


def error_from_json(json: Mapping[str, Any]) -> PyroError:
    """The exception that a JSON error stands for."""
    return _error(json["code"], json["message"], json.get("cause"), json.get("hint"))


__all__ = [
    "AlreadyExistsError",
    "BusyError",
    "CancelledError",
    "ConflictError",
    "DamagedError",
    "EnvironmentUnavailableError",
    "ErrorCode",
    "GuestMisbehavedError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidSeedError",
    "IoError",
    "MachineFailedError",
    "MissingDependencyError",
    "NoSpaceError",
    "NotFoundError",
    "PermissionDeniedError",
    "PyroError",
    "TimeoutError",
    "TooLargeError",
    "UnsafeTargetError",
    "UnsupportedError",
    "WrongStateError",
]
