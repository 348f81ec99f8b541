//! What the functions need for a message to a large group, as a deployment runs them: each a process of its own, which
//! reaches the local stack by its ports.

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

/// How many messages go through the process of `message`, and how many jobs through that of `fanout`.
const MESSAGES: usize = 3;
const JOBS: usize = 20;

/// What a function needed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Weighed {
    pub(crate) function: &'static str,
    pub(crate) events: usize,
    /// The most memory that it had resident after its first event, and after the last.
    pub(crate) first_mib: f64,
    pub(crate) most_mib: f64,
    /// Processor time of an event.
    pub(crate) first_processor_ms: f64,
    pub(crate) median_processor_ms: f64,
    /// From an event to its answer.
    pub(crate) first_ms: f64,
    pub(crate) median_ms: f64,
}

/// Send messages by a process of `message`, and deliver some of the last one's jobs again by one of `fanout`.
pub(crate) async fn weigh(server: &Server, audience: &mut Audience) -> Result<[Weighed; 2], Failure> {
    let recorder = Recorder::start(&server.internal).await?;
    let variables = variables(server, &recorder);
    let message = weigh_message(&variables, &recorder, audience).await?;
    let fanout = weigh_fanout(&variables, &recorder.take(), audience).await?;
    Ok([message, fanout])
}

type Variables = [(&'static str, String)];

/// The local stack delivers the jobs. Those of the last message stay with the recorder.
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

/// Everybody online has what these jobs bring.
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
        false => Err("what fanout has pushed has reached nobody".into()),
    }
}

/// A function, and what its events have taken.
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

    /// Give it an event: the answer.
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

/// In ms.
fn first_and_median(times: impl Iterator<Item = Duration>) -> (f64, f64) {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
    let first = times.first().copied().unwrap_or_default();
    times.sort_by(f64::total_cmp);
    (first, times.get(times.len() / 2).copied().unwrap_or_default())
}

/// The environment of a function, as the local stack configures its own.
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

/// The event of a frame of the manager. It names a connection of his that has ended since, so nobody is acknowledged.
fn socket_event(frame: &Value) -> Value {
    let mut event = genuine(include_str!("../events/websocket-unicast.json"));
    let context = &mut event["requestContext"];
    context["routeKey"] = frame["type"].clone();
    context["requestTimeEpoch"] = json!(SystemClock.now_ms());
    context["authorizer"] = json!({ "principalId": user(MANAGER), "userId": user(MANAGER), "exp": "4000000000" });
    event["body"] = json!(frame.to_string());
    event
}

/// The event of a job. Its digest is not that of the body, which nobody asks for.
fn queue_event(job: &str) -> Value {
    let mut event = genuine(include_str!("../events/sqs-fanout.json"));
    event["Records"][0]["body"] = json!(job);
    event
}

fn genuine(event: &str) -> Value {
    serde_json::from_str(event).expect("a genuine event is JSON")
}
