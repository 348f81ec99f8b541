//! The actions of a user on conversations.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::device::Accepted;
use super::{Answer, Device, Frame, Handshake, User, within};

/// How often a test asks again for what a deployment shows after a moment.
const PAUSE: Duration = Duration::from_millis(50);

/// A page of a history.
#[derive(Debug)]
pub(crate) struct History {
    /// The messages in the order of their ids.
    pub(crate) messages: Vec<Frame>,
    /// Whether another call has more.
    pub(crate) has_more: bool,
    /// Where that call goes on.
    pub(crate) next: Option<String>,
}

impl History {
    fn read(answer: Answer) -> Self {
        let has_more = answer.header("x-has-more") == Some("true");
        let next = answer.header("x-next").map(str::to_owned);
        assert_eq!(next.is_some(), has_more, "{answer:?}");
        let history = Self { messages: answer.json(), has_more, next };
        assert!(history.ids().is_sorted(), "{history:?}");
        history
    }

    /// The message ids.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.messages.iter().map(Frame::id).collect()
    }

    /// The contents. A recalled message has none and is left out.
    pub(crate) fn contents(&self) -> Vec<Value> {
        self.messages.iter().filter(|message| message.fields().contains(&"content")).map(Frame::content).collect()
    }
}

/// An element of the list of conversations.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Conversation {
    /// `unicast` or `multicast`.
    pub(crate) r#type: String,
    /// The other user.
    pub(crate) user_id: Option<String>,
    /// The group.
    pub(crate) group_id: Option<String>,
    /// The name of the group.
    pub(crate) name: Option<String>,
    /// The last message.
    pub(crate) last: Option<Frame>,
    /// The number of unread messages.
    pub(crate) unread: usize,
    /// Whether there may be more unread messages.
    #[serde(default)]
    pub(crate) unread_more: bool,
    /// Up to which message the user has read.
    pub(crate) read_until: Option<String>,
    /// Up to which message the other user has read.
    pub(crate) peer_read_until: Option<String>,
}

impl Conversation {
    /// The id of the user or the group.
    pub(crate) fn id(&self) -> &str {
        self.user_id.as_deref().or(self.group_id.as_deref()).expect("a conversation is with somebody")
    }
}

impl User {
    /// Opens a socket of version 2.
    pub(crate) async fn connect_2(&self) -> Device {
        let device = Handshake::of(self).query("").protocols(&["chat.2", self.token()]).accepted().await;
        assert_eq!(device.protocol(), Some("chat.2"));
        device
    }

    /// A page of a history. `with` is `("userId", id)` or `("groupId", id)`.
    pub(crate) async fn history(&self, with: (&str, &str), more: &[(&str, &str)]) -> History {
        let params: Vec<_> = [with].into_iter().chain(more.iter().copied()).collect();
        History::read(self.get("/api/history", &params).await)
    }

    /// The newest page of a history, as soon as it is as expected. A deployment may lack the newest messages for a moment.
    pub(crate) async fn history_that(&self, with: (&str, &str), expected: impl Fn(&History) -> bool) -> History {
        let asking = async {
            loop {
                let history = self.history(with, &[]).await;
                if expected(&history) {
                    return history;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        within(&format!("the history of {} with {}", self.id(), with.1), asking).await
    }

    /// Asserts that the contents of a history become these.
    pub(crate) async fn expect_history(&self, with: (&str, &str), contents: &[Value]) -> History {
        self.history_that(with, |history| history.contents() == contents).await
    }

    /// All conversations.
    pub(crate) async fn conversations(&self) -> Vec<Conversation> {
        self.get("/api/conversation", &[]).await.json()
    }

    /// The conversation with a user or a group, as soon as it is as expected.
    pub(crate) async fn conversation_that(&self, id: &str, expected: impl Fn(&Conversation) -> bool) -> Conversation {
        let asking = async {
            loop {
                let found = self.conversations().await.into_iter().find(|one| one.id() == id);
                if let Some(found) = found.filter(|found| expected(found)) {
                    return found;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        within(&format!("the conversation of {} with {id}", self.id()), asking).await
    }

    /// Marks a conversation as read.
    pub(crate) async fn mark_read(&self, with: (&str, &str), until: &str) -> Answer {
        self.put("/api/read", &[with, ("until", until)]).await
    }

    /// Recalls a message. `to` is `("receiverId", id)` or `("groupId", id)`.
    pub(crate) async fn recall(&self, id: &str, to: (&str, &str)) -> Answer {
        self.delete(&format!("/api/message/{id}"), &[to]).await
    }

    /// Sends a private message by the REST API.
    pub(crate) async fn send_by_rest(&self, to: &User, content: impl Into<Value>) -> Accepted {
        let frame = json!({ "type": "unicast", "receiverId": to.id(), "content": content.into() });
        let answer: Value = self.post_json("/api/message", &frame).await.json();
        let id = answer["id"].as_str().expect("an id").to_owned();
        Accepted { id, timestamp: answer["timestamp"].as_u64().expect("a time") }
    }
}

impl Device {
    /// Asserts that the next frame is of this type and has exactly these further fields.
    pub(crate) async fn expect_frame(&mut self, kind: &str, fields: &Value) -> Frame {
        let frame = self.next(&format!("{kind} {fields}")).await;
        let mut expected = fields.clone();
        expected["type"] = json!(kind);
        assert_eq!(frame.as_json(), expected, "for {}", self.id());
        frame
    }

    /// Asserts that the next frame says that a message was recalled.
    pub(crate) async fn expect_recall(&mut self, id: &str, sender: &User, to: (&str, &str)) {
        let frame = self.next(&format!("the recall of {id}")).await;
        let mut fields = ["id", "senderId", "timestamp", "type", to.0];
        fields.sort_unstable();
        assert_eq!(frame.fields(), fields, "{frame:?}");
        assert!(frame.says("type", "RECALLED") && frame.says("id", id), "{frame:?}");
        assert!(frame.says("senderId", sender.id()) && frame.says(to.0, to.1), "{frame:?}");
    }
}
