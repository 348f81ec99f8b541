//! The time of the machine that the suite runs on.

use shared::clock::{Clock, SystemClock};

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// Seconds since the Unix epoch, as in a token.
pub(crate) fn now_s() -> u64 {
    now_ms() / 1000
}
