//! Histories: which entries of a conversation a user sees, and pages of them.

use std::collections::BTreeMap;

use super::block::Block;
use super::page::{MAX_PAGE_BYTES, bytes};
use crate::clock::Ms;
use crate::frame::{Body, Message};
use crate::id::{MessageId, UserId};

/// A user who reads the history of a conversation.
#[derive(Debug)]
pub struct Viewer<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The user's blocks, including lifted ones.
    pub blocks: &'a BTreeMap<UserId, Block>,
    /// When the user joined the group. 0 for a conversation with a user.
    pub joined: Ms,
    /// When the user's blocks and memberships were read. What was sent later may be of a user who has been blocked since.
    pub until: Ms,
}

impl Viewer<'_> {
    /// Returns whether the user sees an entry. `is_hidden` says that it was withheld from its receiver: only its sender
    /// sees it. What others sent while the user blocked them stays hidden.
    pub fn sees(&self, entry: &Message, is_hidden: bool) -> bool {
        let time = entry.id.time_ms();
        let was_blocked = || self.blocks.get(&entry.sender).is_some_and(|block| block.was_set_at(time));
        match entry.body {
            Body::Recall { .. } => false,
            Body::Content(_) | Body::Recalled { .. } if time < self.joined || self.until < time => false,
            Body::Content(_) | Body::Recalled { .. } => entry.sender == *self.user || !is_hidden && !was_blocked(),
        }
    }

    /// Returns whether an entry that the user sees counts as unread: it is of another user, and not recalled.
    pub fn counts(&self, entry: &Message) -> bool {
        entry.sender != *self.user && entry.content().is_some()
    }
}

/// A page of a history that is being filled, in either order.
#[derive(Debug)]
pub struct HistoryPage {
    most: usize,
    bytes: usize,
    messages: Vec<Message>,
    is_full: bool,
}

impl HistoryPage {
    /// Returns an empty page with room for `most` messages.
    pub fn of(most: usize) -> Self {
        // The brackets around the page take 2 bytes.
        Self { most, bytes: 2, messages: Vec::new(), is_full: false }
    }

    /// Adds the next message that the user sees. A page that is full stays as it is.
    ///
    /// A repeated send may have stored a message twice, with the same id. The page has it once, and recalled if either is.
    pub fn add(&mut self, message: Message) {
        if let Some(last) = self.messages.last_mut().filter(|last| last.id == message.id) {
            if matches!(message.body, Body::Recalled { .. }) {
                *last = message;
            }
            return;
        }
        let bytes = bytes(&message);
        let has_room = self.messages.len() < self.most && self.bytes + bytes <= MAX_PAGE_BYTES;
        self.is_full |= !has_room && !self.messages.is_empty();
        if !self.is_full {
            self.bytes += bytes;
            self.messages.push(message);
        }
    }

    /// Returns whether a message did not fit.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Returns the last message that was added.
    pub fn last(&self) -> Option<MessageId> {
        self.messages.last().map(|message| message.id)
    }

    /// Returns the messages in the order of their ids.
    pub fn into_messages(mut self) -> Vec<Message> {
        self.messages.sort_unstable_by_key(|message| message.id);
        self.messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Address;
    use crate::id::Ids;
    use proptest::prelude::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn message(id: MessageId, sender: &str, body: Body) -> Message {
        Message { id, sender: user(sender), to: Address::User(user("bob")), body, timestamp: 0 }
    }

    fn content(bytes: usize) -> Body {
        Body::Content(serde_json::from_str(&format!("\"{}\"", "x".repeat(bytes))).unwrap())
    }

    #[test]
    fn a_withheld_message_is_seen_by_its_sender_alone() {
        let none = BTreeMap::new();
        let (ann, bob) = (user("ann"), user("bob"));
        let viewer = |user| Viewer { user, blocks: &none, joined: 0, until: 99 };
        let hidden = message(MessageId::first_at(5), "ann", content(1));
        assert!(viewer(&ann).sees(&hidden, true) && !viewer(&bob).sees(&hidden, true));
        assert!(viewer(&ann).sees(&hidden, false) && viewer(&bob).sees(&hidden, false));
    }

    #[test]
    fn what_was_sent_during_a_block_stays_hidden_and_what_was_sent_before_does_not() {
        let bob = user("bob");
        let blocks = BTreeMap::from([(
            user("ann"),
            Block { since: Some(20), past: vec![crate::rules::coverage::Span { from: 5, to: 10 }] },
        )]);
        let viewer = Viewer { user: &bob, blocks: &blocks, joined: 0, until: 99 };
        let sees = |time| viewer.sees(&message(MessageId::first_at(time), "ann", content(1)), false);
        assert_eq!([4, 5, 10, 11, 19, 20, 99].map(sees), [true, false, false, true, true, false, false]);
    }

    #[test]
    fn nothing_from_before_joining_and_no_recall_is_seen() {
        let (none, bob) = (BTreeMap::new(), user("bob"));
        let viewer = Viewer { user: &bob, blocks: &none, joined: 10, until: 99 };
        let sees = |time, sender, body| viewer.sees(&message(MessageId::first_at(time), sender, body), false);
        assert!(!sees(9, "ann", content(1)) && !sees(9, "bob", content(1)) && sees(10, "ann", content(1)));
        assert!(!sees(11, "ann", Body::Recall { of: MessageId::first_at(10) }));
        assert!(sees(11, "ann", Body::Recalled { at: 12 }));
        assert!(sees(99, "ann", content(1)) && !sees(100, "ann", content(1)) && !sees(100, "bob", content(1)));
    }

    #[test]
    fn a_message_that_is_stored_twice_is_there_once_and_recalled_if_either_is() {
        let id = MessageId::first_at(5);
        for bodies in [[content(1), Body::Recalled { at: 7 }], [Body::Recalled { at: 7 }, content(1)]] {
            let mut page = HistoryPage::of(1);
            bodies.into_iter().for_each(|body| page.add(message(id, "ann", body)));
            assert!(!page.is_full());
            let messages = page.into_messages();
            assert!(messages.len() == 1 && messages[0].content().is_none());
        }
    }

    #[test]
    fn a_page_of_the_longest_messages_fits_into_an_answer() {
        let ids = Ids::seeded(0);
        let mut page = HistoryPage::of(1_000);
        while !page.is_full() {
            page.add(message(ids.message(1), "ann", content(32_000)));
        }
        assert!(page.bytes <= MAX_PAGE_BYTES && page.messages.len() > 100);
    }

    proptest! {
        #[test]
        fn pages_of_any_size_make_up_the_whole_history(size in 1usize..7, count in 0u64..30) {
            let all: Vec<MessageId> = (0..count).map(MessageId::first_at).collect();
            let (mut read, mut left) = (Vec::new(), all.clone());
            loop {
                let mut page = HistoryPage::of(size);
                left.iter().for_each(|id| page.add(message(*id, "ann", content(1))));
                let (is_full, last) = (page.is_full(), page.last());
                read.extend(page.into_messages().iter().map(|message| message.id));
                let Some(last) = last.filter(|_| is_full) else { break };
                left.retain(|id| *id > last);
            }
            prop_assert_eq!(read, all);
        }
    }
}
