"""The classes for event loops. Each method is the blocking class's, to be awaited."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from os import PathLike, fspath
from types import TracebackType
from typing import Any

from ._generated.errors import NotFoundError, WrongStateError
from ._generated.operations import AsyncOperations, AsyncWorkspaceOperations
from ._generated.types import ExecResult, WorkspaceStatus
from ._native import Pending, Session
from ._output import Collected, Output, as_bytes
from ._sync import open_client, start_command
from ._wait import OnProgress, wait_async


class AsyncPyro(AsyncOperations):
    """A client of the workspaces and environments of this host, for `asyncio`.

    Cancelling a task interrupts what it waits for: a command is ended, and a workspace that was
    being made is unmade.

    Args:
        home: Where the state lies; by default `$PYRO_HOME`, else `~/.local/share/pyro`.
        program: The `pyro` program; by default the one that came with this package.
        on_progress: Hears of the progress of what takes long, in the event loop.
    """

    def __init__(
        self,
        *,
        home: str | PathLike[str] | None = None,
        program: str | PathLike[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._client = open_client(home, program)
        self._on_progress = on_progress

    def __repr__(self) -> str:
        return f"AsyncPyro(home={fspath(self._client.home)!r})"

    async def workspace(self, workspace: str) -> AsyncWorkspace:
        """The workspace of this id or name. An `async with` block over it leaves it in place."""
        return self._made(await self.status_workspace(workspace), keep=True)

    def _made(self, status: WorkspaceStatus, keep: bool) -> AsyncWorkspace:
        return AsyncWorkspace(self, status, keep)

    async def _perform(self, operation: str, request: dict[str, Any]) -> Any:
        pending = self._client.perform(operation, json.dumps(request))
        return json.loads(await wait_async(pending, self._on_progress))


class AsyncWorkspace(AsyncWorkspaceOperations):
    """A workspace. `AsyncPyro.create_workspace` makes one, `AsyncPyro.workspace` finds one.

    As a context manager (`async with`) it deletes the workspace at the end, unless `keep` is true.

    Attributes:
        keep: Leave it in place when an `async with` block over it ends.
    """

    def __init__(self, pyro: AsyncPyro, status: WorkspaceStatus, keep: bool) -> None:
        self._pyro = pyro
        self._id = status.id
        self._name = status.name
        self.keep = keep

    @property
    def id(self) -> str:
        """The permanent id."""
        return self._id

    @property
    def name(self) -> str | None:
        """The name that it had when this was made."""
        return self._name

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        return f"<AsyncWorkspace {self._id}{name}>"

    async def __aenter__(self) -> AsyncWorkspace:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.keep:
            with suppress(NotFoundError):
                await self.delete()

    async def _perform(self, operation: str, request: dict[str, Any]) -> Any:
        return await self._pyro._perform(operation, request)

    async def _start(self, request: dict[str, Any], stdin: bytes | str | bool) -> AsyncCommand:
        argv = request["argv"]
        pending = start_command(self._pyro._client, request, stdin)
        session: Session = await wait_async(pending)
        return AsyncCommand(session, argv, stdin)


class AsyncCommand:
    """A running command: an asynchronous iterator over its output, as it comes.

    It ends when this is closed or forgotten. Output that nobody takes makes the command wait.

        async for stream, data in await workspace.exec(["make", "test"]):
            ...
    """

    def __init__(self, session: Session, argv: list[str], stdin: bytes | str | bool) -> None:
        self._session = session
        self._argv = argv
        self._collected = Collected()
        self._next: Pending | None = None
        self._result: ExecResult | None = None
        self._input: Pending | None = None
        if not isinstance(stdin, bool):
            # Taken while the output is read, so that neither waits for the other.
            self._input = session.feed(as_bytes(stdin))

    @property
    def sequence(self) -> int:
        """Its number in the workspace's journal."""
        return self._session.sequence

    def __repr__(self) -> str:
        state = "running" if self._result is None else f"exited {self._result.exit_code}"
        return f"<AsyncCommand {self.sequence} {self._argv!r} {state}>"

    def __aiter__(self) -> AsyncIterator[Output]:
        return self

    async def __anext__(self) -> Output:
        if self._result is not None:
            raise StopAsyncIteration
        # Kept if the wait is cancelled, so that no output is lost.
        self._next = self._next or self._session.next()
        event = self._collected.take(await wait_async(self._next, interrupt=False))
        self._next = None
        if isinstance(event, Output):
            return event
        self._result = event
        raise StopAsyncIteration

    async def result(self) -> ExecResult:
        """Waits for its end, and tells how it ended and what it wrote, up to 1 MiB of each."""
        async for _ in self:
            pass
        if self._result is None:
            raise WrongStateError("the command was closed before it ended")
        return self._result

    async def write(self, data: bytes | str) -> None:
        """Sends input; the command was started with `stdin=True`."""
        await wait_async(self._session.write(as_bytes(data)))

    async def close_stdin(self) -> None:
        """Ends the input."""
        await wait_async(self._session.close_stdin())

    async def signal(self, number: int) -> None:
        """Sends a signal to the command and all that it started."""
        await wait_async(self._session.signal(number))

    def close(self) -> None:
        """Ends the command and all that it started, if it still runs."""
        if self._result is None:
            self._session.close()

    async def __aenter__(self) -> AsyncCommand:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
