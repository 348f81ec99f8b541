/** Compares the types of the protocol with the documents of the APIs, which the local stack serves. */

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compile, type JSONSchema } from "json-schema-to-typescript";
import { startStack, type Stack } from "./stack.js";
import { HERE, typecheck } from "./typecheck.js";

/** By the name of the type here, its name in the document. */
const OF_SOCKET = {
  PrivateMessage: "PrivateMessage",
  GroupMessage: "GroupMessage",
  AckFrame: "Ack",
  ErrorFrame: "Error",
  Notification: "Notification",
  RecalledFrame: "Recalled",
  ReadFrame: "Read",
  TypingFrame: "Typing",
  InvitationFrame: "InvitationFrame",
  GroupFrame: "GroupChanged",
};
const OF_REST = {
  PrivateMessage: "PrivateMessage",
  GroupMessage: "GroupMessage",
  RecalledPrivateMessage: "RecalledPrivateMessage",
  RecalledGroupMessage: "RecalledGroupMessage",
  PrivateConversation: "PrivateConversation",
  GroupConversation: "GroupConversation",
  Conversation: "Conversation",
  RecalledFrame: "Recalled",
  FromSender: "FromSender",
  Group: "Group",
  Invitation: "Invitation",
};

/**
 * Types that are more exact than those that are made of the documents. Those know any array and object as the content
 * of a message within another type, and say of "exactly one of two fields" only that both are optional.
 */
const NARROWER = new Set([
  "RecalledFrame", "ReadFrame", "PrivateConversation", "GroupConversation", "Conversation", "FromSender",
]);

/** Compares two types. `content` is any JSON in both, and a client accepts `code`s that are not yet known. */
const COMPARISON = `
type Ignored = "content" | "code";
type Known<T> = { [K in keyof T as string extends K ? never : K extends Ignored ? never : K]: T[K] };
type Same<A, B> = [Known<A>] extends [Known<B>]
  ? [Known<B>] extends [Known<A>]
    ? [keyof Known<A>, keyof Known<B>] extends [keyof Known<B>, keyof Known<A>] ? true : "other fields"
    : "narrower"
  : "wider";
`;

async function typesOf(stack: Stack, document: string, names: string[]): Promise<string> {
  const { components } = (await (await fetch(`${stack.publicUrl}/${document}.json`)).json()) as { components: object };
  const properties = Object.fromEntries(names.map((name) => [name, { $ref: `#/components/schemas/${name}` }]));
  const schema = { title: "All", type: "object", properties, required: names, components };
  const options = { additionalProperties: false, ignoreMinAndMaxItems: true, format: false, bannerComment: "" };
  return compile(schema as JSONSchema, "All", options);
}

/** The result of the comparison that shows that a type here is right. */
function result(own: string): string {
  return NARROWER.has(own) ? '"narrower"' : "true";
}

/** The errors of the compiler about types that should be equal. */
async function compare(stack: Stack, document: string, pairs: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "serverless-chat-types-"));
  try {
    await writeFile(join(folder, "document.ts"), await typesOf(stack, document, Object.values(pairs)));
    const lines = Object.entries(pairs).map(
      ([own, theirs]) => `export const ${own}: Same<own.${own}, All["${theirs}"]> = ${result(own)};`,
    );
    const head = `import type { All } from "./document.js";\nimport type * as own from "${HERE}/src/protocol.js";\n`;
    await writeFile(join(folder, "compare.ts"), head + COMPARISON + lines.join("\n"));
    await typecheck(folder, "compare.ts");
    return "";
  } catch (error) {
    return (error as { stdout?: string }).stdout ?? String(error);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("types match the documents", { timeout: 120_000 }, async (context) => {
  const stack = await startStack();
  context.after(() => stack.stop());
  assert.equal(await compare(stack, "asyncapi", OF_SOCKET), "");
  assert.equal(await compare(stack, "openapi", OF_REST), "");
  // Shows that this test would notice a difference.
  assert.match(await compare(stack, "openapi", { Group: "Invitation" }), /is not assignable/);
});
