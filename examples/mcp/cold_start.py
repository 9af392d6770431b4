"""Does a fresh checkout work by following its own README?

A script in the place of a model: it takes the indented blocks of the README for the documented steps.
"""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters

project = sys.argv[1]
server = StdioServerParameters(
    command="pyro",
    args=["mcp", "serve", "--mode", "cold-start", "--project-path", project],
    env=dict(os.environ),
)


async def main():
    async with Client(server) as client:

        async def call(tool, **arguments):
            result = await client.call_tool(tool, arguments)
            if result.is_error:
                raise SystemExit(f"{tool}: {result.content[0].text}")
            return result.structured_content

        name = "example-cold-start"
        await call("workspace_create", environment="debian:12", name=name)
        try:
            readme = await call("workspace_exec", workspace=name, command="cat README.md")
            lines = readme["stdout"].splitlines()
            steps = [line.strip() for line in lines if line.startswith("    ")]
            if not steps:
                raise SystemExit("the README documents no step")
            failed = 0
            for step in steps:
                ran = await call(
                    "workspace_exec", workspace=name, command=step, timeout_seconds=300
                )
                works = ran.get("exit_code") == 0
                failed += not works
                print(f"{'ok    ' if works else 'FAILED'} {step} ({ran['duration_ms']} ms)")
                if not works:
                    print((ran["stderr"] or ran["stdout"]).rstrip())
            verdict = "works as documented" if not failed else f"{failed} of {len(steps)} steps fail"
            print(f"verdict: {verdict}")
        finally:
            await call("workspace_delete", workspace=name)


asyncio.run(main())
