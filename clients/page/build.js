// Builds what the local stack embeds, into localstack/src/page. With --check: fails if what is there is something else.
import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const OUT = new URL("../../localstack/src/page/", import.meta.url);
const HEAD = "Built from clients/page by `npm run build`: not to be edited.";

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

const source = (name) => readFile(new URL(`src/${name}`, import.meta.url), "utf8");
const files = {
  "index.html": (await source("index.html")).replace(/^<!doctype html>\n/, `$&<!-- ${HEAD} -->\n`),
  "page.css": `/* ${HEAD} */\n${await source("page.css")}`,
  "page.js": `// ${HEAD}\n${outputFiles[0].text}`,
};

for (const [name, text] of Object.entries(files)) {
  const place = new URL(name, OUT);
  if (process.argv[2] !== "--check") {
    await writeFile(place, text);
  } else if ((await readFile(place, "utf8").catch(() => "")) !== text) {
    console.error(`localstack/src/page/${name} is not what clients/page builds: run npm run build`);
    process.exitCode = 1;
  }
}
