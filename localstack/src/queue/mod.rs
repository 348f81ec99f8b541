//! SQS, as far as the functions need it: a [`store`] in memory, a [`poller`] that hands jobs to functions as Lambda
//! does, and the API of [`sqs`]. When the stack stops, each remaining job is tried once more, then discarded.

pub(crate) mod poller;
pub(crate) mod sqs;
pub(crate) mod store;

use crate::event::ACCOUNT;

fn digest(body: &str) -> String {
    format!("{:x}", md5::compute(body))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::store::Queue;
    use crate::template::QueueDefinition;

    pub(super) fn queue(batch: usize) -> Arc<Queue> {
        let definition = QueueDefinition {
            name: "Q".to_owned(),
            function: "f".to_owned(),
            batch,
            visibility: Duration::from_secs(90),
            dead_letters: Some((2, "D".to_owned())),
        };
        Queue::new(definition, None)
    }

    /// Returns the jobs that are handed out at that time, and lets them fail.
    pub(super) fn given_out(queue: &Queue, now: Instant) -> Vec<String> {
        let (batch, _) = queue.take(now);
        let mut jobs = queue.jobs();
        jobs.running -= batch.len();
        jobs.waiting.extend(batch.iter().cloned());
        batch.into_iter().map(|job| job.body).collect()
    }
}
