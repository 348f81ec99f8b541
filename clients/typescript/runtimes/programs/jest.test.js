// Jest loads the CommonJS entry.
const { ChatClient } = require("serverless-chat-client");
const { talk } = require("./talk.cjs");

test("two users talk", async () => {
  const webSocket = globalThis.WebSocket ?? require("ws").WebSocket;
  const settings = { ...JSON.parse(process.env.TALK), webSocket };
  expect(await talk(ChatClient, settings)).toBe(`hello, ${settings.to}`);
});
