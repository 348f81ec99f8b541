//! Kinds of messages, and the names of missed messages.

use crate::frame::Address;
use crate::id::{GroupId, MessageId, UserId};

/// A kind of message, which a pull can ask for alone.
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

    /// The kind of a message in that log.
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
}

/// A message that a user missed though some connection covers its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissedRef {
    /// The message. First, so that the order is that of time.
    pub id: MessageId,
    /// The group in whose log it is; none for the user's own.
    pub group: Option<GroupId>,
}

impl MissedRef {
    /// The message of that log.
    pub fn new(log: &Address, id: MessageId) -> Self {
        match log {
            Address::User(_) => Self { id, group: None },
            Address::Group(group) => Self { id, group: Some(group.clone()) },
        }
    }

    /// Its kind.
    pub fn kind(&self) -> MessageKind {
        if self.group.is_some() { MessageKind::Multicast } else { MessageKind::Unicast }
    }

    /// The log that it is in.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_message_is_read_back_as_it_was_written() {
        let id = MessageId::first_at(1_764_000_000_000);
        for group in [None, Some(GroupId::parse("a:b@c").unwrap())] {
            let missed = MissedRef { id, group };
            assert_eq!(MissedRef::decode(&missed.encode()), Some(missed));
        }
        for wrong in ["", "u", "u/1", &format!("x/{id}"), &format!("g//{id}"), &format!("g/a b/{id}")] {
            assert_eq!(MissedRef::decode(wrong), None, "{wrong}");
        }
    }
}
