/** What the entries add to an application, minified and compressed. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { HERE } from "./typecheck.js";

/** In bytes. A store includes its library. */
const LIMITS = { index: 9_216, react: 2_048, store: 1_024 };

/** Returns the bytes of a script that exports all of these entries. */
async function size(entries: string[]): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents: entries.map((entry) => `export * from "./${entry}.ts";`).join("\n"), resolveDir: join(HERE, "src") },
    external: ["react"],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

for (const [entry, limit] of Object.entries(LIMITS)) {
  // Every application has the client, so another entry counts by what it adds.
  const others = entry === "index" ? [] : ["index"];
  test(`${entry} adds at most ${limit} bytes`, async (context) => {
    const added = (await size([...others, entry])) - (others.length > 0 ? await size(others) : 0);
    context.diagnostic(`${added} bytes`);
    assert(added <= limit, `${added} bytes`);
  });
}
