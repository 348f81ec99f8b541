//! EventBridge, as far as the functions need it: one bus, without rules. It keeps the last events in memory.
//!
//! [`put_events`] checks calls as AWS does. [`webhook`] posts each event to an address, as a rule with an API
//! destination would.

pub(crate) mod put_events;
pub(crate) mod webhook;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The most events that are kept.
const MAX_EVENTS: usize = 1_000;

/// The most bytes of all kept events together. An event may have 256 KB.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A bus.
#[derive(Debug)]
pub(crate) struct Bus {
    /// Its name. Without one, it takes no events.
    name: Option<String>,
    kept: Mutex<Kept>,
    /// Signals that an event was added.
    changed: Notify,
}

/// The events that are kept, each as JSON.
#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<str>>,
    bytes: usize,
    /// The number of the first kept event. Events have numbers from 0 on.
    first: u64,
}

impl Bus {
    /// Creates an empty bus.
    pub(crate) fn new(name: Option<String>) -> Self {
        Self { name, kept: Mutex::default(), changed: Notify::new() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic leaves consistent data, because nothing in a change can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, and forgets the oldest ones beyond the limits.
    fn add(&self, event: String) {
        let mut kept = self.kept();
        kept.bytes += event.len();
        kept.events.push_back(event.into());
        while kept.events.len() > MAX_EVENTS || kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.events.pop_front() else { break };
            kept.bytes -= oldest.len();
            kept.first += 1;
        }
        drop(kept);
        self.changed.notify_one();
    }

    /// Returns the kept events as a JSON array, the oldest first.
    pub(crate) fn all(&self) -> String {
        let events: Vec<Arc<str>> = self.kept().events.iter().cloned().collect();
        format!("[{}]", events.join(","))
    }

    /// Returns the event with that number, or the next one that is kept, with its number.
    fn at_or_after(&self, number: u64) -> Option<(u64, Arc<str>)> {
        let kept = self.kept();
        let number = number.max(kept.first);
        let index = usize::try_from(number - kept.first).ok()?;
        Some((number, kept.events.get(index)?.clone()))
    }

    /// Waits for an event with that number or a higher one. For one caller at a time.
    async fn next(&self, number: u64) -> (u64, Arc<str>) {
        loop {
            let changed = self.changed.notified();
            if let Some(found) = self.at_or_after(number) {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_events_are_kept() {
        let bus = Bus::new(None);
        assert_eq!(bus.all(), "[]");
        (0..=MAX_EVENTS).for_each(|n| bus.add(n.to_string()));
        let all: Vec<usize> = serde_json::from_str(&bus.all()).unwrap();
        assert_eq!(all, (1..=MAX_EVENTS).collect::<Vec<_>>());
        assert_eq!(bus.at_or_after(0), Some((1, "1".into())));
        assert_eq!(bus.at_or_after(7), Some((7, "7".into())));
        assert_eq!(bus.at_or_after(1_001), None);
    }

    #[test]
    fn large_events_are_kept_as_far_as_memory_allows() {
        let bus = Bus::new(None);
        (0..3).for_each(|_| bus.add("x".repeat(MAX_BYTES / 2)));
        let kept = bus.kept();
        assert_eq!((kept.events.len(), kept.first), (2, 1));
    }
}
