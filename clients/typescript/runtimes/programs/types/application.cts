// Types as an application uses them.
import { ChatClient, type ChatError, type ChatStore, type Message } from "serverless-chat-client";
import { ChatProvider, useMessages } from "serverless-chat-client/react";
import { indexedDbStore } from "serverless-chat-client/store";

interface Text {
  text: string;
  reply?: { to: string };
}

const store: ChatStore = indexedDbStore("ann");
const typed = new ChatClient<Text>({ url: "https://chat.example.com", token: () => "t", store });
const end: () => void = typed.on("message", async (message) => console.log(message.content.text));
end();
const reply: Text = { text: "hi", reply: { to: "ben" } };
typed.sendToUser("ben", reply).catch((error: ChatError) => console.log(error.code));
// @ts-expect-error: this client sends texts.
void typed.sendToUser("ben", { txt: "hi" });
// @ts-expect-error: there is no such event.
typed.on("nothing", () => {});

const untyped = new ChatClient({ url: "https://chat.example.com", token: () => "t", webSocket: WebSocket });
void untyped.sendToUser("ben", reply);
void untyped.sendToGroup("team", ["any", { json: 1 }]);
// @ts-expect-error: null is no content.
void untyped.sendToUser("ben", null);
export const messages: Message[] = [];
untyped.on("message", (message) => void messages.push(message));

export const page = () => {
  const { messages, send } = useMessages<Text>({ userId: "ben" });
  send({ text: messages[0]?.content?.text ?? "" });
  return ChatProvider({ client: typed, userId: "ann" });
};
