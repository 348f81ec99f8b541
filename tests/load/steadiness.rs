//! How steady the machine itself is while something else is measured. A virtual machine may be slower for moments, because
//! others use its processors too.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::messages::Times;

/// The steps of the work, some 100 µs of computing, and how often it is done.
const STEPS: u64 = 100_000;
const PAUSE: Duration = Duration::from_millis(10);

/// How often the work is done each time. The fastest counts, because the others may have been interrupted.
const TRIES: usize = 3;

/// Does the same work again and again.
pub(crate) struct Steadiness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Steadiness {
    pub(crate) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Relaxed) {
                times.extend((0..TRIES).map(|_| work()).min());
                std::thread::sleep(PAUSE);
            }
            times
        });
        Self { stop, thread }
    }

    /// Returns the 99th percentile of the times as a multiple of their median: 1 on a steady machine.
    pub(crate) fn end(self) -> Result<f64, Failure> {
        self.stop.store(true, Relaxed);
        let times = Times::of(&self.thread.join().map_err(|_| "the thread panicked")?);
        Ok(times.at(0.99) / times.at(0.5).max(f64::MIN_POSITIVE))
    }
}

fn work() -> Duration {
    let began = Instant::now();
    let mut number = black_box(1_u64);
    for step in 0..STEPS {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
    began.elapsed()
}
