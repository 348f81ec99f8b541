//! Kinds of messages, and the names of missed messages.

use crate::frame::{Address, Message};
use crate::id::{GroupId, MessageId, UserId};

/// Who sends a message. The request ids of one are not those of the other, so that no user can use up those of the back
/// end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The sender.
    User,
    /// The back end, in the name of the sender.
    BackEnd,
}

/// A kind of message. A pull can ask for one kind or for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// Private messages.
    Unicast,
    /// Group messages.
    Multicast,
}

impl MessageKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Unicast, Self::Multicast];

    /// Returns the kind of the messages in that log.
    pub fn of(log: &Address) -> Self {
        match log {
            Address::User(_) => Self::Unicast,
            Address::Group(_) => Self::Multicast,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Multicast => "multicast",
        }
    }

    pub(super) fn until(self) -> &'static str {
        match self {
            Self::Unicast => "unicastUntil",
            Self::Multicast => "multicastUntil",
        }
    }

    pub(super) fn tail(self) -> &'static str {
        match self {
            Self::Unicast => "unicastTail",
            Self::Multicast => "multicastTail",
        }
    }

    pub(super) fn tail_next(self) -> &'static str {
        match self {
            Self::Unicast => "unicastTailNext",
            Self::Multicast => "multicastTailNext",
        }
    }
}

/// The name of a message that a user missed and that a pull would not find by its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissedRef {
    /// The message. This field is the first, so names sort by time.
    pub id: MessageId,
    /// The group whose log has the message. Absent for the user's own log.
    pub group: Option<GroupId>,
}

impl MissedRef {
    /// Names a message of that log.
    pub fn new(log: &Address, id: MessageId) -> Self {
        match log {
            Address::User(_) => Self { id, group: None },
            Address::Group(group) => Self { id, group: Some(group.clone()) },
        }
    }

    /// Returns the kind of the message.
    pub fn kind(&self) -> MessageKind {
        if self.group.is_some() { MessageKind::Multicast } else { MessageKind::Unicast }
    }

    /// Returns the log of the message.
    pub fn log(&self, user: &UserId) -> Address {
        self.group.clone().map_or_else(|| Address::User(user.clone()), Address::Group)
    }

    pub(super) fn encode(&self) -> String {
        match &self.group {
            None => format!("u/{}", self.id),
            Some(group) => format!("g/{group}/{}", self.id),
        }
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let (log, id) = text.rsplit_once('/')?;
        let id = MessageId::parse(id).ok()?;
        match log.strip_prefix("g/") {
            Some(group) => Some(Self { id, group: Some(GroupId::parse(group).ok()?) }),
            None => (log == "u").then_some(Self { id, group: None }),
        }
    }
}

/// The most messages of a user that are held.
pub const MAX_HELD: usize = 100;

/// A missed message that is held back by a block which began after it was sent. It comes when the block is lifted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The message.
    pub name: MissedRef,
    /// Its sender. With it, no pull needs to read the message during the block.
    pub sender: UserId,
}

impl Held {
    /// Names a message.
    pub fn of(message: &Message) -> Self {
        Self { name: MissedRef::new(&message.to, message.id), sender: message.sender.clone() }
    }

    pub(super) fn encode(&self) -> String {
        format!("{}/{}", self.name.encode(), self.sender)
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        // No id of a message or a group has a slash.
        let parts = if text.starts_with("g/") { 3 } else { 2 };
        let (end, _) = text.match_indices('/').nth(parts - 1)?;
        Some(Self { name: MissedRef::decode(&text[..end])?, sender: UserId::parse(&text[end + 1..]).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let id = MessageId::first_at(1_764_000_000_000);
        for group in [None, Some(GroupId::parse("a:b@c").unwrap())] {
            let missed = MissedRef { id, group };
            assert_eq!(MissedRef::decode(&missed.encode()), Some(missed.clone()));
            let held = Held { name: missed, sender: UserId::parse("bob").unwrap() };
            assert_eq!(Held::decode(&held.encode()), Some(held));
        }
        for wrong in ["u/1", &format!("u/{id}"), &format!("g/a/{id}"), &format!("u/{id}/")] {
            assert_eq!(Held::decode(wrong), None, "{wrong}");
        }
        for wrong in ["", "u", "u/1", &format!("x/{id}"), &format!("g//{id}"), &format!("g/a b/{id}")] {
            assert_eq!(MissedRef::decode(wrong), None, "{wrong}");
        }
    }
}
