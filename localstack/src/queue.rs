//! SQS, as far as the functions need it: a queue in memory that gives its jobs to a function, as Lambda does.
//!
//! A job that was given out is hidden for the queue's visibility timeout, and gone when it is done. One that fails
//! comes again after that time; one that was given out as often as the template says is put aside, with the dead
//! letters. The API is the part of SQS that sends and counts, by its JSON protocol, at the internal address. Other
//! operations are refused by name. What is queued when the stack stops is tried once more, and then forgotten.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::{Clock, Ms, SystemClock};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Builder;

pub(crate) use crate::event::ACCOUNT;
use crate::gateway::Gateway;
use crate::rest::message;
use crate::template::QueueDefinition;

/// How many events of a queue are under way at once: as many as Lambda begins with.
const MAX_RUNNING: usize = 5;

/// The most entries of one call.
const MAX_ENTRIES: usize = 10;

/// The most bytes of one message, and of all messages of one call.
const MAX_BYTES: usize = 1024 * 1024;

/// How long a job may be told to wait at first.
const MAX_DELAY_SECONDS: u64 = 15 * 60;

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    definition: QueueDefinition,
    jobs: Mutex<Jobs>,
    /// Something was put in, or came back.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    /// Those that wait or are hidden.
    waiting: VecDeque<Job>,
    /// How many are given out.
    running: usize,
    /// Those that were put aside.
    dead: Vec<Job>,
}

#[derive(Debug, Clone)]
struct Job {
    id: String,
    body: String,
    sent: Ms,
    first_received: Option<Ms>,
    receives: u64,
    visible: Instant,
}

impl Queue {
    /// An empty queue; with that visibility timeout instead of its own, if there is one.
    pub(crate) fn new(definition: QueueDefinition, visibility: Option<Duration>) -> Arc<Self> {
        let visibility = visibility.unwrap_or(definition.visibility);
        let definition = QueueDefinition { visibility, ..definition };
        Arc::new(Self { definition, jobs: Mutex::default(), changed: Notify::new() })
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // What a panic left behind is whole: each change is one step.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many jobs it has, and how many were put aside, each by the name of the queue where they are.
    pub(crate) fn counts(&self) -> Vec<(&str, usize)> {
        let jobs = self.jobs();
        let own = (self.definition.name.as_str(), jobs.waiting.len() + jobs.running);
        let dead = self.definition.dead_letters.as_ref().map(|(_, name)| (name.as_str(), jobs.dead.len()));
        [own].into_iter().chain(dead).collect()
    }

    /// Put a job in: its id.
    fn put(&self, body: &str, delay: Duration) -> String {
        let id = Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let (sent, visible) = (SystemClock.now_ms(), Instant::now() + delay);
        let job = Job { id: id.clone(), body: body.to_owned(), sent, first_received: None, receives: 0, visible };
        self.jobs().waiting.push_back(job);
        self.changed.notify_one();
        id
    }

    /// The next jobs to give out, as soon as there are any.
    async fn next(&self) -> Vec<Job> {
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

    /// The jobs to give out at that time, and when there will be others.
    fn take(&self, now: Instant) -> (Vec<Job>, Option<Instant>) {
        let mut jobs = self.jobs();
        let mut batch = Vec::new();
        for mut job in std::mem::take(&mut jobs.waiting) {
            if job.visible > now || batch.len() == self.definition.batch {
                jobs.waiting.push_back(job);
            } else if matches!(&self.definition.dead_letters, Some((most, _)) if job.receives >= *most) {
                tracing::warn!(job = job.id, queue = self.definition.name, "a job is put aside");
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

fn digest(body: &str) -> String {
    format!("{:x}", md5::compute(body))
}

/// The API: `POST /`, with the operation in `X-Amz-Target`.
pub(crate) async fn call(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let Some(operation) = target.and_then(|target| target.strip_prefix("AmazonSQS.")) else {
        return message(StatusCode::NOT_FOUND, "Not Found");
    };
    let outcome = match serde_json::from_slice::<Value>(&body) {
        Ok(request) => perform(&gateway.queues, operation, &request),
        Err(_) => Err(Refusal("SerializationException", "the body is not JSON")),
    };
    let (status, answer) = match outcome {
        Ok(answer) => (StatusCode::OK, answer),
        Err(Refusal(name, why)) => {
            (StatusCode::BAD_REQUEST, json!({ "__type": format!("com.amazonaws.sqs#{name}"), "message": why }))
        }
    };
    (status, [("content-type", "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

/// Why a call, or an entry, is refused: the exception and a sentence.
struct Refusal(&'static str, &'static str);

fn perform(queues: &[Arc<Queue>], operation: &str, request: &Value) -> Result<Value, Refusal> {
    match operation {
        "SendMessage" => send(find(queues, request)?, request),
        "SendMessageBatch" => send_batch(find(queues, request)?, request),
        "GetQueueAttributes" => attributes(queues, request),
        _ => Err(Refusal("UnsupportedOperation", "the local stack's queues send and count")),
    }
}

/// The name in an address like `http://127.0.0.1:3001/000000000000/FanoutQueue`.
fn name(request: &Value) -> &str {
    request["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default()
}

fn find<'a>(queues: &'a [Arc<Queue>], request: &Value) -> Result<&'a Queue, Refusal> {
    let name = name(request);
    let found = queues.iter().find(|queue| queue.definition.name == name);
    found.map(Arc::as_ref).ok_or(Refusal("QueueDoesNotExist", "there is no such queue"))
}

fn send(queue: &Queue, request: &Value) -> Result<Value, Refusal> {
    let (body, delay) = checked(request)?;
    Ok(json!({ "MessageId": queue.put(body, delay), "MD5OfMessageBody": digest(body) }))
}

fn send_batch(queue: &Queue, request: &Value) -> Result<Value, Refusal> {
    let entries = request["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["Id"].as_str()).collect();
    let bytes: usize = entries.iter().filter_map(|entry| entry["MessageBody"].as_str()).map(str::len).sum();
    match entries.len() {
        0 => return Err(Refusal("EmptyBatchRequest", "there are no entries")),
        n if n > MAX_ENTRIES => return Err(Refusal("TooManyEntriesInBatchRequest", "there are more than 10 entries")),
        n if n > ids.len() => {
            return Err(Refusal("BatchEntryIdsNotDistinct", "two entries share an Id, or one has none"));
        }
        _ if bytes > MAX_BYTES => return Err(Refusal("BatchRequestTooLong", "the messages have more than 1 MiB")),
        _ => {}
    }
    let (mut taken, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match checked(entry) {
            Ok((body, delay)) => taken.push(json!({
                "Id": entry["Id"], "MessageId": queue.put(body, delay), "MD5OfMessageBody": digest(body),
            })),
            Err(Refusal(code, why)) => {
                failed.push(json!({ "Id": entry["Id"], "Code": code, "Message": why, "SenderFault": true }));
            }
        }
    }
    Ok(json!({ "Successful": taken, "Failed": failed }))
}

/// The body and the delay of a message that may be sent.
fn checked(entry: &Value) -> Result<(&str, Duration), Refusal> {
    let body = entry["MessageBody"].as_str().filter(|body| !body.is_empty());
    let body = body.ok_or(Refusal("MissingParameter", "MessageBody must be a string that is not empty"))?;
    let is_allowed = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    if !body.chars().all(is_allowed) {
        return Err(Refusal("InvalidMessageContents", "it has a character that XML does not have"));
    }
    if body.len() > MAX_BYTES {
        return Err(Refusal("InvalidParameterValue", "the message has more than 1 MiB"));
    }
    match entry.get("DelaySeconds").map_or(Some(0), Value::as_u64) {
        Some(seconds) if seconds <= MAX_DELAY_SECONDS => Ok((body, Duration::from_secs(seconds))),
        _ => Err(Refusal("InvalidParameterValue", "DelaySeconds must be 0 to 900")),
    }
}

/// How many jobs wait, are hidden or under way, or are put aside.
fn attributes(queues: &[Arc<Queue>], request: &Value) -> Result<Value, Refusal> {
    let name = name(request);
    let counts = queues.iter().find_map(|queue| {
        let jobs = queue.jobs();
        let hidden = jobs.waiting.iter().filter(|job| job.visible > Instant::now()).count();
        match &queue.definition.dead_letters {
            _ if queue.definition.name == name => Some((jobs.waiting.len() - hidden, hidden + jobs.running)),
            Some((_, dead)) if *dead == name => Some((jobs.dead.len(), 0)),
            _ => None,
        }
    });
    let (visible, hidden) = counts.ok_or(Refusal("QueueDoesNotExist", "there is no such queue"))?;
    Ok(json!({ "Attributes": {
        "ApproximateNumberOfMessages": visible.to_string(),
        "ApproximateNumberOfMessagesNotVisible": hidden.to_string(),
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(batch: usize) -> Arc<Queue> {
        let definition = QueueDefinition {
            name: "Q".to_owned(),
            function: "f".to_owned(),
            batch,
            visibility: Duration::from_secs(90),
            dead_letters: Some((2, "D".to_owned())),
        };
        Queue::new(definition, None)
    }

    fn asked(queue: &Arc<Queue>, operation: &str, mut request: Value) -> Result<Value, &'static str> {
        let name = request["QueueUrl"].as_str().unwrap_or("Q").to_owned();
        request["QueueUrl"] = json!(format!("http://127.0.0.1:3001/{ACCOUNT}/{name}"));
        perform(std::slice::from_ref(queue), operation, &request).map_err(|Refusal(name, _)| name)
    }

    /// What is given out at that time, and fails.
    fn given_out(queue: &Queue, now: Instant) -> Vec<String> {
        let (batch, _) = queue.take(now);
        let mut jobs = queue.jobs();
        jobs.running -= batch.len();
        jobs.waiting.extend(batch.iter().cloned());
        batch.into_iter().map(|job| job.body).collect()
    }

    #[test]
    fn a_job_is_hidden_while_it_is_out_and_put_aside_in_the_end() {
        let queue = queue(1);
        queue.put("a", Duration::ZERO);
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(given_out(&queue, later(1)), ["a"]);
        assert!(given_out(&queue, later(90)).is_empty());
        assert_eq!(given_out(&queue, later(91)), ["a"]);
        assert!(given_out(&queue, later(300)).is_empty());
        let dead = asked(&queue, "GetQueueAttributes", json!({ "QueueUrl": "D" })).unwrap();
        assert_eq!(dead["Attributes"]["ApproximateNumberOfMessages"], "1");
    }

    #[test]
    fn jobs_are_given_out_in_batches_and_after_their_delay() {
        let queue = queue(2);
        let entry = |id: &str, delay: u64| json!({ "Id": id, "MessageBody": id, "DelaySeconds": delay });
        let entries = json!({ "Entries": [entry("a", 0), entry("b", 900), entry("c", 0), entry("d", 0)] });
        let answer = asked(&queue, "SendMessageBatch", entries).unwrap();
        assert_eq!(answer["Successful"][0]["MD5OfMessageBody"], "0cc175b9c0f1b6a831c399e269772661");
        let now = Instant::now();
        assert_eq!(given_out(&queue, now), ["a", "c"]);
        assert_eq!(given_out(&queue, now), ["d"]);
        assert_eq!(given_out(&queue, now + Duration::from_secs(901)), ["b", "a"]);
    }

    #[test]
    fn what_sqs_refuses_is_refused() {
        let queue = queue(1);
        let batch = |entries: Vec<Value>| asked(&queue, "SendMessageBatch", json!({ "Entries": entries }));
        let entry = |id: usize, body: &str| json!({ "Id": id.to_string(), "MessageBody": body });
        assert_eq!(batch(vec![]), Err("EmptyBatchRequest"));
        assert_eq!(batch((0..11).map(|id| entry(id, "x")).collect()), Err("TooManyEntriesInBatchRequest"));
        assert_eq!(batch(vec![entry(1, "x"), entry(1, "x")]), Err("BatchEntryIdsNotDistinct"));
        let half = "x".repeat(MAX_BYTES / 2);
        assert_eq!(batch(vec![entry(1, &half), entry(2, &half), entry(3, "x")]), Err("BatchRequestTooLong"));
        let mixed = batch(vec![entry(1, "x"), entry(2, "\u{FFFF}"), entry(3, "")]).unwrap();
        assert_eq!(mixed["Successful"].as_array().unwrap().len(), 1);
        let codes: Vec<_> = mixed["Failed"].as_array().unwrap().iter().map(|failed| failed["Code"].clone()).collect();
        assert_eq!(codes, ["InvalidMessageContents", "MissingParameter"]);
        assert_eq!(asked(&queue, "PurgeQueue", json!({})), Err("UnsupportedOperation"));
        let elsewhere = json!({ "QueueUrl": "other", "MessageBody": "x" });
        assert_eq!(asked(&queue, "SendMessage", elsewhere), Err("QueueDoesNotExist"));
    }

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
