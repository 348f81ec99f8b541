/** A local stack for the tests, on free ports, and tokens for its users. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";

/** The secret of these tests. */
const SECRET = "the-secret-of-the-tests-of-the-client";

const DEFAULT_PROGRAM = new URL("../../../../target/debug/localstack", import.meta.url);
const PROGRAM = process.env["LOCALSTACK"] ?? fileURLToPath(DEFAULT_PROGRAM);

export interface Stack {
  publicUrl: string;
  internalUrl: string;
  stop(): Promise<void>;
}

/** Starts a local stack. Resolves when it is ready. */
export async function startStack(options: string[] = [], environment: Record<string, string> = {}): Promise<Stack> {
  const ports = ["--public-port", "--internal-port", "--dynamodb-port"].filter((name) => !options.includes(name));
  const child = spawn(PROGRAM, [...ports.flatMap((name) => [name, "0"]), ...options], {
    env: { PATH: process.env["PATH"], JWT_SECRET: SECRET, JWT_LEEWAY_SECONDS: "0", ...environment },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const line = await Promise.race([
    once(createInterface(child.stdout), "line").then(([text]) => text as string),
    once(child, "error").then(([error]) => Promise.reject(error as Error)),
    once(child, "exit").then(() => Promise.reject(new Error("the local stack ended"))),
  ]);
  const addresses = /^ready public=(\S+) internal=(\S+) /.exec(line);
  assert(addresses?.[1] !== undefined && addresses[2] !== undefined, line);
  return {
    publicUrl: addresses[1],
    internalUrl: addresses[2],
    async stop() {
      if (child.exitCode !== null) return;
      child.kill("SIGTERM");
      await once(child, "exit");
    },
  };
}

/** A token of a user, valid for this many seconds. */
export function tokenOf(user: string, seconds = 3600): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp, jti: randomUUID() })}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

/** Makes two users friends, as the host application does. */
export async function befriend(stack: Stack, a: string, b: string): Promise<void> {
  const answer = await fetch(`${stack.internalUrl}/relationship/${a}/friends/${b}`, { method: "PUT" });
  assert.equal(answer.status, 200);
}

/** Bans a user until a time, as the host application does. */
export async function ban(stack: Stack, user: string, until: number): Promise<void> {
  const query = new URLSearchParams({ until: new Date(until).toISOString() });
  const answer = await fetch(`${stack.internalUrl}/user/${user}/ban?${query}`, { method: "PUT" });
  assert.equal(answer.status, 200);
}

/** Ends the ban of a user. */
export async function unban(stack: Stack, user: string): Promise<void> {
  const answer = await fetch(`${stack.internalUrl}/user/${user}/ban`, { method: "DELETE" });
  assert.equal(answer.status, 200);
}

/** Closes all connections of a user. */
export async function kick(stack: Stack, user: string): Promise<void> {
  const answer = await fetch(`${stack.internalUrl}/user/${user}/connections`, { method: "DELETE" });
  assert.equal(answer.status, 200);
}

/** Notifies a user, as the host application does. */
export async function notify(stack: Stack, to: string, notificationType: string, content: unknown): Promise<void> {
  const answer = await fetch(`${stack.internalUrl}/notification?to=${to}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ notificationType, content }),
  });
  assert.equal(answer.status, 200);
}
