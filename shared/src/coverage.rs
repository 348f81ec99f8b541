//! Who took what, told from when they were connected.
//!
//! A connection *covers* the time that it was open: what was sent meanwhile was pushed to it. The *gaps* of a user are
//! the times that no connection covered, and a message is missed exactly if it falls into one (or is written down by
//! name, see [`crate::table::State`]). All of this reckons in the milliseconds of message ids.

use crate::clock::Ms;

/// How far ahead of the clock a connection is stamped: more than the clocks of two functions may differ.
pub const STAMP_MS: Ms = 5;

/// API Gateway closes a connection of that age. One that is older counts as closed then, whatever its record says.
pub const MAX_CONNECTION_MS: Ms = 2 * 60 * 60 * 1000;

/// Longer than a function may run, so longer than a write to a log can be under way: nothing older can still appear.
pub const MARGIN_MS: Ms = 30_000;

/// One connection of a user, as its STATE item holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// When it was announced: from then on it is pushed to.
    pub announced: Ms,
    /// From when on it covers. Absent while its handshake is under way.
    pub from: Option<Ms>,
    /// Until when it covers. Absent while it is open.
    pub to: Option<Ms>,
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
    /// connection that is about to live, and that one must not be closed in the books.
    pub fn is_settled(&self, now: Ms) -> bool {
        now > self.from.unwrap_or(self.announced).saturating_add(MARGIN_MS)
    }
}

/// Whether some connection covers that time.
pub fn is_covered<'a>(connections: impl IntoIterator<Item = &'a Connection>, time: Ms) -> bool {
    connections.into_iter().filter_map(Connection::span).any(|span| span.contains(time))
}

impl Span {
    /// Whether the time is within it.
    pub fn contains(&self, time: Ms) -> bool {
        self.from <= time && time <= self.to
    }

    /// The part of it from `start` on.
    pub fn starting(self, start: Ms) -> Option<Span> {
        let from = self.from.max(start);
        (from <= self.to).then_some(Span { from, to: self.to })
    }
}

/// The parts of `whole` that no connection covers, in order.
pub fn gaps<'a>(whole: Span, connections: impl IntoIterator<Item = &'a Connection>) -> Vec<Span> {
    let mut covered: Vec<Span> = connections.into_iter().filter_map(Connection::span).collect();
    covered.sort_unstable();
    let mut gaps = Vec::new();
    let mut next = whole.from;
    for span in covered {
        if span.from > whole.to {
            break;
        }
        if span.from > next {
            gaps.push(Span { from: next, to: span.from - 1 });
        }
        next = next.max(span.to.saturating_add(1));
    }
    if next <= whole.to {
        gaps.push(Span { from: next, to: whole.to });
    }
    gaps
}

/// At most `most` spans that contain the given ones: the smallest holes between them are read over. Each span is one
/// query; what a hole holds is left out when it has been read.
pub fn coalesce(mut spans: Vec<Span>, most: usize) -> Vec<Span> {
    while spans.len() > most.max(1) {
        let smallest = (1..spans.len())
            .min_by_key(|&i| spans[i].from - spans[i - 1].to)
            .expect("more than one span has a hole between them");
        spans[smallest - 1].to = spans[smallest].to;
        spans.remove(smallest);
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(from: Ms) -> Connection {
        Connection { announced: from, from: Some(from), to: None }
    }

    fn closed(from: Ms, to: Ms) -> Connection {
        Connection { to: Some(to), ..open(from) }
    }

    #[test]
    fn an_announced_connection_covers_nothing() {
        let announced = Connection { announced: 1, from: None, to: None };
        assert_eq!(announced.span(), None);
        assert!(announced.is_open(1));
    }

    #[test]
    fn a_connection_closed_before_its_stamp_covers_nothing() {
        assert_eq!(closed(10, 9).span(), None);
    }

    #[test]
    fn a_connection_counts_as_closed_after_two_hours() {
        assert!(is_covered(&[open(0)], MAX_CONNECTION_MS));
        assert!(!is_covered(&[open(0)], MAX_CONNECTION_MS + 1));
        assert!(!open(0).is_open(MAX_CONNECTION_MS + 60_000));
    }

    #[test]
    fn gaps_lie_between_connections() {
        let whole = Span { from: 10, to: 100 };
        assert_eq!(gaps(whole, &[]), [whole]);
        assert_eq!(gaps(whole, &[open(5)]), []);
        assert_eq!(
            gaps(whole, &[closed(20, 30), closed(25, 40), open(90)]),
            [Span { from: 10, to: 19 }, Span { from: 41, to: 89 }]
        );
        assert_eq!(gaps(whole, &[closed(0, 200)]), []);
        assert_eq!(gaps(whole, &[closed(101, 200)]), [whole]);
    }

    #[test]
    fn the_smallest_holes_are_read_over() {
        let spans = vec![Span { from: 0, to: 1 }, Span { from: 3, to: 4 }, Span { from: 90, to: 91 }];
        assert_eq!(coalesce(spans.clone(), 2), [Span { from: 0, to: 4 }, Span { from: 90, to: 91 }]);
        assert_eq!(coalesce(spans.clone(), 3), spans);
        assert_eq!(coalesce(spans, 0), [Span { from: 0, to: 91 }]);
    }

    prop_compose! {
        fn connection()(from in 0..300u64, length in proptest::option::of(0..100u64), stamped in any::<bool>()) -> Connection {
            Connection { announced: from, from: stamped.then_some(from), to: length.map(|l| from + l) }
        }
    }

    proptest! {
        #[test]
        fn each_time_is_covered_or_in_one_gap(
            from in 0..200u64, length in 0..200u64,
            connections in proptest::collection::vec(connection(), 0..8), most in 1..4usize,
        ) {
            let whole = Span { from, to: from + length };
            let gaps = gaps(whole, &connections);
            prop_assert!(gaps.iter().all(|gap| gap.from <= gap.to));
            prop_assert!(gaps.windows(2).all(|pair| pair[0].to < pair[1].from));
            let merged = coalesce(gaps.clone(), most);
            prop_assert!(merged.len() <= most);
            for time in 0..450 {
                let missed = whole.contains(time) && !is_covered(&connections, time);
                prop_assert_eq!(gaps.iter().filter(|gap| gap.contains(time)).count(), usize::from(missed));
                prop_assert!(!missed || merged.iter().any(|span| span.contains(time)));
            }
        }
    }
}
