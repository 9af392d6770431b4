"""See a test fail, fix it in the workspace, see it pass, hand over the patch.

A script in the place of a model: it knows the bug of the project that the tests make for it.
"""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters

project = sys.argv[1]
server = StdioServerParameters(
    command="pyro",
    args=["mcp", "serve", "--mode", "repro-fix", "--project-path", project],
    env=dict(os.environ),
)
TEST = "python3 -m unittest -q"


async def main():
    async with Client(server) as client:

        async def call(tool, **arguments):
            result = await client.call_tool(tool, arguments)
            if result.is_error:
                raise SystemExit(f"{tool}: {result.content[0].text}")
            return result.structured_content

        # What a model would start from.
        prompt = await client.get_prompt("repro-fix", {"bug": "the sum is wrong"})
        assert "no fix before the bug was seen" in prompt.messages[0].content.text

        name = "example-repro-fix"
        await call("workspace_create", environment="debian:12", name=name)
        try:
            before = await call("workspace_exec", workspace=name, command=TEST)
            if before.get("exit_code") == 0:
                raise SystemExit("the bug does not show: nothing to fix")
            print("reproduced:", before["stderr"].strip().splitlines()[-1])

            fix = "sed -i 's/sum(numbers\\[1:\\])/sum(numbers)/' sums.py"
            await call("workspace_exec", workspace=name, command=fix)
            after = await call("workspace_exec", workspace=name, command=TEST)
            if after.get("exit_code") != 0:
                raise SystemExit(after["stderr"])
            # What running left behind is no part of the fix.
            await call("workspace_exec", workspace=name, command="rm -rf __pycache__")
            diff = await call("workspace_diff", workspace=name)
            assert {one["path"] for one in diff["entries"]} == {"sums.py"}, diff
            print(diff["patch"])
        finally:
            await call("workspace_delete", workspace=name)


asyncio.run(main())
