// An ES module on Node. Before Node 22, the WebSocket comes from the package ws.
import { ChatClient } from "serverless-chat-client";
import talks from "./talk.cjs";

const webSocket = globalThis.WebSocket ?? (await import("ws")).WebSocket;
console.log(await talks.talk(ChatClient, { ...JSON.parse(process.env.TALK), webSocket }));
// A server renders pages with the same package.
const { ChatProvider } = await import("serverless-chat-client/react");
const { indexedDbStore } = await import("serverless-chat-client/store");
console.log(typeof ChatProvider, typeof indexedDbStore);
process.exit();
