//! The decision whether a message must be recorded by name for a receiver. It must if a pull would not find it by its time.

use std::collections::{BTreeMap, BTreeSet};

use super::coverage::Connection;
use super::timing::PROMPT_MS;
use crate::clock::Ms;
use crate::id::ConnectionId;

/// A message in a log, with what its delivery knows of it.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    /// The time of its id.
    time: Ms,
    /// When its log write ended.
    logged: Ms,
    /// Whether its delivery waited in a queue.
    queued: bool,
}

/// What is known about a receiver when a message is delivered.
#[derive(Debug, Clone, Copy)]
pub struct Receiver<'a> {
    /// The receiver's connections.
    pub connections: &'a BTreeMap<ConnectionId, Connection>,
    /// The time up to which the receiver has dropped all messages of this kind.
    pub dropped_until: Ms,
    /// The time now.
    pub now: Ms,
}

impl Delivered {
    /// A message with an id of `time` and a log write that ended at `logged`. It is delivered at once.
    pub fn at_once(time: Ms, logged: Ms) -> Self {
        Self { time, logged, queued: false }
    }

    /// The same, but the delivery waited in a queue.
    pub fn queued(time: Ms, logged: Ms) -> Self {
        Self { time, logged, queued: true }
    }

    /// Returns whether the message must be recorded by name, since a pull would not find it by its time.
    ///
    /// A connection that covers the time, or may cover it once stamped, hides the message from pulls. So each of these must
    /// have taken it: a connection that took it may already be dead without notice. If no connection took it, its time
    /// must not be dropped either.
    pub fn must_be_recorded(&self, receiver: Receiver<'_>, took: &BTreeSet<&ConnectionId>) -> bool {
        let hides = |connection: &Connection| connection.hides(self.time, receiver.now);
        let is_hidden = receiver.connections.iter().any(|(id, connection)| !took.contains(id) && hides(connection));
        let is_dropped = self.is_late() || self.time <= receiver.dropped_until;
        is_hidden || (is_dropped && took.is_empty())
    }

    /// Returns whether the message is pushed to an open connection of a receiver. A message that waited in a queue is not
    /// pushed to a connection that began after the log write, if a pull finds it: that client pulls it.
    pub fn is_pushed_to(&self, connection: &Connection, receiver: Receiver<'_>) -> bool {
        !self.queued || !connection.began_after(self.logged) || self.must_be_recorded(receiver, &BTreeSet::new())
    }

    /// Returns whether the log write was so late that a pull may have dropped the time of the message.
    fn is_late(&self) -> bool {
        self.logged.saturating_sub(self.time) > PROMPT_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Connections = BTreeMap<ConnectionId, Connection>;

    fn connection(from: Option<Ms>, to: Option<Ms>) -> Connection {
        Connection { announced: 10, from, to, clean: false, version: 1 }
    }

    fn one(from: Option<Ms>, to: Option<Ms>) -> Connections {
        [(ConnectionId::new("c"), connection(from, to))].into()
    }

    fn receiver(connections: &Connections, dropped_until: Ms) -> Receiver<'_> {
        Receiver { connections, dropped_until, now: 60 }
    }

    /// Returns whether a message of time 50 is recorded when these connections took it.
    fn is_recorded(connections: &Connections, dropped_until: Ms, took: &[&str]) -> bool {
        let took: Vec<ConnectionId> = took.iter().map(|id| ConnectionId::new(*id)).collect();
        Delivered::at_once(50, 50).must_be_recorded(receiver(connections, dropped_until), &took.iter().collect())
    }

    #[test]
    fn a_message_in_a_gap_is_not_recorded() {
        assert!(!is_recorded(&Connections::new(), 0, &[]));
        assert!(!is_recorded(&one(Some(60), None), 0, &[]));
        assert!(!is_recorded(&one(Some(10), Some(40)), 0, &[]));
    }

    #[test]
    fn a_message_outside_all_gaps_is_recorded() {
        assert!(is_recorded(&one(Some(50), None), 0, &[]), "covered");
        assert!(is_recorded(&one(None, None), 0, &[]), "may be covered soon");
        assert!(is_recorded(&Connections::new(), 50, &[]), "its time is dropped");
        let late = Delivered::at_once(50, 51 + PROMPT_MS);
        assert!(late.must_be_recorded(receiver(&Connections::new(), 0), &BTreeSet::new()), "its time may be dropped");
    }

    #[test]
    fn every_connection_that_covers_a_message_must_have_taken_it() {
        let mut connections = one(Some(10), None);
        assert!(!is_recorded(&connections, 0, &["c"]));
        let other = Connection { announced: 20, ..connection(Some(25), Some(55)) };
        connections.insert(ConnectionId::new("d"), other);
        assert!(is_recorded(&connections, 0, &["c"]), "d covers it, and ended later");
        assert!(!is_recorded(&connections, 0, &["c", "d"]));
        connections.insert(ConnectionId::new("d"), Connection { to: Some(49), ..other });
        assert!(!is_recorded(&connections, 0, &["c"]), "d does not cover it");
    }

    #[test]
    fn a_queued_message_is_not_pushed_to_a_client_that_will_pull_it() {
        let is_pushed = |announced: Ms, message: Delivered, dropped_until| {
            let connection = Connection { announced, ..connection(Some(announced + 5), None) };
            let connections = [(ConnectionId::new("c"), connection)].into();
            message.is_pushed_to(&connection, receiver(&connections, dropped_until))
        };
        let queued = Delivered::queued(50, 60);
        assert!(is_pushed(45, queued, 0), "the connection covers it");
        assert!(is_pushed(65, queued, 0), "with clock skew it may have begun before");
        assert!(!is_pushed(66, queued, 0), "its client pulls what is in the log");
        assert!(is_pushed(66, Delivered::at_once(50, 60), 0), "it was announced before the log write ended");
        assert!(is_pushed(66, queued, 50), "its time is dropped");
        let raised = Connection { announced: 10, ..connection(Some(100), None) };
        let connections = [(ConnectionId::new("c"), raised)].into();
        assert!(queued.is_pushed_to(&raised, receiver(&connections, 0)), "its client pulls no more");
        let opening = connection(None, None);
        let connections = [(ConnectionId::new("c"), opening)].into();
        assert!(queued.is_pushed_to(&opening, receiver(&connections, 0)), "it may cover the message");
    }
}
