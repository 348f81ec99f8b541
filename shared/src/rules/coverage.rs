//! When a user's connections were open, and what they cover.
//!
//! A connection *covers* the time that it was open: what was sent meanwhile was pushed to it. A pull finds a message that
//! no connection covers by its time. A message that is covered and was not taken must be recorded by name, see
//! [`super::must_be_recorded`]. All times are milliseconds of message ids.
//!
//! A client does not see the last messages that are pushed to it, so a pull counts less as taken than connections cover:
//! see [`super::gaps`].

use super::timing::{MARGIN_MS, MAX_CONNECTION_MS, STAMP_MS};
use crate::clock::Ms;

/// One connection of a user, as its STATE item holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// When it was announced: from then on it is pushed to.
    pub announced: Ms,
    /// From when on it covers. Absent while its handshake is under way.
    pub from: Option<Ms>,
    /// Until when it covers. Absent while it is open.
    pub to: Option<Ms>,
    /// Whether its client closed it, as a browser does that leaves a page.
    pub clean: bool,
}

/// A stretch of time, both ends within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Its first millisecond.
    pub from: Ms,
    /// Its last millisecond.
    pub to: Ms,
}

impl Connection {
    /// The time that it covers: none before it is stamped, and without end while it is open and young.
    pub fn span(&self) -> Option<Span> {
        let from = self.from?;
        let to = self.to.unwrap_or(Ms::MAX).min(from.saturating_add(MAX_CONNECTION_MS));
        (from <= to).then_some(Span { from, to })
    }

    /// Whether it keeps a message of that time from being found by its time: it covers the time, or it is being opened and
    /// may cover it once it is stamped.
    pub fn hides(&self, time: Ms, now: Ms) -> bool {
        match self.span() {
            Some(span) => span.contains(time),
            None => self.is_opening(now),
        }
    }

    /// Whether it may still be stamped: its function can still run, and its end is not recorded.
    pub(super) fn is_opening(&self, now: Ms) -> bool {
        self.from.is_none() && self.to.is_none() && !self.is_settled(now)
    }

    /// Whether a message is pushed to it: it has no end, and cannot have outlived the gateway's limit.
    pub fn is_open(&self, now: Ms) -> bool {
        // A minute more than the limit, since the gateway closes late rather than early.
        self.to.is_none() && now < self.announced.saturating_add(MAX_CONNECTION_MS + 60_000)
    }

    /// Whether its client saw it open only after that time, by whatever clock: what it pulls is read later yet.
    pub fn began_after(&self, time: Ms) -> bool {
        self.from.unwrap_or(self.announced.saturating_add(STAMP_MS)) > time.saturating_add(STAMP_MS)
    }

    /// Whether *gone* means that it is over. Until `$connect` has returned, the gateway also answers *gone* for a
    /// connection that is about to live, and that one must not be recorded as closed.
    pub fn is_settled(&self, now: Ms) -> bool {
        now > self.from.unwrap_or(self.announced).saturating_add(MARGIN_MS)
    }
}

impl Span {
    /// Whether the time is within it.
    pub fn contains(&self, time: Ms) -> bool {
        self.from <= time && time <= self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(from: Ms) -> Connection {
        Connection { announced: from, from: Some(from), to: None, clean: false }
    }

    fn closed(from: Ms, to: Ms) -> Connection {
        Connection { to: Some(to), ..open(from) }
    }

    #[test]
    fn an_announced_connection_covers_nothing() {
        let announced = Connection { announced: 1, from: None, to: None, clean: false };
        assert_eq!(announced.span(), None);
        assert!(announced.is_open(1));
    }

    #[test]
    fn a_connection_hides_what_it_covers_or_may_cover() {
        assert!(closed(10, 20).hides(20, 1_000) && !closed(10, 20).hides(21, 1_000));
        let unstamped = Connection { from: None, ..open(10) };
        assert!(unstamped.hides(50, 1_000));
        assert!(!unstamped.hides(50, 11 + MARGIN_MS), "its function is over");
        assert!(!Connection { to: Some(15), ..unstamped }.hides(50, 1_000), "it can not be stamped any more");
    }

    #[test]
    fn a_connection_closed_before_its_stamp_covers_nothing() {
        assert_eq!(closed(10, 9).span(), None);
    }

    #[test]
    fn a_connection_counts_as_closed_after_two_hours() {
        assert!(open(0).hides(MAX_CONNECTION_MS, 0));
        assert!(!open(0).hides(MAX_CONNECTION_MS + 1, 0));
        assert!(!open(0).is_open(MAX_CONNECTION_MS + 60_000));
    }
}
