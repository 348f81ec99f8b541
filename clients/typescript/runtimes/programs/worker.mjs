// A service worker, bundled by webpack.
import { ChatClient } from "serverless-chat-client";
import { talk } from "./talk.cjs";

self.addEventListener("message", (event) => {
  event.waitUntil(talk(ChatClient, event.data).then((heard) => event.source.postMessage(heard), (error) => event.source.postMessage(String(error))));
});
