"""A whole session with the official Python client: create from a project to delete.

usage: session.py stdio|http auto|legacy NAME PROJECT [--roots] -- COMMAND... | URL
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx2
import mcp.types as types
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

transport, mode, name, project = sys.argv[1:5]
with_roots = "--roots" in sys.argv
command = sys.argv[sys.argv.index("--") + 1 :]


def server():
    if transport == "stdio":
        return StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))
    headers = {"Authorization": "Bearer " + os.environ["PYRO_MCP_TOKEN"]}
    return streamable_http_client(command[0], http_client=httpx2.AsyncClient(headers=headers, timeout=60))


async def roots(_context):
    return types.ListRootsResult(roots=[types.Root(uri=Path(project).as_uri())])


def text(result):
    return result.content[0].text


async def call(client, tool, arguments=None, **more):
    result = await client.call_tool(tool, arguments or {}, **more)
    assert not result.is_error, f"{tool}: {text(result)}"
    assert result.structured_content is not None, tool
    return result


async def session(client):
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert tools["workspace_status"].annotations.read_only_hint is True
    assert tools["workspace_delete"].annotations.destructive_hint is True
    assert all(tool.output_schema for tool in tools.values())

    told = []

    async def progress(_done, _total, message):
        told.append(message)

    ws = {"workspace": name}
    made = await call(
        client,
        "workspace_create",
        {"environment": "debian:12", "name": name},
        progress_callback=progress,
    )
    assert made.structured_content["state"] == "started"
    assert made.structured_content["seed"]["kind"] == "git", made
    assert "last commit" in made.structured_content["note"], made
    assert told, "nothing was told while it was created"

    told.clear()
    ran = await call(
        client,
        "workspace_exec",
        ws | {"command": "cat greeting; echo oops >&2; echo new > made.txt; rm greeting; exit 3"},
        progress_callback=progress,
    )
    assert ran.structured_content["exit_code"] == 3
    assert ran.structured_content["stdout"] == "hello\n", ran
    assert "exit code 3" in text(ran) and "oops" in text(ran)
    assert "".join(told).count("hello") == 1, told

    long = await call(client, "workspace_exec", ws | {"argv": ["seq", "1", "20000"]})
    cut = long.structured_content["continued"][0]
    assert cut["field"] == "stdout" and cut["total_bytes"] == 108894
    rest, offset = "", 0
    while offset is not None:
        piece = await call(client, "output_read", {"token": cut["token"], "offset": offset})
        rest += piece.structured_content["text"]
        offset = piece.structured_content.get("next_offset")
    assert rest == "".join(f"{n}\n" for n in range(1, 20001))

    logs = await call(client, "workspace_logs", ws)
    assert [one["sequence"] for one in logs.structured_content["commands"]] == [1, 2]
    assert "oops" in text(logs)

    diff = await call(client, "workspace_diff", ws)
    assert [one["path"] for one in diff.structured_content["entries"]] == ["greeting", "made.txt"]
    assert "+new" in text(diff)

    out = Path(project, "out.txt")
    await call(client, "workspace_export", ws | {"path": "made.txt", "output": "out.txt"})
    assert out.read_text() == "new\n"
    refused = await client.call_tool(
        "workspace_export", ws | {"path": "made.txt", "output": "/etc/pyro-was-here"}
    )
    assert refused.is_error and refused.structured_content["code"] == "permission_denied"
    assert not os.path.exists("/etc/pyro-was-here")

    listed = [str(one.uri) for one in (await client.list_resources()).resources]
    assert f"pyro://workspaces/{name}/diff" in listed
    patch = await client.read_resource(f"pyro://workspaces/{name}/diff")
    assert "+new" in patch.contents[0].text
    templates = (await client.list_resource_templates()).resource_templates
    assert len(templates) == 3
    try:
        await client.read_resource("pyro://workspaces/none")
        raise AssertionError("a resource that is not there was read")
    except MCPError as error:
        assert "none" in str(error)

    prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
    assert prompts == {"repro-fix", "inspect", "cold-start", "review-eval"}
    prompt = await client.get_prompt("repro-fix", {"bug": "it breaks"})
    assert "it breaks" in prompt.messages[0].content.text

    missing = await client.call_tool("workspace_status", {"workspace": "none"})
    assert missing.is_error and missing.structured_content["code"] == "not_found"
    assert missing.structured_content["hint"]

    stopped = await call(client, "workspace_stop", ws)
    assert stopped.structured_content["state"] == "stopped"
    refused = await client.call_tool("workspace_exec", ws | {"command": "true"})
    assert refused.is_error and refused.structured_content["code"] == "wrong_state"
    started = await call(client, "workspace_start", ws)
    assert started.structured_content["state"] == "started"
    kept = await call(client, "workspace_exec", ws | {"command": "cat made.txt"})
    assert kept.structured_content["stdout"] == "new\n"


async def end(client):
    # Another connection: the workspace outlived the first, and is found by its name.
    listed = await call(client, "workspace_list")
    assert name in [one.get("name") for one in listed.structured_content["workspaces"]]
    await call(client, "workspace_delete", {"workspace": name})
    listed = await call(client, "workspace_list")
    assert name not in [one.get("name") for one in listed.structured_content["workspaces"]]


async def main():
    told = {"list_roots_callback": roots} if with_roots else {}
    async with Client(server(), mode=mode, **told) as client:
        await session(client)
        revision = client.session.protocol_version
    async with Client(server(), mode=mode, **told) as client:
        await end(client)
    print(f"ok: MCP {revision}")


asyncio.run(main())
