// A CommonJS module on Node.
const { ChatClient } = require("serverless-chat-client");
const { ChatProvider } = require("serverless-chat-client/react");
const { indexedDbStore } = require("serverless-chat-client/store");
const { talk } = require("./talk.cjs");

const webSocket = globalThis.WebSocket ?? require("ws").WebSocket;
talk(ChatClient, { ...JSON.parse(process.env.TALK), webSocket }).then((heard) => {
  console.log(heard);
  console.log(typeof ChatProvider, typeof indexedDbStore);
  process.exit();
});
