// A chat in one file: sign in with a token of the local stack, choose a friend, and talk.
import { StrictMode, useEffect, useMemo, useState, type FormEvent } from "react";
import { createRoot } from "react-dom/client";
import { ChatClient } from "serverless-chat-client";
import { ChatProvider, useChat, useConversations, useMessages, useTyping } from "serverless-chat-client/react";
import { indexedDbStore } from "serverless-chat-client/store";

/** What the messages of this application contain. */
interface Text {
  text: string;
}

interface Session {
  url: string;
  /** An application asks its own back end for a token, with the cookie of its own session. */
  token: string;
}

/** The id of the user is in the token. */
const userOf = (token: string): string => JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))).sub;

function SignIn({ enter }: { enter: (session: Session) => void }) {
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    enter({ url: String(form.get("url")), token: String(form.get("token")).trim() });
  };
  return (
    <form onSubmit={submit}>
      <label>Server <input name="url" defaultValue="http://127.0.0.1:3000" /></label>{" "}
      <label>Token <input name="token" required /></label> <button>Sign in</button>
    </form>
  );
}

function Chat({ url, token }: Session) {
  const userId = userOf(token);
  const client = useMemo(
    () => new ChatClient<Text>({ url, token: () => token, store: indexedDbStore(userId), onError: console.warn }),
    [url, token, userId],
  );
  return <ChatProvider client={client} userId={userId}><Rooms userId={userId} /></ChatProvider>;
}

function Rooms({ userId }: { userId: string }) {
  const { state } = useChat<Text>();
  const { conversations } = useConversations<Text>();
  const [open, setOpen] = useState<string>();
  // Groups are left out here: useMessages({ groupId }) shows them in the same way.
  const friends = conversations.filter((one) => one.type === "unicast");
  return (
    <>
      <p>{userId} <small role="status">{state}</small></p>
      <main>
        <nav>
          {friends.map(({ userId: friend, unread, last }) => (
            <p key={friend}>
              <button aria-current={friend === open || undefined} onClick={() => setOpen(friend)}>{friend}</button>
              {unread > 0 && ` (${unread})`} <small>{last?.content?.text}</small>
            </p>
          ))}
        </nav>
        {open && <Talk key={open} friend={open} />}
      </main>
    </>
  );
}

function Talk({ friend }: { friend: string }) {
  const { messages, hasOlder, send, retry, loadOlder, markRead } = useMessages<Text>({ userId: friend });
  const [isTyping, type] = useTyping(friend);
  const [draft, setDraft] = useState("");
  useEffect(markRead, [messages, markRead]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (draft.trim()) send({ text: draft });
    setDraft("");
  };
  return (
    <section>
      {hasOlder && <button onClick={() => void loadOlder()}>Older</button>}
      <ol>
        {messages.map((message) => (
          <li key={message.id}>
            <b>{message.senderId}</b> {message.content?.text ?? <i>recalled</i>}{" "}
            <small>{message.state ?? new Date(message.timestamp).toLocaleTimeString()}</small>
            {message.state === "failed" && <button onClick={() => retry(message)}>Send again</button>}
          </li>
        ))}
      </ol>
      <p><small>{isTyping && `${friend} is typing…`}</small></p>
      <form onSubmit={submit}>
        <input aria-label="Message" value={draft} onChange={(event) => { setDraft(event.target.value); type(); }} />
        <button>Send</button>
      </form>
    </section>
  );
}

function App() {
  // Kept until the tab is closed, so that a reload needs no new token.
  const [session, setSession] = useState<Session | null>(() => JSON.parse(sessionStorage.getItem("session") ?? "null"));
  useEffect(() => sessionStorage.setItem("session", JSON.stringify(session)), [session]);
  return session ? <Chat {...session} /> : <SignIn enter={setSession} />;
}

createRoot(document.getElementById("root")!).render(<StrictMode><App /></StrictMode>);
