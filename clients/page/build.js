// Builds what the local stack embeds beside index.html and page.css: localstack/src/page.js. With --check: fails if what
// is there is something else.
import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const OUT = new URL("../../localstack/src/page.js", import.meta.url);
const HEAD = "// Built from clients/page by `npm run build`: not to be edited.\n";

const { outputFiles } = await build({
  entryPoints: [new URL("src/page.ts", import.meta.url).pathname],
  alias: { "serverless-chat-client": new URL("../typescript/src/index.ts", import.meta.url).pathname },
  bundle: true,
  write: false,
  format: "esm",
  target: "es2022",
  // Neither comments nor names of a machine's folders.
  legalComments: "none",
  minify: true,
  charset: "utf8",
});
const text = HEAD + outputFiles[0].text;

if (process.argv[2] !== "--check") {
  await writeFile(OUT, text);
} else if ((await readFile(OUT, "utf8").catch(() => "")) !== text) {
  console.error("localstack/src/page.js is not what clients/page builds: run npm run build");
  process.exitCode = 1;
}
