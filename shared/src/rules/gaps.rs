//! Gaps: the times during which a user's connections took nothing. A pull reads the logs over these.
//!
//! A client does not see the last messages that are pushed to it. A browser discards what arrives after `close()`, and a
//! phone that lost its network discards more. So a pull counts less time as taken than connections cover.
//!
//! The decision whether to record a message by name uses all of the covered time. A needless record is harmless, but a
//! missing one loses the message.

use super::coverage::{Connection, Span};
use super::timing::CLEAN_MS;
use crate::clock::Ms;

/// The time that a pull counts as taken by a user's connections: the covered time, without the parts that clients may not
/// have seen. These parts are:
/// - the last [`CLEAN_MS`] of a connection that its client closed;
/// - the last `redeliver_ms` of a connection that ended otherwise;
/// - on a connection that was open when another one of the same user was announced: from `redeliver_ms` before that until
///   the other one was stamped. A phone comes back like this when its old connection has died unnoticed.
#[derive(Debug, Default)]
pub struct Taken {
    /// The spans in order. None touches the next.
    spans: Vec<Span>,
}

impl Taken {
    /// Returns the time that these connections took, as known now.
    pub fn of<'a>(connections: impl IntoIterator<Item = &'a Connection> + Clone, redeliver_ms: Ms, now: Ms) -> Self {
        let cut = |other: &Connection| {
            let unstamped = if other.is_opening(now) { Ms::MAX } else { other.announced };
            let before = other.announced.saturating_sub(redeliver_ms);
            (other.announced, before, other.from.unwrap_or(unstamped))
        };
        let mut cuts: Vec<(Ms, Ms, Ms)> = connections.clone().into_iter().map(cut).collect();
        cuts.sort_unstable();
        let mut spans = Vec::new();
        for connection in connections {
            let Some(whole) = connection.span() else { continue };
            let unseen = match (connection.to, connection.clean) {
                (None, _) => 0,
                (Some(_), true) => CLEAN_MS,
                (Some(_), false) => redeliver_ms,
            };
            let Some(last) = whole.to.checked_sub(unseen) else { continue };
            let mut from = whole.from;
            let behind = cuts.partition_point(|(announced, ..)| *announced <= whole.from);
            for (_, start, end) in cuts[behind..].iter().take_while(|(announced, ..)| *announced <= whole.to) {
                if *start > from {
                    spans.push(Span { from, to: (start - 1).min(last) });
                }
                from = from.max(*end);
            }
            spans.push(Span { from, to: last });
        }
        Self { spans: merged(spans) }
    }

    /// Returns whether a message of that time was taken, unless it is recorded by name as missed.
    pub fn contains(&self, time: Ms) -> bool {
        let next = self.spans.partition_point(|span| span.to < time);
        self.spans.get(next).is_some_and(|span| span.contains(time))
    }

    /// Returns the parts of `whole` that were not taken, in order.
    pub fn gaps(&self, whole: Span) -> Vec<Span> {
        let mut gaps = Vec::new();
        let mut next = whole.from;
        for span in &self.spans {
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
}

/// Merges spans that overlap or touch.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.from <= span.to);
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.from <= last.to.saturating_add(1) => last.to = last.to.max(span.to),
            _ => merged.push(span),
        }
    }
    merged
}

/// Joins spans until there are at most `most`, across the smallest holes between them. Each span is one query. The reader
/// leaves out what lies in a hole.
pub fn coalesce(mut spans: Vec<Span>, most: usize) -> Vec<Span> {
    while spans.len() > most.max(1) {
        let smallest = (1..spans.len())
            .min_by_key(|&i| spans[i].from - spans[i - 1].to)
            .expect("two or more spans have a hole between them");
        spans[smallest - 1].to = spans[smallest].to;
        spans.remove(smallest);
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::coverage::tests::{closed, open};
    use proptest::prelude::*;

    fn gaps(whole: Span, connections: &[Connection]) -> Vec<Span> {
        Taken::of(connections, 0, 1_000).gaps(whole)
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
    fn the_last_seconds_of_an_ended_connection_are_a_gap() {
        let (whole, ended) = (Span { from: 0, to: 40_000 }, closed(0, 30_000));
        let gaps = |connection: Connection| Taken::of(&[connection], 15_000, 50_000).gaps(whole);
        assert_eq!(gaps(ended), [Span { from: 15_001, to: 40_000 }]);
        assert_eq!(gaps(Connection { clean: true, ..ended }), [Span { from: 28_001, to: 40_000 }]);
        assert_eq!(gaps(closed(0, 14_999)), [whole], "a short connection took nothing");
    }

    #[test]
    fn a_second_connection_uncovers_the_seconds_before_it() {
        let whole = Span { from: 0, to: 40_000 };
        let second = Connection { announced: 30_000, ..open(30_005) };
        let gaps = |second: Connection, now| Taken::of(&[open(0), second], 15_000, now).gaps(whole);
        assert_eq!(gaps(second, 40_000), [Span { from: 15_000, to: 30_004 }]);
        let unstamped = Connection { from: None, ..second };
        assert_eq!(gaps(unstamped, 40_000), [Span { from: 15_000, to: 40_000 }]);
        assert_eq!(gaps(unstamped, 90_000), [Span { from: 15_000, to: 29_999 }], "its function died");
    }

    #[test]
    fn spans_are_joined_across_the_smallest_holes() {
        let spans = vec![Span { from: 0, to: 1 }, Span { from: 3, to: 4 }, Span { from: 90, to: 91 }];
        assert_eq!(coalesce(spans.clone(), 2), [Span { from: 0, to: 4 }, Span { from: 90, to: 91 }]);
        assert_eq!(coalesce(spans.clone(), 3), spans);
        assert_eq!(coalesce(spans, 0), [Span { from: 0, to: 91 }]);
    }

    prop_compose! {
        fn connection()(
            announced in 0..300u64, stamp in proptest::option::of(0..20u64), length in proptest::option::of(0..100u64),
            clean in any::<bool>(),
        ) -> Connection {
            Connection { announced, from: stamp.map(|s| announced + s), to: length.map(|l| announced + l), clean, version: 1 }
        }
    }

    /// Returns whether one time counts as taken, written as the protocol says it.
    fn is_taken(connections: &[Connection], redeliver: Ms, now: Ms, time: Ms) -> bool {
        (0..connections.len()).any(|i| {
            let connection = &connections[i];
            let Some(span) = connection.span() else { return false };
            let unseen = if connection.clean { CLEAN_MS } else { redeliver };
            let is_late = connection.to.is_some_and(|to| time + unseen > to);
            let is_cut = connections.iter().any(|other| {
                let was_open = span.from < other.announced && other.announced <= span.to;
                let until = other.from.unwrap_or(if other.is_opening(now) { Ms::MAX } else { other.announced });
                was_open && other.announced <= time + redeliver && time < until
            });
            span.contains(time) && !is_late && !is_cut
        })
    }

    proptest! {
        #[test]
        fn each_time_is_taken_or_in_one_gap(
            from in 0..200u64, length in 0..200u64, redeliver in 0..60u64, now in prop_oneof![Just(400u64), Just(90_000)],
            connections in proptest::collection::vec(connection(), 0..8), most in 1..4usize,
        ) {
            let whole = Span { from, to: from + length };
            let taken = Taken::of(&connections, redeliver, now);
            let gaps = taken.gaps(whole);
            prop_assert!(gaps.iter().all(|gap| gap.from <= gap.to));
            prop_assert!(gaps.windows(2).all(|pair| pair[0].to < pair[1].from));
            let merged = coalesce(gaps.clone(), most);
            prop_assert!(merged.len() <= most);
            for time in 0..450 {
                prop_assert_eq!(taken.contains(time), is_taken(&connections, redeliver, now, time));
                prop_assert!(!taken.contains(time) || connections.iter().any(|one| one.hides(time, now)));
                let missed = whole.contains(time) && !taken.contains(time);
                prop_assert_eq!(gaps.iter().filter(|gap| gap.contains(time)).count(), usize::from(missed));
                prop_assert!(!missed || merged.iter().any(|span| span.contains(time)));
            }
        }
    }
}
