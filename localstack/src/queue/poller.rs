//! What Lambda does with a queue: gives jobs to the function, and takes back those that failed.

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

/// How many events of a queue are under way at once: as many as Lambda begins with.
const MAX_RUNNING: usize = 5;

impl Queue {
    /// Give jobs to the function, and take back what it did not do: how many that is.
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

    /// What the function is told.
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

/// Give out the jobs of a queue until told to stop, and then each that is left once more.
pub(crate) async fn run(queue: Arc<Queue>, gateway: Arc<Gateway>, stop: CancellationToken) {
    let (tasks, places) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_RUNNING)));
    let giving_out = async {
        // Nobody closes the places.
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
        tracing::warn!(lost, queue = queue.definition.name, "jobs that failed are forgotten");
    }
}

/// Try each job that is left, whenever it would be its turn: how many failed.
async fn finish(queue: &Queue, gateway: &Gateway) -> usize {
    let left: Vec<Job> = queue.jobs().waiting.drain(..).collect();
    queue.jobs().running += left.len();
    let batches = left.chunks(queue.definition.batch).map(|batch| queue.give_out(gateway, batch.to_vec()));
    // Collected, since a stream of borrowing futures is not seen to be Send.
    let counts: Vec<usize> = stream::iter(batches.collect::<Vec<_>>()).buffer_unordered(MAX_RUNNING).collect().await;
    counts.into_iter().sum()
}

/// The ids of the jobs that a function says it did not do; none where it is not clear, which Lambda takes for all of
/// them.
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
    fn an_answer_says_what_failed_and_one_that_is_unclear_fails_all() {
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
