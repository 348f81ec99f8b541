//! A queue in memory: jobs that wait, jobs that were handed out, and dead letters.
//!
//! A job that was handed out is hidden for the queue's visibility timeout, and removed when it succeeds. A failed job
//! is handed out again after that time. After the number of tries in the template, it goes to the dead letters.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::clock::{Clock, Ms, SystemClock};
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Builder;

use crate::template::QueueDefinition;

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) definition: QueueDefinition,
    jobs: Mutex<Jobs>,
    /// Signals that a job was added or put back.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// Jobs that wait or are hidden.
    pub(super) waiting: VecDeque<Job>,
    /// How many jobs are handed out.
    pub(super) running: usize,
    /// The dead letters.
    pub(super) dead: Vec<Job>,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) body: String,
    pub(super) sent: Ms,
    pub(super) first_received: Option<Ms>,
    pub(super) receives: u64,
    pub(super) visible: Instant,
}

impl Queue {
    /// Creates an empty queue. `visibility` replaces the visibility timeout of the definition.
    pub(crate) fn new(definition: QueueDefinition, visibility: Option<Duration>) -> Arc<Self> {
        let visibility = visibility.unwrap_or(definition.visibility);
        let definition = QueueDefinition { visibility, ..definition };
        Arc::new(Self { definition, jobs: Mutex::default(), changed: Notify::new() })
    }

    pub(super) fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // A panic leaves consistent data, because each change is one step.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of jobs and of dead letters, each with the name of its queue.
    pub(crate) fn counts(&self) -> Vec<(&str, usize)> {
        let jobs = self.jobs();
        let own = (self.definition.name.as_str(), jobs.waiting.len() + jobs.running);
        let dead = self.definition.dead_letters.as_ref().map(|(_, name)| (name.as_str(), jobs.dead.len()));
        [own].into_iter().chain(dead).collect()
    }

    /// Adds a job and returns its id.
    pub(super) fn put(&self, body: &str, delay: Duration) -> String {
        let id = Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let (sent, visible) = (SystemClock.now_ms(), Instant::now() + delay);
        let job = Job { id: id.clone(), body: body.to_owned(), sent, first_received: None, receives: 0, visible };
        self.jobs().waiting.push_back(job);
        self.changed.notify_one();
        id
    }

    /// Returns the next jobs to hand out, as soon as there are any.
    pub(super) async fn next(&self) -> Vec<Job> {
        loop {
            let changed = self.changed.notified();
            let (batch, wake) = self.take(Instant::now());
            if !batch.is_empty() {
                return batch;
            }
            match wake {
                Some(wake) => drop(tokio::time::timeout_at(wake, changed).await),
                None => changed.await,
            }
        }
    }

    /// Returns the jobs to hand out at that time, and when there will be others.
    pub(super) fn take(&self, now: Instant) -> (Vec<Job>, Option<Instant>) {
        let mut jobs = self.jobs();
        let mut batch = Vec::new();
        for mut job in std::mem::take(&mut jobs.waiting) {
            if job.visible > now || batch.len() == self.definition.batch {
                jobs.waiting.push_back(job);
            } else if matches!(&self.definition.dead_letters, Some((most, _)) if job.receives >= *most) {
                tracing::warn!(job = job.id, queue = self.definition.name, "a job was moved to the dead letters");
                jobs.dead.push(job);
            } else {
                job.receives += 1;
                job.first_received.get_or_insert_with(|| SystemClock.now_ms());
                job.visible = now + self.definition.visibility;
                batch.push(job);
            }
        }
        jobs.running += batch.len();
        let wake = jobs.waiting.iter().map(|job| job.visible).min();
        (batch, wake)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{given_out, queue};
    use super::*;

    #[test]
    fn a_failing_job_is_hidden_between_tries_and_becomes_a_dead_letter() {
        let queue = queue(1);
        queue.put("a", Duration::ZERO);
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(given_out(&queue, later(1)), ["a"]);
        assert!(given_out(&queue, later(90)).is_empty());
        assert_eq!(given_out(&queue, later(91)), ["a"]);
        assert!(given_out(&queue, later(300)).is_empty());
        assert_eq!(queue.counts(), [("Q", 0), ("D", 1)]);
    }
}
