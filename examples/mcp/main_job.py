"""The main job: an agent works in a machine of its own, and its user takes out what he approves."""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters

project = sys.argv[1]
server = StdioServerParameters(
    command="pyro", args=["mcp", "serve", "--project-path", project], env=dict(os.environ)
)


async def main():
    async with Client(server) as client:

        async def call(tool, **arguments):
            result = await client.call_tool(tool, arguments)
            if result.is_error:
                raise SystemExit(f"{tool}: {result.content[0].text}")
            return result

        # The project's tracked files are at /workspace; nothing else of this host is there.
        await call("workspace_create", environment="debian:12", name="example-main")
        try:
            ran = await call(
                "workspace_exec",
                workspace="example-main",
                command="git --version; ls; echo 'made in a workspace' > notes.txt",
            )
            print(ran.content[0].text)
            diff = await call("workspace_diff", workspace="example-main")
            print(diff.content[0].text)
            await call(
                "workspace_export", workspace="example-main", path="notes.txt", output="notes.txt"
            )
        finally:
            await call("workspace_delete", workspace="example-main")


asyncio.run(main())
