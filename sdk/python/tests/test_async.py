"""The classes for event loops, on real workspaces."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pyro_workspaces import AsyncPyro, AsyncWorkspace, NotFoundError, Stream


def test_a_workspace_is_used_without_blocking_the_loop(home: Path, project: Path) -> None:
    async def main() -> None:
        pyro = AsyncPyro()
        async with await pyro.create_workspace("debian:12", seed=project) as workspace:
            output = [piece async for piece in await workspace.exec("sh run.sh >&2")]
            assert output == [(Stream.STDERR, b"running\n")]
            command = await workspace.exec(["cat"], stdin=True)
            await command.write("typed")
            await command.close_stdin()
            assert (await command.result()).stdout == "typed"
            await workspace.run("rm README.md")
            assert (await workspace.diff()).paths == ["README.md"]
        with pytest.raises(NotFoundError):
            await pyro.workspace(workspace.id)

    asyncio.run(main())


def test_several_workspaces_work_at_once(home: Path) -> None:
    async def main() -> None:
        pyro = AsyncPyro()
        made = await asyncio.gather(*(pyro.create_workspace("debian:12") for _ in range(4)))

        async def say(workspace: AsyncWorkspace, word: str) -> str:
            async with workspace:
                return (await workspace.run(["echo", word])).stdout

        said = await asyncio.gather(*(say(one, str(n)) for n, one in enumerate(made)))
        assert said == [f"{n}\n" for n in range(4)]

    asyncio.run(main())


def test_cancelling_a_task_ends_its_command(home: Path) -> None:
    async def main() -> None:
        pyro = AsyncPyro()
        async with await pyro.create_workspace("debian:12") as workspace:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(workspace.run(["sleep", "600"]), 0.3)
            deadline = time.monotonic() + 20
            while (await workspace.status()).running_commands:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    asyncio.run(main())


def test_giving_up_a_wait_for_output_loses_none(home: Path) -> None:
    async def main() -> None:
        pyro = AsyncPyro()
        async with await pyro.create_workspace("debian:12") as workspace:
            command = await workspace.exec("cat; echo last", stdin=True)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(command), 0.1)
            await command.write("first\n")
            await command.close_stdin()
            assert b"".join([data async for _, data in command]) == b"first\nlast\n"

    asyncio.run(main())


def test_a_creation_that_is_cancelled_leaves_nothing(home: Path) -> None:
    async def main() -> None:
        pyro = AsyncPyro()
        creation = asyncio.create_task(pyro.create_workspace("debian:12"))
        await asyncio.sleep(0.005)
        creation.cancel()
        try:
            # It may have been quicker.
            await (await creation).delete()
        except asyncio.CancelledError:
            pass
        assert await pyro.list_workspace() == []

    asyncio.run(main())
