// A whole session with the official TypeScript client: create from a project to delete.
//
// usage: session.mjs stdio|http NAME PROJECT -- COMMAND... | URL

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// Installed elsewhere than this file.
const require = createRequire(join(process.env.PYRO_TEST_CLIENTS, "package.json"));
const load = (path) => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${path}`)));
const { Client } = await load("client/index.js");
const { StdioClientTransport } = await load("client/stdio.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");
const { ListRootsRequestSchema } = await load("types.js");

const [kind, name, project] = process.argv.slice(2);
const command = process.argv.slice(process.argv.indexOf("--") + 1);

async function connect() {
  const client = new Client({ name: "pyro test", version: "1" }, { capabilities: { roots: {} } });
  client.setRequestHandler(ListRootsRequestSchema, () => ({
    roots: [{ uri: pathToFileURL(project).href }],
  }));
  const headers = { Authorization: `Bearer ${process.env.PYRO_MCP_TOKEN}` };
  await client.connect(
    kind === "stdio"
      ? new StdioClientTransport({ command: command[0], args: command.slice(1), env: process.env })
      : new StreamableHTTPClientTransport(new URL(command[0]), { requestInit: { headers } }),
  );
  // From now on the client holds every result against its schema.
  await client.listTools();
  const call = async (tool, args = {}, onprogress = undefined) => {
    const result = await client.callTool({ name: tool, arguments: args }, undefined, { onprogress });
    assert(!result.isError, `${tool}: ${result.content[0].text}`);
    return result.structuredContent;
  };
  return { client, call };
}

const ws = { workspace: name };
{
  const { client, call } = await connect();
  const told = [];
  const made = await call("workspace_create", { environment: "debian:12", name }, (p) => told.push(p));
  assert.equal(made.seed.kind, "git");
  assert(told.length > 0, "nothing was told while it was created");
  const ran = await call("workspace_exec", {
    ...ws,
    command: "cat greeting; echo new > made.txt; rm greeting; exit 3",
  });
  assert.equal(ran.exit_code, 3);
  assert.equal(ran.stdout, "hello\n");
  const long = await call("workspace_exec", { ...ws, argv: ["seq", "1", "20000"] });
  const piece = await call("output_read", { token: long.continued[0].token, offset: 100000 });
  assert(piece.text.endsWith("\n20000\n"));
  const logs = await call("workspace_logs", ws);
  assert.equal(logs.commands.length, 2);
  const diff = await call("workspace_diff", ws);
  assert.deepEqual(diff.entries.map((one) => one.path), ["greeting", "made.txt"]);
  await call("workspace_export", { ...ws, path: "made.txt", output: "out.txt" });
  assert.equal(readFileSync(join(project, "out.txt"), "utf8"), "new\n");
  const missing = await client.callTool({ name: "workspace_status", arguments: { workspace: "none" } });
  assert(missing.isError);
  assert.equal(missing.structuredContent.code, "not_found");
  const patch = await client.readResource({ uri: `pyro://workspaces/${name}/diff` });
  assert(patch.contents[0].text.includes("+new"));
  await assert.rejects(client.readResource({ uri: "pyro://workspaces/none" }), { code: -32002 });
  const prompts = await client.listPrompts();
  assert.equal(prompts.prompts.length, 4);

  // Cancelling ends the command, not the session.
  const giveUp = new AbortController();
  const begun = new Promise((resolve) => {
    const options = { signal: giveUp.signal, onprogress: resolve };
    const call = { name: "workspace_exec", arguments: { ...ws, command: "echo begun; sleep 1000" } };
    client.callTool(call, undefined, options).then(
      () => assert.fail("a cancelled call was answered"),
      () => {},
    );
  });
  await begun;
  giveUp.abort();
  for (;;) {
    const { running_commands } = await call("workspace_status", ws);
    if (running_commands === 0) break;
  }
  assert.equal((await call("workspace_stop", ws)).state, "stopped");
  assert.equal((await call("workspace_start", ws)).state, "started");
  await client.close();
}
{
  const { client, call } = await connect();
  const { workspaces } = await call("workspace_list");
  assert(workspaces.some((one) => one.name === name));
  await call("workspace_delete", ws);
  await client.close();
}
console.log("ok");
// Connections that are kept alive would hold it for seconds.
process.exit(0);
