// Builds localstack/src/page.js. The local stack embeds it, index.html and page.css. With --check: fails if the file
// there differs from what this builds.
import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const OUT = new URL("../../localstack/src/page.js", import.meta.url);
const HEAD = "// Built from clients/page by `npm run build`. Do not edit.\n";

const { outputFiles } = await build({
  entryPoints: [new URL("src/page.ts", import.meta.url).pathname],
  alias: { "serverless-chat-client": new URL("../typescript/src/index.ts", import.meta.url).pathname },
  bundle: true,
  write: false,
  format: "esm",
  target: "es2022",
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
