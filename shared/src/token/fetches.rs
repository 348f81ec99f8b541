//! When keys were fetched, and when they may be fetched again. Key sets and stored secrets follow the same rules.

use crate::clock::Ms;

/// How long keys are used while their source cannot be reached.
pub(super) const USABLE_MS: Ms = 24 * 60 * 60 * 1000;

/// The shortest time between two fetches, so that forged tokens cannot flood the source.
pub(super) const PAUSE_MS: Ms = 30 * 1000;

/// The same as long as there are no keys to go on with.
pub(super) const FIRST_PAUSE_MS: Ms = 1_000;

/// The times of the fetches of one source.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    succeeded: Option<Ms>,
    begun: Option<Ms>,
}

impl Fetches {
    /// Returns whether what was fetched is younger than that.
    pub(super) fn is_younger_than(&self, age: Ms, now: Ms) -> bool {
        self.succeeded.is_some_and(|at| now.saturating_sub(at) < age)
    }

    /// Begins a fetch. Returns false if it is too early.
    pub(super) fn begin(&mut self, now: Ms) -> bool {
        let pause = if self.succeeded.is_some() { PAUSE_MS } else { FIRST_PAUSE_MS };
        let is_time = self.begun.is_none_or(|at| now.saturating_sub(at) >= pause);
        if is_time {
            self.begun = Some(now);
        }
        is_time
    }

    /// Records that a fetch has succeeded.
    pub(super) fn succeed(&mut self, now: Ms) {
        self.succeeded = Some(now);
    }
}
