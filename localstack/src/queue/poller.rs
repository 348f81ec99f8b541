//! Does what Lambda does with a queue: hands jobs to the function, and puts failed jobs back.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::store::{Job, Queue};
use super::{ACCOUNT, digest};
use crate::gateway::Gateway;

/// How many events of a queue are handled at the same time. Lambda starts with as many.
const MAX_RUNNING: usize = 5;

impl Queue {
    /// Hands jobs to the function and puts failed jobs back. Returns the number of failed jobs.
    async fn give_out(&self, gateway: &Gateway, batch: Vec<Job>) -> usize {
        let event = self.event(&batch).to_string();
        let failed = match gateway.invoke(&self.definition.function, event).await {
            Ok(answer) => failures(&answer, &batch),
            Err(_) => None,
        };
        let mut jobs = self.jobs();
        jobs.running -= batch.len();
        let is_back = |job: &Job| failed.as_ref().is_none_or(|failed| failed.contains(&job.id));
        let back: Vec<Job> = batch.into_iter().filter(is_back).collect();
        let count = back.len();
        jobs.waiting.extend(back);
        drop(jobs);
        self.changed.notify_one();
        count
    }

    /// Builds the event for the function.
    fn event(&self, batch: &[Job]) -> Value {
        let record = |job: &Job| {
            json!({
                "messageId": job.id,
                "receiptHandle": format!("{}#{}", job.id, job.receives),
                "body": job.body,
                "attributes": {
                    "ApproximateReceiveCount": job.receives.to_string(),
                    "SentTimestamp": job.sent.to_string(),
                    "SenderId": ACCOUNT,
                    "ApproximateFirstReceiveTimestamp": job.first_received.unwrap_or(job.sent).to_string(),
                },
                "messageAttributes": {},
                "md5OfBody": digest(&job.body),
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{}", self.definition.name),
                "awsRegion": "us-east-1",
            })
        };
        json!({ "Records": batch.iter().map(record).collect::<Vec<_>>() })
    }
}

/// Hands out the jobs of a queue until `stop` is cancelled, then each remaining job once more.
pub(crate) async fn run(queue: Arc<Queue>, gateway: Arc<Gateway>, stop: CancellationToken) {
    let (tasks, places) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_RUNNING)));
    let giving_out = async {
        // The semaphore is never closed.
        while let Ok(place) = places.clone().acquire_owned().await {
            let batch = queue.next().await;
            let (queue, gateway) = (queue.clone(), gateway.clone());
            tasks.spawn(async move {
                queue.give_out(&gateway, batch).await;
                drop(place);
            });
        }
    };
    stop.run_until_cancelled(giving_out).await;
    tasks.close();
    tasks.wait().await;
    let lost = finish(&queue, &gateway).await;
    if lost > 0 {
        tracing::warn!(lost, queue = queue.definition.name, "failed jobs are discarded");
    }
}

/// Tries each remaining job, even a hidden or delayed one. Returns the number of failed jobs.
async fn finish(queue: &Queue, gateway: &Gateway) -> usize {
    let left: Vec<Job> = queue.jobs().waiting.drain(..).collect();
    queue.jobs().running += left.len();
    let batches = left.chunks(queue.definition.batch).map(|batch| queue.give_out(gateway, batch.to_vec()));
    // Collected, because the compiler cannot prove that a stream of borrowing futures is Send.
    let counts: Vec<usize> = stream::iter(batches.collect::<Vec<_>>()).buffer_unordered(MAX_RUNNING).collect().await;
    counts.into_iter().sum()
}

/// Returns the ids of the jobs that a function reports as failed. Returns `None` for an invalid answer, after which
/// Lambda treats all jobs as failed.
fn failures(answer: &str, batch: &[Job]) -> Option<BTreeSet<String>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(default)]
        batch_item_failures: Option<Vec<Failure>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure {
        item_identifier: String,
    }
    let answer: Option<Answer> = serde_json::from_str(answer).ok()?;
    let failures = answer.and_then(|answer| answer.batch_item_failures).unwrap_or_default();
    let ids: BTreeSet<String> = failures.into_iter().map(|failure| failure.item_identifier).collect();
    ids.iter().all(|id| batch.iter().any(|job| job.id == *id)).then_some(ids)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::tests::queue;
    use super::*;

    #[test]
    fn an_answer_names_failed_jobs_and_an_invalid_answer_fails_all() {
        let queue = queue(2);
        queue.put("a", Duration::ZERO);
        let (batch, _) = queue.take(Instant::now());
        let of = |id: &str| json!({ "batchItemFailures": [{ "itemIdentifier": id }] }).to_string();
        assert_eq!(failures(&of(&batch[0].id), &batch), Some([batch[0].id.clone()].into()));
        for all_done in [r#"{"batchItemFailures":[]}"#, "{}", "null", r#"{"batchItemFailures":null}"#] {
            assert_eq!(failures(all_done, &batch), Some(BTreeSet::new()), "{all_done}");
        }
        for unclear in ["7", "", &of(""), &of("another")] {
            assert_eq!(failures(unclear, &batch), None, "{unclear}");
        }
    }
}
