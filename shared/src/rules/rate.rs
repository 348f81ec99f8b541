//! The limit of how much a user may send in a minute, by sampling.
//!
//! A counter that each message writes would be a second write. So a call is counted only with a chance of 1 in [`weight`],
//! and then counts for that many. A minute is one of the clock.

use crate::clock::Ms;

/// How many calls are counted in a minute by a user who reaches the limit, on average. With more, the count is more exact
/// and costs more.
const SAMPLES: u32 = 100;

/// The length of the time over which calls are counted.
const MINUTE_MS: Ms = 60_000;

/// Returns how many calls a counted call stands for.
pub fn weight(limit: u32) -> u32 {
    (limit / SAMPLES).max(1)
}

/// Returns the minute of a time, as the number of minutes since the epoch.
pub fn minute_of(time: Ms) -> u64 {
    time / MINUTE_MS
}

/// Returns the end of the minute of a time. Until then a user above the limit is refused.
pub fn end_of_minute(time: Ms) -> Ms {
    (minute_of(time) + 1) * MINUTE_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ids;

    /// Returns the chance that of `calls` calls so many are counted that the count exceeds the limit.
    fn chance_of_a_stop(calls: u32, limit: u32) -> f64 {
        let weight = f64::from(weight(limit));
        let chance: f64 = 1.0 / weight;
        // The first number of counted calls that is above the limit.
        let first = (f64::from(limit) / weight).floor() as u32 + 1;
        let mut log_of_choose = 0.0;
        let mut sum = 0.0;
        for counted in 0..=calls {
            if counted >= first {
                let others = f64::from(calls - counted);
                let rest = if others > 0.0 { others * (1.0 - chance).ln() } else { 0.0 };
                sum += (log_of_choose + f64::from(counted) * chance.ln() + rest).exp();
            }
            log_of_choose += (f64::from(calls - counted)).ln() - f64::from(counted + 1).ln();
        }
        sum
    }

    #[test]
    fn a_user_at_half_of_the_limit_is_practically_never_stopped() {
        for (limit, most) in [(200, 1e-12), (300, 1e-12), (600, 1e-12), (1_200, 1e-9), (6_000, 1e-9), (100_000, 1e-9)] {
            let chance = chance_of_a_stop(limit / 2, limit);
            assert!(chance < most, "{limit}: {chance:e}");
        }
        // The function can tell: at the limit itself, about every second minute ends early.
        let chance = chance_of_a_stop(600, 600);
        assert!((0.3..0.7).contains(&chance), "{chance}");
    }

    #[test]
    fn a_flood_is_stopped_within_seconds() {
        for limit in [1, 60, 100, 600, 6_000] {
            for seed in 0..200 {
                let (ids, weight) = (Ids::seeded(seed), weight(limit));
                let mut count = 0;
                let mut calls = 0;
                while count <= limit {
                    calls += 1;
                    count += if ids.below(u64::from(weight)) == 0 { weight } else { 0 };
                }
                // Ten times the limit, evenly spread over a minute.
                let seconds = f64::from(calls) * 60.0 / f64::from(10 * limit);
                assert!(seconds < 15.0 && (limit < 60 || seconds < 10.0), "{limit}, seed {seed}: {seconds}");
            }
        }
    }

    #[test]
    fn a_small_limit_is_counted_exactly() {
        assert_eq!([0, 1, 99, 199, 200, 600, 100_000].map(weight), [1, 1, 1, 1, 2, 6, 1_000]);
        assert_eq!((minute_of(59_999), minute_of(60_000), end_of_minute(60_000)), (0, 1, 120_000));
    }
}
