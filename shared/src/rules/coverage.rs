//! The time that a user's connections cover.
//!
//! A connection *covers* the time during which it is open: messages of that time are pushed to it. A pull finds a message
//! by its time if no connection covers that time. A message that is covered but was not taken must be recorded by name,
//! see [`crate::table::State`]. All times are those of message ids, in milliseconds.
//!
//! A pull counts less time as taken than connections cover, see [`super::gaps`].

use super::timing::{MARGIN_MS, MAX_CONNECTION_MS, STAMP_MS};
use crate::clock::Ms;

/// One connection of a user, as the user's STATE item holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// When it was announced. From then on messages are pushed to it.
    pub announced: Ms,
    /// The first time that it covers, its *stamp*. Absent during the handshake.
    pub from: Option<Ms>,
    /// The last time that it covers. Absent while it is open.
    pub to: Option<Ms>,
    /// Whether its client closed it, for example a browser that leaves the page.
    pub clean: bool,
    /// The version of the protocol that its client asked for. From version 2 on, it also gets the frames of version 2.
    pub version: u8,
}

/// A span of time. Both ends are part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first millisecond.
    pub from: Ms,
    /// Its last millisecond.
    pub to: Ms,
}

impl Connection {
    /// Returns the time that it covers: none before it is stamped, and none later than [`MAX_CONNECTION_MS`] after it was
    /// announced.
    pub fn span(&self) -> Option<Span> {
        let from = self.from?;
        // Not by `from`: uncovering moves it, and must not let anything be covered.
        let last = self.announced.saturating_add(MAX_CONNECTION_MS);
        let to = self.to.unwrap_or(Ms::MAX).min(last);
        (from <= to).then_some(Span { from, to })
    }

    /// Returns whether it hides a message of that time from pulls. It does if it covers the time. It also does during its
    /// handshake, since it may cover the time once it is stamped.
    pub fn hides(&self, time: Ms, now: Ms) -> bool {
        match self.span() {
            Some(span) => span.contains(time),
            None => self.is_opening(now),
        }
    }

    /// Returns whether it may still be stamped: its function can still run, and its end is not recorded.
    pub(super) fn is_opening(&self, now: Ms) -> bool {
        self.from.is_none() && self.to.is_none() && !self.is_settled(now)
    }

    /// Returns whether messages are pushed to it: its end is not recorded, and it is younger than the gateway's limit.
    pub fn is_open(&self, now: Ms) -> bool {
        // The gateway may close a connection late, so a minute is added to its limit.
        self.to.is_none() && now < self.announced.saturating_add(MAX_CONNECTION_MS + 60_000)
    }

    /// Returns whether it was announced only after that time, despite clock skew. Its client pulls later still. `from` does not
    /// tell, since uncovering moves it.
    pub fn began_after(&self, time: Ms) -> bool {
        self.announced > time.saturating_add(STAMP_MS)
    }

    /// Returns whether the answer *gone* means that the connection has ended. Until `$connect` has returned, the gateway
    /// also answers *gone* for a connection that is about to open. No end must be recorded for such a connection.
    pub fn is_settled(&self, now: Ms) -> bool {
        now > self.announced.saturating_add(MARGIN_MS)
    }
}

impl Span {
    /// Returns whether the time is part of it.
    pub fn contains(&self, time: Ms) -> bool {
        self.from <= time && time <= self.to
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn open(from: Ms) -> Connection {
        Connection { announced: from, from: Some(from), to: None, clean: false, version: 1 }
    }

    pub(crate) fn closed(from: Ms, to: Ms) -> Connection {
        Connection { to: Some(to), ..open(from) }
    }

    #[test]
    fn an_announced_connection_covers_nothing() {
        let announced = Connection { from: None, ..open(1) };
        assert_eq!(announced.span(), None);
        assert!(announced.is_open(1));
    }

    #[test]
    fn a_connection_hides_what_it_covers_or_may_cover() {
        assert!(closed(10, 20).hides(20, 1_000) && !closed(10, 20).hides(21, 1_000));
        let unstamped = Connection { from: None, ..open(10) };
        assert!(unstamped.hides(50, 1_000));
        assert!(!unstamped.hides(50, 11 + MARGIN_MS), "its function has ended");
        assert!(!Connection { to: Some(15), ..unstamped }.hides(50, 1_000), "it cannot be stamped any more");
    }

    #[test]
    fn a_connection_closed_before_its_stamp_covers_nothing() {
        assert_eq!(closed(10, 9).span(), None);
    }

    #[test]
    fn moving_the_begin_covers_nothing_that_was_not_covered() {
        let moved = |from| Connection { from: Some(from), ..open(10) };
        for time in [MAX_CONNECTION_MS, MAX_CONNECTION_MS + 10, MAX_CONNECTION_MS + 11, MAX_CONNECTION_MS + 5_000] {
            assert_eq!(moved(500).hides(time, 0), moved(10).hides(time, 0), "{time}");
        }
    }

    #[test]
    fn a_connection_counts_as_closed_after_two_hours() {
        assert!(open(0).hides(MAX_CONNECTION_MS, 0));
        assert!(!open(0).hides(MAX_CONNECTION_MS + 1, 0));
        assert!(!open(0).is_open(MAX_CONNECTION_MS + 60_000));
    }
}
