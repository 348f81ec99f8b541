//! What a user has dropped: all messages up to a time, and some messages after it.
//!
//! A message may still be on its way to its log for half a minute. So each page would read all messages of that time again,
//! and many pages together would read far more messages than there are. Instead, a page goes on where the one before ended.
//! It says nothing of the time before. The last page reads everything again.

use std::collections::BTreeSet;

use super::timing::{FUNCTION_MS, MARGIN_MS, STAMP_MS};
use crate::clock::Ms;
use crate::id::MessageId;

/// The dropped messages of one kind (private, or group).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// All messages up to this time are dropped. 0 at first.
    pub until: Ms,
    /// What is dropped after that time.
    pub tail: Tail,
}

/// The dropped messages after the time up to which everything is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// The messages.
    pub ids: BTreeSet<MessageId>,
    /// Where the next page goes on, if the last one was not the last. Everything before it was read then.
    pub next: Option<MessageId>,
}

/// What a page shows of one kind of message, remembered for a later drop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The message after which the page begins. Absent if it begins with the oldest.
    pub after: Option<MessageId>,
    /// The missed messages of the millisecond of `after`, up to and including `after`, when the page was read. Absent if
    /// there are too many to be remembered.
    pub beside: Option<BTreeSet<MessageId>>,
    /// The time up to which the page is complete: it holds every missed message after `after` and up to this time. No new
    /// one can appear there, unless its time is uncovered, which is counted.
    pub floor: Ms,
    /// The messages of the page.
    pub ids: BTreeSet<MessageId>,
}

/// Returns the time up to which a pull that ends at `end` may drop everything. That time is before the margin, within
/// which a message may still be on its way to its log. It is also before the first message that does not fit on the page.
pub fn limit(end: Ms, first_left: Option<MessageId>) -> Ms {
    let before_left = first_left.map_or(Ms::MAX, |id| id.time_ms().saturating_sub(1));
    end.saturating_sub(MARGIN_MS).min(before_left)
}

/// Returns whether a drop may have passed `time`, or may still pass it without seeing what a function writes whose clock shows
/// `now`. The pull of such a drop began before that write.
pub fn may_be_passed(time: Ms, now: Ms) -> bool {
    let latest_end = now.saturating_add(FUNCTION_MS + STAMP_MS);
    time <= limit(latest_end, None)
}

impl Dropped {
    /// Returns whether a message in a gap is dropped.
    pub fn contains(&self, id: MessageId) -> bool {
        id.time_ms() <= self.until || self.tail.ids.contains(&id)
    }

    /// Drops everything up to `limit`, and the messages `returned`.
    #[must_use]
    pub fn advanced(&self, limit: Ms, returned: impl IntoIterator<Item = MessageId>) -> Self {
        let until = self.until.max(limit);
        let ids = self.tail.ids.iter().copied().chain(returned).filter(|id| id.time_ms() > until).collect();
        Self { until, tail: Tail { ids, next: None } }
    }

    /// Drops the messages `returned` of a page that went on where the one before ended.
    #[must_use]
    pub fn continued(&self, returned: impl IntoIterator<Item = MessageId>) -> Self {
        self.advanced(self.until, returned)
    }

    /// Remembers where the next page goes on, unless that is where `until` ends.
    #[must_use]
    pub fn going_on_at(mut self, next: MessageId) -> Self {
        self.tail.next = Some(next).filter(|next| next.time_ms() > self.until.saturating_add(1));
        self
    }

    /// Returns where a page at `end` goes on. Returns nothing if it reads everything after `until`: also once at least half
    /// of the tail could leave it then. So each message is read again once or twice, however many pages there are. Without
    /// a tail, that is once `until` could pass where the page would go on.
    pub fn goes_on_at(&self, end: Ms) -> Option<MessageId> {
        let (settled, ids) = (end.saturating_sub(MARGIN_MS), &self.tail.ids);
        let leaving = ids.iter().take_while(|id| id.time_ms() <= settled).count();
        let is_early = |next: &MessageId| match ids.is_empty() {
            true => next.time_ms() > settled,
            false => 2 * leaving < ids.len(),
        };
        self.tail.next.filter(is_early)
    }

    /// Drops a page.
    ///
    /// A page shows nothing of the time before it. So `until` moves past the page only if everything before it is already
    /// dropped. Otherwise each message of the page goes into the tail.
    #[must_use]
    pub fn with(&self, page: &Shown) -> Self {
        let limit = if self.reaches(page) { page.floor } else { 0 };
        let dropped = self.advanced(limit, page.ids.iter().copied());
        match self.tail.next {
            Some(next) => dropped.going_on_at(next),
            None => dropped,
        }
    }

    /// Returns whether everything before a page is dropped.
    fn reaches(&self, page: &Shown) -> bool {
        let Some(after) = page.after else { return true };
        let are_dropped = |ids: &BTreeSet<MessageId>| ids.iter().all(|id| self.contains(*id));
        after.time_ms() <= self.until
            || (after.time_ms() <= self.until.saturating_add(1) && page.beside.as_ref().is_some_and(are_dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: fn(Ms) -> MessageId = MessageId::first_at;

    fn tail<const N: usize>(ids: [MessageId; N]) -> Tail {
        Tail { ids: ids.into(), next: None }
    }

    #[test]
    fn a_drop_stops_before_the_margin_and_the_first_message_left() {
        let none = Dropped::default();
        let young = none.advanced(limit(100_000, None), [AT(60_000), AT(90_000)]);
        assert_eq!(young, Dropped { until: 70_000, tail: tail([AT(90_000)]) });
        let cut = none.advanced(limit(100_000, Some(AT(50_000))), [AT(40_000), AT(50_000)]);
        assert_eq!(cut, Dropped { until: 49_999, tail: tail([AT(50_000)]) });
        assert_eq!(young.advanced(limit(80_000, None), []), young, "the time never goes back");
        assert_eq!(young.advanced(limit(130_000, None), []), Dropped { until: 100_000, tail: Tail::default() });
    }

    #[test]
    fn a_page_goes_on_until_half_of_the_tail_could_leave_it() {
        let first = Dropped::default().advanced(limit(31_000, Some(AT(20_000))), [AT(5_000), AT(10_000)]);
        assert_eq!(first.clone().going_on_at(AT(20_000)).goes_on_at(31_000), Some(AT(20_000)));
        assert_eq!(first.goes_on_at(31_000), None, "the last page was the last");
        let second = first.continued([AT(20_000)]).going_on_at(AT(25_000));
        assert_eq!(second.until, first.until, "a late message before the page may still be missed");
        assert_eq!(second.goes_on_at(39_999), Some(AT(25_000)));
        assert_eq!(second.goes_on_at(40_000), None);
    }

    #[test]
    fn a_page_goes_on_without_a_tail_until_the_time_before_could_be_dropped() {
        let nothing_shown = Dropped { until: 7, tail: Tail::default() };
        assert_eq!(nothing_shown.clone().going_on_at(AT(8)).tail.next, None, "nothing lies between");
        let later = nothing_shown.going_on_at(AT(9));
        assert_eq!(later.goes_on_at(30_008), Some(AT(9)));
        assert_eq!(later.goes_on_at(30_009), None);
    }

    #[test]
    fn a_page_of_another_device_leaves_where_the_next_goes_on() {
        let dropped = Dropped { until: 7, tail: Tail::default() }.going_on_at(AT(90));
        let page = |floor| Shown { floor, ids: [AT(60)].into(), ..Shown::default() };
        assert_eq!(dropped.with(&page(50)).tail, Tail { ids: [AT(60)].into(), next: Some(AT(90)) });
        assert_eq!(dropped.with(&page(89)).tail, Tail::default(), "nothing lies between");
    }

    #[test]
    fn a_page_out_of_order_is_dropped_message_by_message() {
        let second =
            Shown { after: Some(AT(50)), beside: Some([AT(50)].into()), floor: 90, ids: [AT(60), AT(95)].into() };
        let dropped = Dropped::default().with(&second);
        assert_eq!(dropped, Dropped { until: 0, tail: tail([AT(60), AT(95)]) });
        let first = Shown { floor: 49, ids: [AT(40), AT(50)].into(), ..Shown::default() };
        let both = Dropped { until: 90, tail: tail([AT(95)]) };
        assert_eq!(dropped.with(&first).with(&second), both);
        assert_eq!(Dropped::default().with(&first).with(&second), both);
    }

    #[test]
    fn an_unseen_message_of_the_millisecond_before_a_page_stays() {
        let [neighbour, last] = [AT(50), MessageId::last_at(50)];
        let page = Shown { after: Some(last), beside: Some([neighbour, last].into()), floor: 90, ids: [AT(60)].into() };
        let dropped = Dropped { until: 49, tail: tail([last]) }.with(&page);
        assert!(!dropped.contains(neighbour) && dropped.contains(AT(60)));
        let unknown = Shown { beside: None, ..page };
        assert!(!Dropped { until: 49, tail: tail([last]) }.with(&unknown).contains(neighbour));
    }

    proptest! {
        #[test]
        fn a_drop_removes_exactly_the_returned_messages(
            times in proptest::collection::btree_set(0..100_000u64, 0..20),
            end in 30_000..120_000u64, returned in 0..20usize,
        ) {
            let ids: Vec<_> = times.into_iter().filter(|t| *t <= end).map(AT).collect();
            let cut = returned.min(ids.len());
            let limit = limit(end, ids.get(cut).copied());
            let dropped = Dropped::default().advanced(limit, ids[..cut].iter().copied());
            prop_assert!(ids[..cut].iter().all(|id| dropped.contains(*id)));
            prop_assert!(ids[cut..].iter().all(|id| !dropped.contains(*id)));
            prop_assert!(dropped.until <= end - MARGIN_MS);
        }

        /// Messages within a few milliseconds, on pages that begin anywhere and are dropped in any order.
        #[test]
        fn pages_drop_exactly_what_they_show(
            times in proptest::collection::vec(0..8u64, 0..12),
            pages in proptest::collection::vec((proptest::option::of(0..12usize), 0..5usize, 0..10u64), 0..6),
        ) {
            let ids = crate::id::Ids::seeded(1);
            let mut log: Vec<MessageId> = times.iter().map(|time| ids.message(100 + time)).collect();
            log.sort_unstable();
            let (mut dropped, mut shown_ever) = (Dropped::default(), BTreeSet::new());
            for (after, size, margin) in pages {
                let after = after.and_then(|place| log.get(place).copied());
                let missed: Vec<_> = log.iter().copied().filter(|id| !dropped.contains(*id)).collect();
                let behind: Vec<_> = missed.iter().copied().filter(|id| Some(*id) > after).collect();
                let shown = &behind[..size.min(behind.len())];
                let beside = missed.iter().copied().filter(|id| {
                    after.is_some_and(|after| *id <= after && id.time_ms() == after.time_ms())
                });
                let floor = limit(100 + margin + MARGIN_MS, behind.get(shown.len()).copied());
                let ids = shown.iter().copied().collect();
                let page = Shown { after, beside: Some(beside.collect()), floor, ids };
                dropped = dropped.with(&page);
                shown_ever.extend(page.ids);
                prop_assert!(log.iter().all(|id| dropped.contains(*id) == shown_ever.contains(id)));
            }
        }
    }
}
