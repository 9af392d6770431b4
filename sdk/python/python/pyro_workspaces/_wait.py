"""Waiting for what the native half has under way: blocking, or in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._generated.errors import PyroError, error_from_json
from ._native import Failure, Pending


@dataclass(frozen=True)
class Progress:
    """How far something is that takes long.

    Attributes:
        stage: What is being done, in the present tense.
        done: How far it is.
        total: Where it ends, if that is known.
        unit: What the numbers count: `bytes` or `items`.
    """

    stage: str
    done: int
    total: int | None
    unit: str


OnProgress = Callable[[Progress], None]


def wait(
    pending: Pending, on_progress: OnProgress | None = None, *, interrupt: bool = True
) -> Any:
    """Blocks, with other threads running, until it is done.

    An exception that arrives meanwhile, as Ctrl-C does, interrupts it: what it had begun is
    undone before the exception goes on. A second one does not wait for that.
    """
    try:
        while not pending.poll():
            _tell(pending, on_progress)
            pending.wait()
    except BaseException:
        if interrupt:
            pending.cancel()
            while not pending.poll():
                pending.wait()
        raise
    return _result(pending)


async def wait_async(
    pending: Pending, on_progress: OnProgress | None = None, *, interrupt: bool = True
) -> Any:
    """The same in an event loop. Cancelling the task interrupts what it waits for."""
    try:
        while not pending.poll():
            _tell(pending, on_progress)
            await _readable(pending)
    except BaseException:
        if interrupt:
            pending.cancel()
            while not pending.poll():
                await _readable(pending)
        raise
    return _result(pending)


async def _readable(pending: Pending) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    descriptor = pending.fileno()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _tell(pending: Pending, on_progress: OnProgress | None) -> None:
    if on_progress is not None and (report := pending.report()) is not None:
        on_progress(Progress(*report))


def _result(pending: Pending) -> Any:
    try:
        return pending.result()
    except Failure as failure:
        raise as_pyro_error(failure) from None


def as_pyro_error(failure: Failure) -> PyroError:
    """The exception of the failure's code."""
    code, message, cause, hint = failure.args
    return error_from_json({"code": code, "message": message, "cause": cause, "hint": hint})
