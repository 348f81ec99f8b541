//! Sends jobs to a queue of SQS.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures::{StreamExt, TryStreamExt, stream};

use crate::aws::{Clients, open_connection};
use crate::error::{Error, Result};

/// The most jobs of one call.
const MAX_ENTRIES: usize = 10;

/// The most bytes of all bodies of one call together, and so of one body. SQS accepts more, but emulators still use its
/// old limit of 256 KiB.
pub const MAX_BATCH_BYTES: usize = 240 * 1024;

/// The highest number of calls that are under way at once.
const MAX_CALLS: usize = 8;

/// A queue.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// Creates the queue of the configuration, if it has one.
    pub fn configured(clients: &Clients<'_>) -> Option<Self> {
        let url = clients.config.fanout_queue.clone()?;
        Some(Self { client: clients.sqs(), url })
    }

    /// Opens a connection to SQS, before the first call needs it.
    pub async fn open_connection(&self) {
        open_connection!(aws_sdk_sqs, self.client.send_message_batch());
    }

    /// Sends jobs to the queue, in no order. If it fails, some of them may be in the queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the queue did not accept all of them.
    pub async fn send(&self, jobs: &[String]) -> Result<()> {
        self.send_later(jobs, 0).await
    }

    /// Sends jobs to the queue, which hands them out after so many seconds, at most 900.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the queue did not accept all of them.
    pub async fn send_later(&self, jobs: &[String], seconds: i32) -> Result<()> {
        let calls = batches(jobs, MAX_ENTRIES, MAX_BATCH_BYTES, String::len)
            .into_iter()
            .map(|batch| self.send_batch(batch, seconds));
        // Collected, because the compiler cannot prove that a stream of borrowing futures is Send.
        stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(MAX_CALLS).try_collect().await
    }

    async fn send_batch(&self, jobs: &[String], seconds: i32) -> Result<()> {
        let failed = |why: String| Error::unavailable("SendMessageBatch", why);
        let mut entries = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(job);
            let entry = entry.set_delay_seconds((seconds > 0).then_some(seconds)).build();
            entries.push(entry.map_err(|error| failed(error.to_string()))?);
        }
        let request = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
        let answer = Box::pin(request.send()).await.map_err(|error| Error::unavailable("SendMessageBatch", error))?;
        match answer.failed() {
            [] => Ok(()),
            [first, ..] => Err(failed(format!("{} jobs were not taken: {}", answer.failed().len(), first.code()))),
        }
    }
}

/// Splits things in order into as few batches as possible. Each batch has at most `most` things and `most_bytes` bytes.
/// A longer thing is a batch of its own.
pub fn batches<T>(all: &[T], most: usize, most_bytes: usize, length: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, length) in all.iter().map(length).enumerate() {
        if index > start && (index - start == most || bytes + length > most_bytes) {
            batches.push(&all[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += length;
    }
    if start < all.len() {
        batches.push(&all[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calls(jobs: &[String]) -> Vec<&[String]> {
        batches(jobs, MAX_ENTRIES, MAX_BATCH_BYTES, String::len)
    }

    fn sizes(jobs: &[usize]) -> Vec<usize> {
        let jobs: Vec<String> = jobs.iter().map(|bytes| "x".repeat(*bytes)).collect();
        calls(&jobs).iter().map(|call| call.len()).collect()
    }

    #[test]
    fn a_call_has_ten_jobs_at_most() {
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[1; 10]), [10]);
        assert_eq!(sizes(&[1; 23]), [10, 10, 3]);
    }

    #[test]
    fn a_call_is_no_longer_than_the_limit() {
        let half = MAX_BATCH_BYTES / 2;
        assert_eq!(sizes(&[half, half, 1]), [2, 1]);
        assert_eq!(sizes(&[half + 1, half, half]), [1, 2]);
        assert_eq!(sizes(&[2 * MAX_BATCH_BYTES, 1]), [1, 1]);
    }

    proptest! {
        #[test]
        fn each_job_is_sent_once_and_in_order(jobs in proptest::collection::vec("x{0,100}", 0..50)) {
            prop_assert_eq!(calls(&jobs).concat(), jobs);
        }
    }
}
