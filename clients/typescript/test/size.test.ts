/** The sizes of the entries in an application, minified and compressed. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { HERE } from "./typecheck.js";

/** In bytes. A store includes its library. */
const LIMITS = { index: 9_000, react: 2_250, store: 1_024 };

for (const [entry, limit] of Object.entries(LIMITS)) {
  test(`${entry} has at most ${limit} bytes`, async (context) => {
    const { outputFiles } = await build({
      entryPoints: [join(HERE, `src/${entry}.ts`)],
      external: ["react"],
      bundle: true,
      minify: true,
      write: false,
      format: "esm",
      target: "es2022",
    });
    const { length } = gzipSync(outputFiles[0]!.contents, { level: 9 });
    context.diagnostic(`${length} bytes`);
    assert(length <= limit, `${length} bytes`);
  });
}
