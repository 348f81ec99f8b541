//! Measures what the functions need for a message to a large group, as in a deployment: each is a process of its own,
//! and calls the local stack's ports.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};

use crate::audience::Audience;
use crate::process::mib;
use crate::recorder::Recorder;
use crate::roster::{MANAGER, MOST_MEMBERS, TABLE};
use crate::runtime::{Invocation, Running};
use crate::server::{Server, beside, user};
use crate::{Failure, progress};

/// How many messages the process of `message` handles, and how many jobs the process of `fanout`.
const MESSAGES: usize = 3;
const JOBS: usize = 20;

/// What a function needed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Weighed {
    pub(crate) function: &'static str,
    pub(crate) events: usize,
    /// The highest resident memory after the first event, and after the last.
    pub(crate) first_mib: f64,
    pub(crate) most_mib: f64,
    /// The processor time of an event.
    pub(crate) first_processor_ms: f64,
    pub(crate) median_processor_ms: f64,
    /// The time from an event to its answer.
    pub(crate) first_ms: f64,
    pub(crate) median_ms: f64,
}

/// Sends messages by a process of `message`, and repeats some jobs of the last message by a process of `fanout`.
pub(crate) async fn weigh(server: &Server, audience: &mut Audience) -> Result<[Weighed; 2], Failure> {
    let recorder = Recorder::start(&server.internal).await?;
    let variables = variables(server, &recorder);
    let message = weigh_message(&variables, &recorder, audience).await?;
    let fanout = weigh_fanout(&variables, &recorder.take(), audience).await?;
    Ok([message, fanout])
}

type Variables = [(&'static str, String)];

/// The local stack delivers the jobs. The recorder keeps those of the last message.
async fn weigh_message(
    variables: &Variables,
    recorder: &Recorder,
    audience: &mut Audience,
) -> Result<Weighed, Failure> {
    let mut message = Scale::start("message", variables).await?;
    for number in 1..=MESSAGES {
        progress(&format!("message {number} of {MESSAGES} by a process of message"));
        drop(recorder.take());
        let frame = audience.next_frame();
        let sent = Instant::now();
        message.weigh(socket_event(&frame)).await?;
        audience.follow(sent, false).await?;
    }
    message.result()
}

/// All online members already have the message of these jobs.
async fn weigh_fanout(variables: &Variables, jobs: &[String], audience: &mut Audience) -> Result<Weighed, Failure> {
    let before = audience.repeats().await?;
    let mut fanout = Scale::start("fanout", variables).await?;
    let count = JOBS.min(jobs.len());
    for number in 0..count {
        progress(&format!("job {} of {count} by a process of fanout", number + 1));
        let answer = fanout.weigh(queue_event(&jobs[number * jobs.len() / count])).await?;
        if answer != json!({ "batchItemFailures": [] }) {
            return Err(format!("fanout could not do a job: {answer}").into());
        }
    }
    progress("");
    match audience.repeats().await? > before {
        true => fanout.result(),
        false => Err("no push of fanout has reached a receiver".into()),
    }
}

/// A function, and the measurements of its events.
struct Scale {
    function: &'static str,
    running: Running,
    first_bytes: u64,
    invocations: Vec<Invocation>,
}

impl Scale {
    async fn start(function: &'static str, variables: &Variables) -> Result<Self, Failure> {
        let running = Running::start(&beside(function)?, variables).await?;
        Ok(Self { function, running, first_bytes: 0, invocations: Vec::new() })
    }

    /// Gives the function an event, and returns its answer.
    async fn weigh(&mut self, event: Value) -> Result<Value, Failure> {
        let failed = |error| format!("{}: {error}", self.function);
        let invocation = self.running.invoke(event.to_string()).await.map_err(failed)?;
        let answer = serde_json::from_str(&invocation.answer)?;
        if self.invocations.is_empty() {
            self.first_bytes = self.running.peak_bytes()?;
        }
        self.invocations.push(invocation);
        Ok(answer)
    }

    fn result(self) -> Result<Weighed, Failure> {
        let (first_ms, median_ms) = first_and_median(self.invocations.iter().map(|one| one.time));
        let (first_processor_ms, median_processor_ms) =
            first_and_median(self.invocations.iter().map(|one| one.processor_time));
        Ok(Weighed {
            function: self.function,
            events: self.invocations.len(),
            first_mib: mib(self.first_bytes),
            most_mib: mib(self.running.peak_bytes()?),
            first_processor_ms,
            median_processor_ms,
            first_ms,
            median_ms,
        })
    }
}

/// Returns the first time and the median, in ms.
fn first_and_median(times: impl Iterator<Item = Duration>) -> (f64, f64) {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    let first = times.first().copied().unwrap_or_default();
    times.sort_by(f64::total_cmp);
    (first, times.get(times.len() / 2).copied().unwrap_or_default())
}

/// The environment of a function, as the local stack configures it.
fn variables(server: &Server, recorder: &Recorder) -> [(&'static str, String); 9] {
    [
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", server.dynamodb.clone()),
        ("AWS_ENDPOINT_URL_SQS", recorder.url.clone()),
        ("TABLE_NAME", TABLE.to_owned()),
        ("MANAGEMENT_ENDPOINT", server.internal.clone()),
        ("FANOUT_QUEUE_URL", format!("{}/000000000000/FanoutQueue", server.internal)),
        ("MAX_GROUP_MEMBERS", MOST_MEMBERS.to_string()),
    ]
}

/// The event of a frame from the manager. Its connection has already ended, so there is no acknowledgement.
fn socket_event(frame: &Value) -> Value {
    let mut event = genuine(include_str!("../events/websocket-unicast.json"));
    let context = &mut event["requestContext"];
    context["routeKey"] = frame["type"].clone();
    context["requestTimeEpoch"] = json!(SystemClock.now_ms());
    context["authorizer"] = json!({ "principalId": user(MANAGER), "userId": user(MANAGER), "exp": "4000000000" });
    event["body"] = json!(frame.to_string());
    event
}

/// The event of a job. Its digest does not match the body, and no function checks it.
fn queue_event(job: &str) -> Value {
    let mut event = genuine(include_str!("../events/sqs-fanout.json"));
    event["Records"][0]["body"] = json!(job);
    event
}

fn genuine(event: &str) -> Value {
    serde_json::from_str(event).expect("a genuine event is JSON")
}
