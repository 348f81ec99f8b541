//! The clock of the functions, behind a trait so that a test can control it.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub type Ms = u64;

/// The clock of one function instance.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns the present time.
    fn now_ms(&self) -> Ms;

    /// Returns the time until the next multiple of `every` milliseconds.
    fn until_tick(&self, every: Ms) -> Duration {
        Duration::from_millis(every - self.now_ms() % every)
    }

    /// Resolves when `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's own clock, which Amazon Time Sync keeps within a fraction of a millisecond.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    fn since_epoch() -> Duration {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> Ms {
        u64::try_from(Self::since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    /// Exact to the nanosecond: a remaining part of a millisecond would show when the wait began.
    fn until_tick(&self, every: Ms) -> Duration {
        let every = Duration::from_millis(every).as_nanos();
        let left = every - Self::since_epoch().as_nanos() % every;
        Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
