//! The answer to a pull.

use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Frame, User};

/// An id that sorts before every message id.
pub(crate) const BEGINNING: &str = "00000000000000000000000000";

/// One page of messages.
#[derive(Debug)]
pub(crate) struct Page {
    /// One element per sender.
    pub(crate) senders: Vec<Sender>,
    /// Whether another call has more.
    pub(crate) has_more: bool,
    /// Where a call without a drop goes on, if there is more.
    pub(crate) next: Option<String>,
    /// What drops this page later, if it was not dropped.
    pub(crate) token: Option<String>,
    /// The size of the body.
    pub(crate) bytes: usize,
}

/// All messages of the page by one sender.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sender {
    /// The sender's user id.
    pub(crate) id: String,
    /// The messages as the socket would have delivered them.
    pub(crate) messages: Vec<Frame>,
}

impl Page {
    /// Reads the page of a 200.
    pub(crate) fn read(answer: Answer) -> Self {
        let more = answer.header("x-has-more").map(str::to_owned);
        let has_more = match more.as_deref() {
            Some("true") => true,
            Some("false") => false,
            other => panic!("{}: X-Has-More is {other:?}; {} {}", answer.what, answer.status, answer.body),
        };
        let next = answer.header("x-next").map(str::to_owned);
        assert_eq!(next.is_some(), has_more, "{}: X-Next is {next:?}; {}", answer.what, answer.body);
        let token = answer.header("x-page").map(str::to_owned);
        Self { bytes: answer.body.len(), senders: answer.json(), has_more, next, token }
    }

    /// Whether the page has no messages.
    pub(crate) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// The messages, grouped by sender.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Frame> {
        self.senders.iter().flat_map(|sender| &sender.messages)
    }

    /// The contents, grouped by sender.
    pub(crate) fn contents(&self) -> Vec<Value> {
        self.messages().map(Frame::content).collect()
    }

    /// The message ids, grouped by sender.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.messages().map(Frame::id).collect()
    }

    /// The message ids, sorted.
    pub(crate) fn sorted_ids(&self) -> Vec<String> {
        let mut ids = self.ids();
        ids.sort_unstable();
        ids
    }

    /// The contents except those that a connection already received. A message may come again if the connection was
    /// slow or has ended since.
    pub(crate) fn contents_but(&self, taken: &[&str]) -> Vec<Value> {
        self.contents().into_iter().filter(|content| !taken.iter().any(|taken| content == taken)).collect()
    }

    /// The senders' ids.
    pub(crate) fn sender_ids(&self) -> Vec<&str> {
        self.senders.iter().map(|sender| sender.id.as_str()).collect()
    }

    /// The contents of one sender.
    pub(crate) fn contents_by(&self, sender: &User) -> Vec<Value> {
        let all = self.senders.iter().filter(|element| element.id == sender.id());
        all.flat_map(|element| &element.messages).map(Frame::content).collect()
    }
}
