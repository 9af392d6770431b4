"""Several workspaces at once: the same project, tried in different ways side by side.

    python side_by_side.py DIRECTORY COMMAND...

Runs each COMMAND in a workspace of its own, all at the same time.
"""

import asyncio
import sys

from pyro_workspaces import AsyncPyro, ExecResult


async def attempt(pyro: AsyncPyro, project: str, command: str) -> ExecResult:
    async with await pyro.create_workspace("debian:12", seed=project) as workspace:
        running = await workspace.exec(command)
        async for _, data in running:
            print(f"[{workspace.id}] {data.decode(errors='replace').rstrip()}")
        return await running.result()


async def main(project: str, commands: list[str]) -> None:
    pyro = AsyncPyro()
    results = await asyncio.gather(*(attempt(pyro, project, command) for command in commands))
    for command, result in zip(commands, results):
        print(f"{result.exit_code}  {command}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
