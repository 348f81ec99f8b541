// Two users talk. The same code runs in every runtime.

/** Sends a message from one user to another. Resolves with what arrived, and closes both clients. */
exports.talk = async function talk(ChatClient, { url, from, to, tokens, webSocket }) {
  const options = (user) => ({
    url,
    token: () => tokens[user],
    ...(webSocket ? { webSocket } : {}),
    onError: (error) => console.error(user, error.code, error.message),
  });
  const arrives = {};
  const arrived = new Promise((resolve) => (arrives.now = resolve));
  const receiver = new ChatClient(options(to));
  receiver.on("message", (message) => arrives.now(message));
  const sender = new ChatClient(options(from));
  receiver.connect();
  sender.connect();
  const receipt = await sender.sendToUser(to, { text: `hello, ${to}` });
  const { id, content } = await arrived;
  await Promise.all([sender.close(), receiver.close()]);
  return id === receipt.id ? content.text : `another message: ${id}`;
};
