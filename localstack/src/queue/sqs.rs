//! The API of SQS at the internal address, in its JSON protocol. It has the operations that send and count, and refuses
//! all others with `UnsupportedOperation`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::digest;
use super::store::Queue;

/// The service in `X-Amz-Target`.
pub(crate) const SERVICE: &str = "AmazonSQS";

/// The most entries of one call.
const MAX_ENTRIES: usize = 10;

/// The most bytes of one message, and of all messages of one call.
const MAX_BYTES: usize = 1024 * 1024;

/// The longest initial delay of a job.
const MAX_DELAY_SECONDS: u64 = 15 * 60;

/// Answers a call.
pub(crate) fn call(queues: &[Arc<Queue>], operation: &str, body: &Bytes) -> Response {
    let outcome = match serde_json::from_slice::<Value>(body) {
        Ok(request) => perform(queues, operation, &request),
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
        _ => Err(Refusal(
            "UnsupportedOperation",
            "the local stack supports SendMessage, SendMessageBatch and GetQueueAttributes only",
        )),
    }
}

/// Returns the name of the queue in an address like `http://127.0.0.1:3001/000000000000/FanoutQueue`.
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
        0 => return Err(Refusal("EmptyBatchRequest", "there must be at least one entry")),
        n if n > MAX_ENTRIES => return Err(Refusal("TooManyEntriesInBatchRequest", "at most 10 entries are allowed")),
        n if n > ids.len() => {
            return Err(Refusal("BatchEntryIdsNotDistinct", "each entry must have an Id of its own"));
        }
        _ if bytes > MAX_BYTES => return Err(Refusal("BatchRequestTooLong", "at most 1 MiB is allowed in total")),
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

/// Returns the body and the delay of a message, or why SQS refuses it.
fn checked(entry: &Value) -> Result<(&str, Duration), Refusal> {
    let body = entry["MessageBody"].as_str().filter(|body| !body.is_empty());
    let body = body.ok_or(Refusal("MissingParameter", "MessageBody must be a string that is not empty"))?;
    let is_allowed = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    if !body.chars().all(is_allowed) {
        return Err(Refusal("InvalidMessageContents", "the message must have only characters that XML allows"));
    }
    if body.len() > MAX_BYTES {
        return Err(Refusal("InvalidParameterValue", "the message must have at most 1 MiB"));
    }
    match entry.get("DelaySeconds").map_or(Some(0), Value::as_u64) {
        Some(seconds) if seconds <= MAX_DELAY_SECONDS => Ok((body, Duration::from_secs(seconds))),
        _ => Err(Refusal("InvalidParameterValue", "DelaySeconds must be 0 to 900")),
    }
}

/// Counts the jobs of a queue: those that wait, and those that are hidden or running. Counts dead letters too.
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
    use super::super::ACCOUNT;
    use super::super::tests::{given_out, queue};
    use super::*;

    fn asked(queue: &Arc<Queue>, operation: &str, mut request: Value) -> Result<Value, &'static str> {
        let name = request["QueueUrl"].as_str().unwrap_or("Q").to_owned();
        request["QueueUrl"] = json!(format!("http://127.0.0.1:3001/{ACCOUNT}/{name}"));
        perform(std::slice::from_ref(queue), operation, &request).map_err(|Refusal(name, _)| name)
    }

    #[test]
    fn jobs_are_handed_out_in_batches_and_after_their_delay() {
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
    fn invalid_calls_get_the_errors_of_sqs() {
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
}
