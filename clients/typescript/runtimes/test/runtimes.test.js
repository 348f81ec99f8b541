// Installs the package that `npm pack` makes, and runs it in each runtime and with each bundler, against a local stack.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { transformAsync } from "@babel/core";
import { build as bundle } from "esbuild";
import { chromium } from "playwright-core";
import { build as vite } from "vite";
import webpack from "webpack";
// The helpers of the client's own tests. `npm run test:build` there compiles them.
import { befriend, startStack, tokenOf } from "../../build/test/stack.js";

const run = promisify(execFile);
const HERE = fileURLToPath(new URL("..", import.meta.url));
const CLIENT = join(HERE, "..");
const BUILD = join(HERE, "build");
const FIRST_CHAT = join(CLIENT, "../../docs/first-chat.md");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** The other versions of Node. The tests themselves run on Node 20. */
const NODES = ["18.20.8", "22.23.3", "24.21.0"];

let stack;
let tarball;
let browser;

before(async () => {
  await rm(BUILD, { recursive: true, force: true });
  await mkdir(BUILD);
  const packed = await run("npm", ["pack", "--json", "--pack-destination", BUILD], { cwd: CLIENT });
  const [{ filename }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("[\n")));
  tarball = join(BUILD, filename);
  const folder = join(HERE, "node_modules/serverless-chat-client");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  // Its dependency, idb-keyval, is installed beside it.
  await run("tar", ["xzf", tarball, "--strip-components=1", "--directory", folder]);
  stack = await startStack();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
});

after(async () => {
  await browser?.close();
  await stack?.stop();
});

let pairs = 0;

/** Two friends, as the programs take them. */
async function talk() {
  const [from, to] = [`ann${++pairs}`, `ben${pairs}`];
  await befriend(stack, from, to);
  return { url: stack.publicUrl, from, to, tokens: { [from]: tokenOf(from), [to]: tokenOf(to) } };
}

/** Serves a folder to the browser. */
async function serve(context, folder) {
  const types = { ".html": "text/html", ".js": "text/javascript" };
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    const file = path === "/" ? "/index.html" : path;
    const body = await readFile(join(folder, file)).catch(() => undefined);
    response.writeHead(body ? 200 : 404, { "content-type": types[extname(file)] ?? "text/plain" }).end(body);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  context.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

/** The first block of code of a language in a document. */
const block = (document, language) => new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "ms").exec(document)[1];

test("the package has entries and types for each way to import it", async () => {
  const attw = join(HERE, "node_modules/@arethetypeswrong/cli/dist/index.js");
  const types = await run(process.execPath, [attw, tarball, "--format", "table-flipped"]);
  assert.match(types.stdout, /No problems found/);
  const publint = join(HERE, "node_modules/publint/src/cli.js");
  const entries = await run(process.execPath, [publint, "run", tarball, "--strict"]);
  assert.match(entries.stdout, /All good!/);
});

for (const [module, resolution, file] of [
  ["node16", "node16", "programs/types/application.mts"],
  ["node16", "node16", "programs/types/application.cts"],
  ["esnext", "bundler", "programs/types/application.mts"],
  ["esnext", "bundler", "build/readme.tsx"],
  ["esnext", "bundler", "build/first-chat.tsx"],
]) {
  test(`TypeScript finds the types: ${resolution}, ${file}`, async () => {
    await writeFile(join(BUILD, "readme.tsx"), block(await readFile(join(CLIENT, "README.md"), "utf8"), "tsx"));
    await writeFile(join(BUILD, "first-chat.tsx"), block(await readFile(FIRST_CHAT, "utf8"), "tsx"));
    const compiler = join(HERE, "node_modules/typescript/bin/tsc");
    const options = ["--ignoreConfig", "--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom", "--types", ""];
    const kinds = ["--jsx", "react-jsx", "--module", module, "--moduleResolution", resolution];
    await run(process.execPath, [compiler, ...options, ...kinds, file], { cwd: HERE }).catch((error) => assert.fail(error.stdout));
  });
}

for (const version of [undefined, ...NODES]) {
  for (const file of ["node.mjs", "node.cjs"]) {
    test(`two users talk on Node ${version ?? process.versions.node}: ${file}`, { timeout: 120_000 }, async () => {
      const settings = await talk();
      const program = join(HERE, "programs", file);
      const [command, words] = version ? ["npx", ["-y", "-p", `node@${version}`, "node"]] : [process.execPath, []];
      const env = { ...process.env, TALK: JSON.stringify(settings) };
      const { stdout } = await run(command, [...words, program], { env });
      assert.equal(stdout, `hello, ${settings.to}\nfunction function\n`);
    });
  }
}

test("two users talk in Jest", { timeout: 60_000 }, async () => {
  const env = { ...process.env, TALK: JSON.stringify(await talk()) };
  const jest = join(HERE, "node_modules/jest/bin/jest.js");
  const { stderr } = await run(process.execPath, [jest, "--rootDir", "programs", "--watchman=false"], { cwd: HERE, env });
  assert.match(stderr, /1 passed/);
});

test("the client runs in the engine of React Native", { timeout: 60_000 }, async () => {
  // As Metro does: one bundle, transformed by React Native's preset.
  const { outputFiles } = await bundle({
    entryPoints: [join(HERE, "programs/react-native.mjs")],
    inject: [join(HERE, "programs/react-native-globals.js")],
    conditions: ["react-native", "require"],
    mainFields: ["browser", "main"],
    bundle: true,
    write: false,
    format: "iife",
    target: "esnext",
  });
  const preset = ["module:@react-native/babel-preset", { enableBabelRuntime: false, unstable_transformProfile: "hermes-stable" }];
  const filename = join(BUILD, "react-native.js");
  const { code } = await transformAsync(outputFiles[0].text, { presets: [preset], filename, babelrc: false, compact: true });
  await writeFile(filename, code);
  const system = { linux: "linux64-bin", darwin: "osx-bin", win32: "win64-bin" }[process.platform];
  const { stdout } = await run(join(HERE, "node_modules/hermes-engine-cli", system, "hermes"), ["-w", filename]);
  const last = "https://chat.example.com/api/read?userId=ben&until=a%26b";
  assert.deepEqual(JSON.parse(stdout), { got: ["é 😀 汉", "again"], ids: 2, last }, stdout);
});

test("two users talk in a service worker, bundled by webpack", { timeout: 60_000 }, async (context) => {
  const stats = await promisify(webpack)({
    mode: "production",
    target: "webworker",
    context: HERE,
    entry: "./programs/worker.mjs",
    output: { path: join(BUILD, "worker"), filename: "worker.js" },
  });
  assert(!stats.hasErrors(), stats.toString());
  await writeFile(join(BUILD, "worker/index.html"), "<!doctype html>");
  const page = await browser.newPage();
  context.after(() => page.close());
  await page.goto(await serve(context, join(BUILD, "worker")));
  const settings = await talk();
  const heard = await page.evaluate(async (settings) => {
    await navigator.serviceWorker.register("/worker.js");
    const { active } = await navigator.serviceWorker.ready;
    return new Promise((resolve) => {
      navigator.serviceWorker.onmessage = ({ data }) => resolve(data);
      active.postMessage(settings);
    });
  }, settings);
  assert.equal(heard, `hello, ${settings.to}`);
});

/** Builds the example. In development, StrictMode mounts each component, unmounts it, and mounts it again. */
async function example(mode) {
  const root = join(BUILD, mode);
  await cp(join(CLIENT, "examples/react"), root, { recursive: true, filter: (path) => !/node_modules|dist/.test(path) });
  process.env.NODE_ENV = mode;
  await vite({ root, mode, logLevel: "error", build: { minify: mode === "production" } });
  return join(root, "dist");
}

/** Opens the example for a user in a browser of their own, and signs in. */
async function open(context, address, url, user) {
  const tab = await (await browser.newContext()).newPage();
  tab.on("pageerror", (error) => assert.fail(error));
  context.after(() => tab.context().close());
  await tab.goto(address);
  await tab.getByLabel("Server").fill(url);
  await tab.getByLabel("Token").fill(tokenOf(user));
  await tab.getByRole("button", { name: "Sign in" }).click();
  return tab;
}

const talkTo = (tab, friend) => tab.getByRole("button", { name: friend }).click();

async function say(tab, text) {
  await tab.getByLabel("Message").fill(text);
  await tab.getByRole("button", { name: "Send", exact: true }).click();
}

/** Waits until a text is in so many messages. */
function shows(tab, text, count = 1) {
  const isSo = ([text, count]) =>
    [...document.querySelectorAll("li")].filter((li) => li.textContent.includes(text)).length === count;
  return tab.waitForFunction(isSo, [text, count]);
}

test("the example works under StrictMode, where the client closes and connects again", { timeout: 120_000 }, async (context) => {
  const folder = await example("development");
  const [file] = await readdir(join(folder, "assets"));
  assert.match(await readFile(join(folder, "assets", file), "utf8"), /doubleInvokeEffects/);
  await befriend(stack, "strict1", "strict2");
  const address = await serve(context, folder);
  const [one, two] = await Promise.all(["strict1", "strict2"].map((user) => open(context, address, stack.publicUrl, user)));
  await talkTo(one, "strict2");
  await say(one, "twice mounted");
  await talkTo(two, "strict1");
  await Promise.all([shows(one, "twice mounted"), shows(two, "twice mounted")]);
  await one.getByText("online").waitFor();
});

test("the first chat of the documents, built by Vite", { timeout: 120_000 }, async (context) => {
  const document = await readFile(FIRST_CHAT, "utf8");
  const root = join(BUILD, "first");
  await mkdir(root);
  const versions = JSON.parse(await readFile(join(CLIENT, "examples/react/package.json"), "utf8"));
  const own = JSON.parse(block(document, "json"));
  for (const [name, version] of Object.entries({ ...own.dependencies, ...own.devDependencies })) {
    if (!version.startsWith("file:")) assert.equal(version, { ...versions.dependencies, ...versions.devDependencies }[name]);
  }
  const script = block(document, "tsx");
  assert(script.includes('"http://127.0.0.1:3000"'));
  await writeFile(join(root, "index.html"), block(document, "html"));
  await writeFile(join(root, "main.tsx"), script.replace('"http://127.0.0.1:3000"', JSON.stringify(stack.publicUrl)));
  process.env.NODE_ENV = "production";
  await vite({ root, mode: "production", logLevel: "error" });
  const address = await serve(context, join(root, "dist"));
  await befriend(stack, "first1", "first2");
  const [one, two] = await Promise.all(
    ["first1", "first2"].map(async (user) => {
      const tab = await (await browser.newContext()).newPage();
      tab.on("pageerror", (error) => assert.fail(error));
      context.after(() => tab.context().close());
      await tab.goto(`${address}#${tokenOf(user)}`);
      return tab;
    }),
  );
  await say(one, "my first message");
  await Promise.all([shows(one, "my first message"), shows(two, "first1: my first message")]);
  await say(two, "I have it");
  await shows(one, "first2: I have it");
  await one.reload();
  await shows(one, "first2: I have it");
});

test("the example for React, built by Vite", { timeout: 120_000 }, async (context) => {
  const address = await serve(context, await example("production"));

  // A stack that ends and comes back at the same address, as a network does.
  const data = join(BUILD, "data");
  let own = await startStack(["--data", data]);
  const port = (url) => new URL(url).port;
  const ports = ["--public-port", port(own.publicUrl), "--internal-port", port(own.internalUrl)];
  context.after(() => own.stop());
  await befriend(own, "ann", "ben");

  const [ann, ben] = await Promise.all(["ann", "ben"].map((user) => open(context, address, own.publicUrl, user)));
  await talkTo(ann, "ben");
  await say(ann, "hello, ben");
  await ben.getByText("(1)").waitFor();
  await talkTo(ben, "ann");
  await shows(ben, "hello, ben");
  await ben.getByText("(1)").waitFor({ state: "detached" });
  await ben.getByLabel("Message").pressSequentially("hm");
  await ann.getByText("ben is typing…").waitFor();

  // Without a server, a reload shows the conversation at once, and keeps what was not sent.
  await own.stop();
  await say(ann, "into the dark");
  await shows(ann, "into the dark sending");
  await ann.reload();
  await talkTo(ann, "ben");
  await shows(ann, "hello, ben");
  await shows(ann, "into the dark sending");
  own = await startStack([...ports, "--data", data]);
  await shows(ben, "into the dark");
  await ann.getByText("sending").waitFor({ state: "detached" });
  await say(ben, "I hear you");
  await shows(ann, "I hear you");
  await shows(ann, "into the dark");
  await ann.reload();
  await talkTo(ann, "ben");
  await shows(ann, "I hear you");
  await ann.getByText("online").waitFor();
  await shows(ann, "into the dark");
  await shows(ben, "into the dark");
});
