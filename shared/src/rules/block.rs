//! Blocks over time: a user gets no message of a sender whom they block now, or blocked when it was sent.

use super::coverage::Span;
use crate::clock::Ms;

/// How many spells of a block are remembered: some 8 KB of its item. What was sent during an older one is shown again if it
/// still waits.
pub const MAX_SPELLS: usize = 256;

/// One user's block of another, with its history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// Since when the block is set; absent once it is lifted.
    pub since: Option<Ms>,
    /// Earlier spells of it.
    pub past: Vec<Span>,
}

impl Block {
    /// Whether a message of that time is withheld.
    pub fn withholds(&self, time: Ms) -> bool {
        self.since.is_some() || self.past.iter().any(|spell| spell.contains(time))
    }

    /// When it was last set or lifted.
    pub fn changed(&self) -> Option<Ms> {
        self.since.or_else(|| self.past.last().map(|spell| spell.to))
    }

    /// The block lifted now. Spells that ended before `oldest`, the age at which messages expire, are forgotten, and the
    /// oldest of more than [`MAX_SPELLS`].
    #[must_use]
    pub fn lifted(mut self, now: Ms, oldest: Ms) -> Self {
        self.past.extend(self.since.take().map(|since| Span { from: since, to: now }));
        self.past.retain(|spell| spell.to >= oldest);
        let surplus = self.past.len().saturating_sub(MAX_SPELLS);
        self.past.drain(..surplus);
        self
    }

    /// The block set now, if it is not standing already.
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
    fn a_standing_block_withholds_everything() {
        let block = Block::default().set(50);
        assert!(block.withholds(10) && block.withholds(60));
    }

    #[test]
    fn a_lifted_block_withholds_what_was_sent_during_it() {
        let block = Block::default().set(50).set(60).lifted(70, 0);
        assert_eq!(block.past, [Span { from: 50, to: 70 }]);
        assert_eq!((block.changed(), block.clone().set(80).changed()), (Some(70), Some(80)));
        assert_eq!(Block::default().changed(), None);
        assert_eq!([49, 50, 70, 71].map(|time| block.withholds(time)), [false, true, true, false]);
        assert_eq!(block.clone().lifted(90, 0), block);
        assert_eq!(block.lifted(90, 71), Block::default());
    }

    #[test]
    fn no_more_spells_are_remembered_than_fit() {
        let often =
            (0..MAX_SPELLS as u64 + 5).fold(Block::default(), |block, n| block.set(10 * n).lifted(10 * n + 5, 0));
        assert_eq!((often.past.len(), often.past[0].from), (MAX_SPELLS, 50));
    }

    proptest! {
        #[test]
        fn a_message_is_withheld_exactly_if_a_spell_holds_it(turns in proptest::collection::vec(1..20u64, 0..12)) {
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
