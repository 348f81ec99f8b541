// Builds localstack/src/page.js. The local stack embeds it, index.html and page.css. With --check: fails if the file
// there differs from what this builds, or if the page is too large.
import { readFile, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { build, transform } from "esbuild";

const OUT = new URL("../../localstack/src/page.js", import.meta.url);
const HEAD = "// Built from clients/page by `npm run build`. Do not edit.\n";

/** The largest size of the whole page, minified and compressed. */
const MAX_BYTES = 60 * 1024;

const source = (path) => new URL(path, import.meta.url);

const { outputFiles } = await build({
  entryPoints: [source("src/main.tsx").pathname],
  alias: { "serverless-chat-client": source("../typescript/src/index.ts").pathname },
  bundle: true,
  write: false,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  // Without comments, so also without paths of this machine.
  legalComments: "none",
  minify: true,
  charset: "utf8",
});
const text = HEAD + outputFiles[0].text;

if (process.argv[2] !== "--check") {
  await writeFile(OUT, text);
} else if ((await readFile(OUT, "utf8").catch(() => "")) !== text) {
  console.error("localstack/src/page.js is out of date: run npm run build in clients/page");
  process.exitCode = 1;
}

const css = await transform(await readFile(source("src/page.css"), "utf8"), { loader: "css", minify: true });
const html = await readFile(source("src/index.html"), "utf8");
const sizes = [text, css.code, html].map((part) => gzipSync(part).length);
const bytes = sizes.reduce((sum, size) => sum + size);
console.log(`the page has ${bytes} bytes, minified and compressed (script, style, document: ${sizes.join(", ")})`);
if (bytes > MAX_BYTES) {
  console.error(`the page has ${bytes} bytes, minified and compressed; the limit is ${MAX_BYTES}`);
  process.exitCode = 1;
}
