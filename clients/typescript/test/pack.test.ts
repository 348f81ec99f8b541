/** Installs the package that `npm pack` makes into an empty folder. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { HERE, typecheck } from "./typecheck.js";

const run = promisify(execFile);

/** A TypeScript application. */
const APPLICATION = `
import { ChatClient, ChatError, type Message } from "serverless-chat-client";
const messages: Message[] = [];
export const client = new ChatClient({
  url: "https://chat.example.com",
  token: () => "t",
  onMessage: (message) => void messages.push(message),
});
const receipt: Promise<{ id: string; timestamp: number }> = client.sendToUser("ben", { text: "hi" });
receipt.catch((error: ChatError) => console.log(error.code));
// @ts-expect-error: null is not a content.
void client.sendToUser("ben", null);
`;

test("the package can be installed and imported, and has its types", { timeout: 60_000 }, async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "serverless-chat-client-"));
  context.after(() => rm(folder, { recursive: true }));
  const packed = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: HERE });
  // The build prints before the name of the package.
  const [{ filename, files }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("[\n")));
  const names = files.map(({ path }: { path: string }) => path);
  for (const name of ["README.md", "package.json", "dist/index.js", "dist/index.d.ts", "src/index.ts"]) {
    assert(names.includes(name), name);
  }
  assert(names.every((name: string) => /^(README\.md|REFERENCE\.md|package\.json|(dist|src|react|store)\/)/.test(name)), names.join(" "));

  await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", filename], { cwd: folder });
  const program = 'import * as all from "serverless-chat-client"; console.log(Object.keys(all).join());';
  const imported = await run(process.execPath, ["--input-type=module", "--eval", program], { cwd: folder });
  assert.equal(imported.stdout, "ChatClient,ChatError\n");

  await writeFile(join(folder, "application.ts"), APPLICATION);
  await typecheck(folder, "application.ts");
});
