//! How a page of missed messages is cut, and what is remembered once it has been dropped.

use std::collections::BTreeSet;

use crate::clock::Ms;
use crate::coverage::MARGIN_MS;
use crate::frame::{Message, encode};
use crate::id::MessageId;

/// The most bytes of one page, escaped as they will be: a function's answer is a JSON document that holds the page as a
/// string, each quote and backslash of it two bytes, and Lambda lets 6 MB of that pass.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A page under way: messages in `id` order until it is full.
#[derive(Debug)]
pub struct Page {
    most: usize,
    messages: Vec<Message>,
    bytes: usize,
}

impl Page {
    /// A page of at most so many messages.
    pub fn of(most: usize) -> Self {
        Self { most, messages: Vec::new(), bytes: 0 }
    }

    /// Add the next message, or give it back if the page is full. The first one always fits.
    ///
    /// # Errors
    /// The message that did not fit.
    pub fn add(&mut self, message: Message) -> Result<(), Box<Message>> {
        let bytes = escaped_length(&encode(&message)) + 1;
        let full = self.messages.len() >= self.most || self.bytes + bytes > MAX_PAGE_BYTES;
        if full && !self.messages.is_empty() {
            return Err(Box::new(message));
        }
        self.bytes += bytes;
        self.messages.push(message);
        Ok(())
    }

    /// The messages, oldest first.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }
}

/// How long a JSON text is as a string within another.
fn escaped_length(json: &str) -> usize {
    // Summed up in bytes, for as many as cannot overflow one: so the compiler compares sixteen at once.
    let escapes = |run: &[u8]| run.iter().map(|byte| u8::from(matches!(byte, b'"' | b'\\'))).sum::<u8>();
    json.len() + json.as_bytes().chunks(255).map(|run| usize::from(escapes(run))).sum::<usize>()
}

/// What has been dropped of one kind of message (private, or group).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Up to this time everything is dropped; 0 if nothing ever was.
    pub until: Ms,
    /// What is dropped of the time after it.
    pub tail: BTreeSet<MessageId>,
}

impl Dropped {
    /// Whether a message found in a gap was dropped already.
    pub fn contains(&self, id: MessageId) -> bool {
        id.time_ms() <= self.until || self.tail.contains(&id)
    }

    /// This, and what one pull drops as well: all that it returned of this kind.
    ///
    /// `until` never passes a message younger than the margin, for a neighbour of it may still be on its way to the
    /// log, nor `first_left`, the first message that the log still holds for the next page. What was returned beyond
    /// that is remembered by name.
    #[must_use]
    pub fn advanced(
        &self,
        end: Ms,
        first_left: Option<MessageId>,
        returned: impl IntoIterator<Item = MessageId>,
    ) -> Self {
        let limit = first_left.map_or(Ms::MAX, |id| id.time_ms().saturating_sub(1));
        let until = self.until.max(end.saturating_sub(MARGIN_MS).min(limit));
        let tail = self.tail.iter().copied().chain(returned).filter(|id| id.time_ms() > until).collect();
        Self { until, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Address;
    use crate::id::{Ids, UserId};
    use proptest::prelude::*;

    fn message(id: MessageId, bytes: usize) -> Message {
        with_content(id, &"x".repeat(bytes))
    }

    fn with_content(id: MessageId, text: &str) -> Message {
        Message {
            id,
            sender: UserId::parse("s").unwrap(),
            to: Address::User(UserId::parse("r").unwrap()),
            content: serde_json::from_str(&format!("\"{text}\"")).unwrap(),
            timestamp: 0,
        }
    }

    #[test]
    fn a_page_ends_at_its_number_of_messages() {
        let (ids, mut page) = (Ids::seeded(0), Page::of(3));
        assert!((0..3).all(|_| page.add(message(ids.message(1), 1)).is_ok()));
        assert!(page.add(message(ids.message(1), 1)).is_err());
        assert_eq!(page.into_messages().len(), 3);
    }

    #[test]
    fn a_page_ends_at_4_mib() {
        let (ids, mut page) = (Ids::seeded(0), Page::of(1_000));
        while page.add(message(ids.message(1), 30_000)).is_ok() {}
        let length = encode(&encode(&page.into_messages())).len();
        assert!((MAX_PAGE_BYTES - 31_000..=MAX_PAGE_BYTES + 4).contains(&length), "{length}");
    }

    #[test]
    fn a_page_of_backslashes_still_passes_through_lambda() {
        let (ids, mut page) = (Ids::seeded(0), Page::of(1_000));
        while page.add(with_content(ids.message(1), &"\\\\".repeat(15_000))).is_ok() {}
        let length = encode(&encode(&page.into_messages())).len();
        assert!(length <= MAX_PAGE_BYTES + 4, "{length}");
    }

    #[test]
    fn a_drop_stops_before_the_margin_and_before_what_is_left() {
        let id = MessageId::first_at;
        let none = Dropped::default();
        let young = none.advanced(100_000, None, [id(60_000), id(90_000)]);
        assert_eq!(young, Dropped { until: 70_000, tail: [id(90_000)].into() });
        let cut = none.advanced(100_000, Some(id(50_000)), [id(40_000), id(50_000)]);
        assert_eq!(cut, Dropped { until: 49_999, tail: [id(50_000)].into() });
        assert_eq!(young.advanced(80_000, None, []), young, "it never goes back");
        assert_eq!(young.advanced(130_000, None, []), Dropped { until: 100_000, tail: BTreeSet::new() });
    }

    proptest! {
        #[test]
        fn a_drop_takes_what_was_returned_and_nothing_left_or_unseen(
            times in proptest::collection::btree_set(0..100_000u64, 0..20),
            end in 30_000..120_000u64, returned in 0..20usize,
        ) {
            let ids: Vec<_> = times.into_iter().filter(|t| *t <= end).map(MessageId::first_at).collect();
            let cut = returned.min(ids.len());
            let dropped = Dropped::default().advanced(end, ids.get(cut).copied(), ids[..cut].iter().copied());
            prop_assert!(ids[..cut].iter().all(|id| dropped.contains(*id)));
            prop_assert!(ids[cut..].iter().all(|id| !dropped.contains(*id)));
            prop_assert!(dropped.until <= end - MARGIN_MS);
        }
    }
}
