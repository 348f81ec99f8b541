// Runs in the engine of React Native, without its network: a pretended server acknowledges each message.
import { ChatClient } from "serverless-chat-client";

const lacks = ["crypto", "TextEncoder", "URLSearchParams", "addEventListener", "document"];
for (const name of lacks) if (globalThis[name] !== undefined) throw new Error(`${name} exists here`);
if (AbortSignal.timeout || AbortSignal.prototype.throwIfAborted) throw new Error("AbortSignal is a newer one");

class Socket {
  readyState = 0;
  constructor() {
    setTimeout(() => {
      this.readyState = 1;
      this.onopen({});
    }, 0);
  }
  send(text) {
    const { requestId, content } = JSON.parse(text);
    if (requestId === undefined) return;
    ids.push(requestId);
    this.say({ type: "ACK", requestId, id: `id ${content}`, timestamp: Date.now() });
    this.say({ type: "unicast", id: `from ${content}`, senderId: "ben", receiverId: "ann", content, timestamp: Date.now() });
  }
  say(frame) {
    setTimeout(() => this.onmessage({ data: JSON.stringify(frame) }), 0);
  }
  close() {
    this.readyState = 3;
    setTimeout(() => this.onclose({ code: 1000 }), 0);
  }
}

/** The engine alone does not wait: its timers fire at once. So time limits never pass here. */
const clock = {
  now: () => Date.now(),
  after(ms, wake) {
    const timer = ms > 1_000 ? undefined : setTimeout(wake, ms);
    return { cancel: () => timer !== undefined && clearTimeout(timer) };
  },
};

const ids = [];
const asked = [];
const answer = { ok: true, status: 200, headers: { get: () => null }, text: async () => "[]" };
const got = [];
const client = new ChatClient({
  url: "https://chat.example.com",
  token: () => "t",
  webSocket: Socket,
  clock,
  fetch: async (url) => {
    asked.push(url);
    return answer;
  },
  onError: (error) => print("error", error.code, error.message),
});
client.on("message", ({ content }) => void got.push(content));

function online() {
  return new Promise((resolve) => {
    const end = client.on("state", (state) => {
      if (state !== "online") return;
      end();
      resolve();
    });
    client.connect();
  });
}

async function main() {
  await online();
  await client.sendToUser("ben", "é 😀 汉");
  await client.close();
  await online();
  await client.sendToUser("ben", "again");
  while (got.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  await client.api.markRead({ userId: "ben" }, "a&b");
  await client.close();
  print(JSON.stringify({ got, ids: new Set(ids).size, last: asked[asked.length - 1] }));
}
main().catch((error) => print("failed", error.stack ?? error));
