//! Pages of missed messages: their limits, their order and their text.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::frame::{Message, encode};
use crate::id::UserId;
use crate::json::escaped_bytes;

/// The most bytes of one page within a function's answer. The answer is a JSON document that holds the page as a string,
/// in which quotes, backslashes and line breaks take two bytes. Lambda allows 6 MB for it.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The messages of one sender, an element of the answer.
#[derive(Debug, Serialize)]
pub struct FromSender<'a> {
    id: &'a UserId,
    messages: Vec<&'a Message>,
}

/// A page that is being filled with messages in `id` order.
#[derive(Debug)]
pub struct Page {
    most: usize,
    messages: Vec<Message>,
    senders: BTreeSet<UserId>,
    bytes: usize,
}

impl Page {
    /// An empty page with room for `most` messages.
    pub fn of(most: usize) -> Self {
        // The brackets around the page take 2 bytes.
        Self { most, messages: Vec::new(), senders: BTreeSet::new(), bytes: 2 }
    }

    /// Adds the next message. The first one always fits.
    ///
    /// # Errors
    /// The message, if it does not fit.
    pub fn add(&mut self, message: Message) -> Result<(), Box<Message>> {
        let of_sender = match self.senders.contains(&message.sender) {
            true => 0,
            false => bytes(&FromSender { id: &message.sender, messages: Vec::new() }),
        };
        let bytes = of_sender + bytes(&message);
        let full = self.messages.len() >= self.most || self.bytes + bytes > MAX_PAGE_BYTES;
        if full && !self.messages.is_empty() {
            return Err(Box::new(message));
        }
        self.bytes += bytes;
        self.senders.insert(message.sender.clone());
        self.messages.push(message);
        Ok(())
    }

    /// Returns the messages, in `id` order.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }
}

/// Returns the bytes that a part of a page takes in a function's answer, with a comma.
pub(super) fn bytes(part: &impl Serialize) -> usize {
    // Minus the two quotes around a string, plus the comma.
    escaped_bytes(&encode(part)) - 2 + 1
}

/// Returns the text of a page: an element for each sender, in the order of their first messages. The messages are sorted
/// by time.
pub fn text(messages: &[Message], descending: bool) -> String {
    let mut sorted: Vec<&Message> = messages.iter().collect();
    sorted.sort_unstable_by_key(|message| (message.timestamp, message.id));
    if descending {
        sorted.reverse();
    }
    let (mut senders, mut places): (Vec<FromSender<'_>>, HashMap<&UserId, usize>) = Default::default();
    for message in sorted {
        let place = *places.entry(&message.sender).or_insert_with(|| {
            senders.push(FromSender { id: &message.sender, messages: Vec::new() });
            senders.len() - 1
        });
        senders[place].messages.push(message);
    }
    encode(&senders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Address, Body};
    use crate::id::{Ids, MessageId, UserId};

    fn message(id: MessageId, bytes: usize) -> Message {
        let text = "x".repeat(bytes);
        Message {
            id,
            sender: UserId::parse("s").unwrap(),
            to: Address::User(UserId::parse("r").unwrap()),
            body: Body::Content(serde_json::from_str(&format!("\"{text}\"")).unwrap()),
            timestamp: 0,
        }
    }

    #[test]
    fn a_page_has_at_most_its_number_of_messages() {
        let (ids, mut page) = (Ids::seeded(0), Page::of(3));
        assert!((0..3).all(|_| page.add(message(ids.message(1), 1)).is_ok()));
        assert!(page.add(message(ids.message(1), 1)).is_err());
        assert_eq!(page.into_messages().len(), 3);
    }

    /// Returns how many bytes a full page of messages with that content takes in a function's answer.
    fn full_page_of(content: &str) -> usize {
        let (ids, mut page) = (Ids::seeded(0), Page::of(100_000));
        let senders = ["s", "t", "u"].map(|id| UserId::parse(id).unwrap());
        for n in 0.. {
            let mut message = message(ids.message(1), 0);
            message.body = Body::Content(serde_json::value::RawValue::from_string(content.to_owned()).unwrap());
            message.sender = senders[n % 3].clone();
            if page.add(message).is_err() {
                break;
            }
        }
        let (counted, text) = (page.bytes, text(&page.into_messages(), false));
        let sent = encode(&text).len() - 2;
        // The last message of each sender has no comma, and neither has the last sender.
        assert_eq!(counted, sent + 3 + 1, "the counted bytes are the sent bytes");
        sent
    }

    #[test]
    fn a_page_has_at_most_4_mib_of_any_content() {
        let long = |part: &str| part.repeat(30_000 / part.len());
        for content in [
            format!("\"{}\"", long("x")),
            format!("\"{}\"", long("\\\\")),
            format!("\"{}\"", long("\\\"")),
            format!("\"{}\"", long("\\u0001")),
            format!("\"{}\"", long("\u{7f}")),
            format!("\"{}\"", long("\u{2028}")),
            format!("[{}]", long("\n")),
            format!("[{}]", long("\r\t ")),
            format!("[{}\"\"]", long("\"\",")),
        ] {
            let sent = full_page_of(&content);
            assert!((MAX_PAGE_BYTES - 70_000..=MAX_PAGE_BYTES).contains(&sent), "{sent} bytes of {}", &content[..9]);
        }
    }

    #[test]
    fn a_page_is_sorted_by_time_and_then_by_id() {
        let ids = Ids::seeded(0);
        let mut messages: Vec<Message> = (1..=4).map(|time| message(ids.message(time), 0)).collect();
        for (message, (timestamp, sender)) in messages.iter_mut().zip([(7, "a"), (5, "b"), (5, "a"), (6, "b")]) {
            message.timestamp = timestamp;
            message.sender = UserId::parse(sender).unwrap();
        }
        let order = |descending| {
            let page: Vec<serde_json::Value> = serde_json::from_str(&text(&messages, descending)).unwrap();
            let times = |sender: &serde_json::Value| {
                let messages = sender["messages"].as_array().unwrap().iter();
                messages.map(|message| message["timestamp"].as_u64().unwrap()).collect::<Vec<_>>()
            };
            page.iter().map(|sender| (sender["id"].as_str().unwrap().to_owned(), times(sender))).collect::<Vec<_>>()
        };
        assert_eq!(order(false), [("b".to_owned(), vec![5, 6]), ("a".to_owned(), vec![5, 7])]);
        assert_eq!(order(true), [("a".to_owned(), vec![7, 5]), ("b".to_owned(), vec![6, 5])]);
    }
}
