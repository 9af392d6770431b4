"""The blocking classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike, fspath
from types import TracebackType
from typing import Any

from ._generated.errors import NotFoundError, WrongStateError
from ._generated.operations import Operations, WorkspaceOperations
from ._generated.types import ExecResult, WorkspaceStatus
from ._native import Client, Failure, Pending, Session
from ._output import Collected, Output, as_bytes
from ._program import program as own_program
from ._wait import OnProgress, as_pyro_error, wait


def open_client(
    home: str | PathLike[str] | None, program: str | PathLike[str] | None
) -> Client:
    """A client of everything under one home."""
    try:
        return Client(fspath(program or own_program()), home)
    except Failure as failure:
        raise as_pyro_error(failure) from None


def start_command(client: Client, request: dict[str, Any], stdin: bytes | str | bool) -> Pending:
    """Begins to start a command; `stdin` is its input, or whether it will have some."""
    workspace = request.pop("workspace")
    request["stdin"] = stdin is not False
    try:
        return client.exec(workspace, json.dumps(request))
    except Failure as failure:
        raise as_pyro_error(failure) from None


class Pyro(Operations):
    """A client of the workspaces and environments of this host.

    It starts no daemon and keeps nothing open. May be shared by threads, which wait beside each
    other.

    Args:
        home: Where the state lies; by default `$PYRO_HOME`, else `~/.local/share/pyro`.
        program: The `pyro` program; by default the one that came with this package.
        on_progress: Hears of the progress of what takes long, in the thread that waits for it.
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
        return f"Pyro(home={fspath(self._client.home)!r})"

    def workspace(self, workspace: str) -> Workspace:
        """The workspace of this id or name. A `with` block over it leaves it in place."""
        return self._made(self.status_workspace(workspace), keep=True)

    def _made(self, status: WorkspaceStatus, keep: bool) -> Workspace:
        return Workspace(self, status, keep)

    def _perform(self, operation: str, request: dict[str, Any]) -> Any:
        pending = self._client.perform(operation, json.dumps(request))
        return json.loads(wait(pending, self._on_progress))


class Workspace(WorkspaceOperations):
    """A workspace. `Pyro.create_workspace` makes one, `Pyro.workspace` finds one.

    As a context manager it deletes the workspace at the end, unless `keep` is true.

    Attributes:
        keep: Leave it in place when a `with` block over it ends.
    """

    def __init__(self, pyro: Pyro, status: WorkspaceStatus, keep: bool) -> None:
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
        return f"<Workspace {self._id}{name}>"

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.keep:
            with suppress(NotFoundError):
                self.delete()

    def _perform(self, operation: str, request: dict[str, Any]) -> Any:
        return self._pyro._perform(operation, request)

    def _start(self, request: dict[str, Any], stdin: bytes | str | bool) -> Command:
        argv = request["argv"]
        session: Session = wait(start_command(self._pyro._client, request, stdin))
        return Command(session, argv, stdin)


class Command:
    """A running command: an iterator over its output, as it comes.

    It ends when this is closed or forgotten. Output that nobody takes makes the command wait.

        for stream, data in workspace.exec(["make", "test"]):
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
        return f"<Command {self.sequence} {self._argv!r} {state}>"

    def __iter__(self) -> Iterator[Output]:
        return self

    def __next__(self) -> Output:
        if self._result is not None:
            raise StopIteration
        # Kept if the wait is interrupted, so that no output is lost.
        self._next = self._next or self._session.next()
        event = self._collected.take(wait(self._next, interrupt=False))
        self._next = None
        if isinstance(event, Output):
            return event
        self._result = event
        raise StopIteration

    def result(self) -> ExecResult:
        """Waits for its end, and tells how it ended and what it wrote, up to 1 MiB of each."""
        for _ in self:
            pass
        if self._result is None:
            raise WrongStateError("the command was closed before it ended")
        return self._result

    def write(self, data: bytes | str) -> None:
        """Sends input; the command was started with `stdin=True`."""
        wait(self._session.write(as_bytes(data)))

    def close_stdin(self) -> None:
        """Ends the input."""
        wait(self._session.close_stdin())

    def signal(self, number: int) -> None:
        """Sends a signal to the command and all that it started."""
        wait(self._session.signal(number))

    def close(self) -> None:
        """Ends the command and all that it started, if it still runs."""
        if self._result is None:
            self._session.close()

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
