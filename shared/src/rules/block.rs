//! Blocks over time. A user gets no message from a sender whom they block now, or blocked when it was sent.

use super::coverage::Span;
use crate::clock::Ms;

/// The most past spells of a block that are remembered, about 8 KB of its item. A message that was sent during a
/// forgotten spell, and still waits, is shown.
pub const MAX_SPELLS: usize = 256;

/// One user's block of another, with its history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// When the present spell began. Absent if the block is lifted.
    pub since: Option<Ms>,
    /// The past spells, oldest first.
    pub past: Vec<Span>,
}

impl Block {
    /// Returns whether a message of that time is withheld.
    pub fn withholds(&self, time: Ms) -> bool {
        self.since.is_some() || self.past.iter().any(|spell| spell.contains(time))
    }

    /// Returns whether a message of that time is withheld only until the block is lifted.
    pub fn holds(&self, time: Ms) -> bool {
        self.since.is_some_and(|since| time < since) && !self.past.iter().any(|spell| spell.contains(time))
    }

    /// Returns whether the block was set at that time. A history leaves out what was sent then.
    pub fn was_set_at(&self, time: Ms) -> bool {
        self.since.is_some_and(|since| since <= time) || self.past.iter().any(|spell| spell.contains(time))
    }

    /// Returns when the block was last set or lifted.
    pub fn changed(&self) -> Option<Ms> {
        self.since.or_else(|| self.past.last().map(|spell| spell.to))
    }

    /// Returns the block lifted now. Forgets the spells that ended before `oldest`, since messages that old have expired.
    /// Keeps at most [`MAX_SPELLS`] spells, the newest.
    #[must_use]
    pub fn lifted(mut self, now: Ms, oldest: Ms) -> Self {
        self.past.extend(self.since.take().map(|since| Span { from: since, to: now }));
        self.past.retain(|spell| spell.to >= oldest);
        let surplus = self.past.len().saturating_sub(MAX_SPELLS);
        self.past.drain(..surplus);
        self
    }

    /// Returns the block set now. A block that is set already does not change.
    #[must_use]
    pub fn set(mut self, now: Ms) -> Self {
        self.since.get_or_insert(now);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_present_block_withholds_everything() {
        let block = Block::default().set(50);
        assert!(block.withholds(10) && block.withholds(60));
        assert!(block.holds(49) && !block.holds(50) && !block.holds(60));
        let again = block.lifted(70, 0).set(90);
        assert_eq!([49, 60, 71, 89, 90].map(|time| again.holds(time)), [true, false, true, true, false]);
        assert!(!again.lifted(95, 0).holds(49));
    }

    #[test]
    fn a_lifted_block_withholds_messages_sent_during_it() {
        let block = Block::default().set(50).set(60).lifted(70, 0);
        assert_eq!(block.past, [Span { from: 50, to: 70 }]);
        assert_eq!((block.changed(), block.clone().set(80).changed()), (Some(70), Some(80)));
        assert_eq!(Block::default().changed(), None);
        assert_eq!([49, 50, 70, 71].map(|time| block.withholds(time)), [false, true, true, false]);
        assert_eq!(block.clone().lifted(90, 0), block);
        assert_eq!(block.lifted(90, 71), Block::default());
    }

    #[test]
    fn the_oldest_surplus_spells_are_forgotten() {
        let often =
            (0..MAX_SPELLS as u64 + 5).fold(Block::default(), |block, n| block.set(10 * n).lifted(10 * n + 5, 0));
        assert_eq!((often.past.len(), often.past[0].from), (MAX_SPELLS, 50));
    }

    proptest! {
        #[test]
        fn a_message_is_withheld_exactly_if_a_spell_contains_it(turns in proptest::collection::vec(1..20u64, 0..12)) {
            let (mut block, mut now, mut blocked_at) = (Block::default(), 0, Vec::new());
            for (turn, pause) in turns.iter().enumerate() {
                let until = now + pause;
                if turn % 2 == 1 {
                    blocked_at.extend(now..=until);
                    block = block.set(now).lifted(until, 0);
                }
                now = until + 1;
            }
            for time in 0..now {
                prop_assert_eq!(block.withholds(time), blocked_at.contains(&time));
            }
        }
    }
}
