//! Operations whose instructions are counted: the handler, the decoder of the event and the clients of the SDK, without
//! the engine, the gateway and the network. Each operation runs once over the engine, and the answers to its calls are
//! recorded. It then runs again over the recorded answers.
//!
//! Also inputs of the largest size and of half of it: twice the input must not cause much more than twice the work.
//!
//! `tests/instructions.py` counts under callgrind. It names an operation in `INSTRUCTIONS_OF` and the number of runs in
//! `INSTRUCTIONS_TIMES`. Without them, this tests that each operation repeats its calls.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use functions::Function;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;

use crate::inside::{Inside, body, call, socket_event, token};
use crate::jobs;
use crate::simulation::world::{Wire, World};
use crate::world::Deployment;

/// Messages to larger groups go through the queue, and a pull returns all that it finds.
const VARIABLES: [(&str, &str); 3] = [
    ("MAX_PAGE_MESSAGES", "1000"),
    ("FANOUT_MEMBERS", "100"),
    ("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue"),
];

/// The simulated time of a recorded answer. It equals that of the engine, so that concurrent calls keep their order.
const ANSWER_TIME: Duration = Duration::from_millis(4);

/// The number of messages that a pull finds.
const MISSED: usize = 100;

/// An operation.
struct Operation {
    name: &'static str,
    /// The number of SDK calls, and how many of them are posts to connections. Both would differ if the operation
    /// failed.
    calls: usize,
    posts: usize,
    prepare: fn(&Stage) -> BoxFuture<'_, Prepared>,
}

/// A function, its event, and a check that the result shows success.
struct Prepared {
    function: &'static Function,
    event: String,
    is_done: fn(&str) -> bool,
}

const OPERATIONS: [Operation; 7] = [
    Operation { name: "private", calls: 4, posts: 1, prepare: |stage| Box::pin(private(stage, None)) },
    Operation { name: "private-once", calls: 7, posts: 2, prepare: |stage| Box::pin(private(stage, Some("1"))) },
    Operation { name: "group-100", calls: 25, posts: 20, prepare: |stage| Box::pin(group(stage)) },
    Operation { name: "pull-100", calls: 4, posts: 0, prepare: |stage| Box::pin(pull(stage)) },
    Operation { name: "connect", calls: 2, posts: 0, prepare: |stage| Box::pin(connect(stage)) },
    Operation { name: "fanout-500", calls: 108, posts: 100, prepare: |stage| Box::pin(fanout(stage)) },
    Operation { name: "authorize", calls: 0, posts: 0, prepare: |stage| Box::pin(authorize(stage)) },
];

fn is_ok(result: &str) -> bool {
    serde_json::from_str::<Value>(result).expect("a result is JSON")["statusCode"] == 200
}

fn message(frame: &Value, connection: &str) -> Prepared {
    let kind = frame["type"].as_str().expect("a type");
    let event = socket_event(kind, "alice", connection, Some(&frame.to_string())).to_string();
    Prepared { function: &functions::message::FUNCTION, event, is_done: is_ok }
}

/// A private message to a user with one connection.
async fn private(stage: &Stage, request: Option<&str>) -> Prepared {
    stage.inside.tie("alice", "friendId", "bob").await;
    stage.inside.connect("bob").await;
    let mut frame = json!({ "type": "unicast", "receiverId": "bob", "content": "x".repeat(500) });
    if let Some(request) = request {
        frame["requestId"] = json!(request);
    }
    message(&frame, &stage.inside.connect("alice").await)
}

/// A message to a group of `members` users. A fifth of them are online with one connection each.
async fn to_group(stage: &Stage, members: usize) -> Prepared {
    let others: Vec<String> = (1..members).map(|number| format!("member-{number:05}")).collect();
    let group = stage.inside.written_group("alice", &others).await;
    for user in &others[..members / 5] {
        stage.inside.connect(user).await;
    }
    let frame = json!({ "type": "multicast", "groupId": group, "content": "x".repeat(500) });
    message(&frame, &stage.inside.connect("alice").await)
}

async fn group(stage: &Stage) -> Prepared {
    to_group(stage, 100).await
}

/// One job of a message to 500 receivers, 100 of whom are online.
async fn fanout(stage: &Stage) -> Prepared {
    let Prepared { function, event, .. } = to_group(stage, 501).await;
    stage.inside.invoke(function, &event).await.expect("a message is accepted");
    let jobs = stage.inside.world().take_jobs();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let event = jobs::event(&jobs);
    Prepared {
        function: &functions::fanout::FUNCTION,
        event,
        is_done: |result| result == r#"{"batchItemFailures":[]}"#,
    }
}

/// A pull of missed messages that are all old enough to be dropped by time. The first message is sent. The others are
/// copies of it in the log.
async fn pull(stage: &Stage) -> Prepared {
    stage.inside.tie("alice", "friendId", "bob").await;
    let sender = stage.inside.connect("bob").await;
    let frame = json!({ "type": "unicast", "receiverId": "alice", "content": "x".repeat(500) });
    stage.inside.send("bob", &sender, &frame).await;
    let items = stage.inside.world().partition("USER#alice");
    let mut item = items.into_iter().find(|item| item["content"].is_object()).expect("a message");
    for number in 1..MISSED {
        let id = format!("{}{number:016X}", &item["id"]["S"].as_str().expect("an id")[..10]);
        (item["sk"]["S"], item["id"]["S"]) = (json!(format!("LOG#{id}")), json!(id));
        stage.inside.world().put(&item);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let has_all = |result: &str| {
        let senders: Value = body(&serde_json::from_str(result).expect("a result is JSON"));
        senders[0]["messages"].as_array().is_some_and(|messages| messages.len() == MISSED)
    };
    let event = call("GET", "alice", "/api/message", None, "", None).event().to_string();
    Prepared { function: &functions::pull_messages::FUNCTION, event, is_done: has_all }
}

async fn connect(stage: &Stage) -> Prepared {
    let connection = stage.inside.world().open("alice");
    let event = socket_event("$connect", "alice", &connection, None).to_string();
    Prepared { function: &functions::connect::FUNCTION, event, is_done: is_ok }
}

async fn authorize(_: &Stage) -> Prepared {
    let genuine = include_str!("../events/websocket-authorize.json");
    let mut event: Value = serde_json::from_str(genuine).expect("a genuine event is JSON");
    event["headers"].as_object_mut().expect("headers").remove("Sec-WebSocket-Protocol");
    event["multiValueHeaders"].as_object_mut().expect("headers").remove("Sec-WebSocket-Protocol");
    event["queryStringParameters"] = json!({ "access_token": token("alice") });
    event["multiValueQueryStringParameters"] = json!({ "access_token": [token("alice")] });
    let is_done = |result: &str| result.contains(r#""Effect":"Allow""#);
    Prepared { function: &functions::authorize::FUNCTION, event: event.to_string(), is_done }
}

/// The place where an operation runs.
struct Stage {
    inside: Inside,
    recorder: Recorder,
}

impl Stage {
    fn new() -> Self {
        let world = World::new(1);
        let recorder = Recorder { wire: Wire(world.clone()), recording: Arc::default() };
        let inside = Inside::over(world, SharedHttpClient::new(recorder.clone()), &VARIABLES);
        Self { inside, recorder }
    }

    /// Runs an operation over the engine, and then `times` times over the recorded answers.
    async fn run(&self, operation: &Operation, times: usize) {
        let Operation { name, calls, posts, .. } = operation;
        let Prepared { function, event, is_done } = (operation.prepare)(self).await;
        self.recorder.restart(Mode::Record);
        let result = self.inside.invoke(function, &event).await.expect("it is done");
        assert!(is_done(&result), "{name}: {result}");
        assert_eq!(self.recorder.recorded(), (*calls, *posts), "{name}: its calls, and the posts among them");
        for _ in 0..times {
            self.recorder.restart(Mode::Replay);
            let again = self.inside.invoke(function, &event).await;
            assert_eq!(again.as_ref(), Ok(&result), "{name}");
            assert_eq!(self.recorder.played(), *calls, "{name}: its calls");
        }
    }
}

/// The wire with answers that are recorded and replayed.
#[derive(Debug, Clone)]
struct Recorder {
    wire: Wire,
    recording: Arc<Mutex<Recording>>,
}

#[derive(Debug, Default)]
struct Recording {
    mode: Mode,
    /// In the order in which the calls began.
    calls: Vec<Recorded>,
    /// How many of them have been replayed.
    played: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum Mode {
    #[default]
    Pass,
    Record,
    Replay,
}

#[derive(Debug)]
struct Recorded {
    operation: String,
    /// The body, when it has come. The status is 200.
    answer: Option<SdkBody>,
}

impl Recorder {
    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().expect("no holder of the lock panics")
    }

    /// Starts from the first call, in this mode.
    fn restart(&self, mode: Mode) {
        let mut recording = self.recording();
        (recording.mode, recording.played) = (mode, 0);
    }

    /// The number of recorded calls, and how many of them are posts.
    fn recorded(&self) -> (usize, usize) {
        let calls = &self.recording().calls;
        (calls.len(), calls.iter().filter(|call| call.operation == "POST").count())
    }

    fn played(&self) -> usize {
        self.recording().played
    }

    fn record(&self, request: HttpRequest) -> HttpConnectorFuture {
        let calls = &mut self.recording().calls;
        let (recorder, place) = (self.clone(), calls.len());
        calls.push(Recorded { operation: operation(&request).to_owned(), answer: None });
        let answer = self.wire.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            // Error paths are not measured.
            assert_eq!(answer.status().as_u16(), 200, "{answer:?}");
            recorder.recording().calls[place].answer = answer.body().try_clone();
            Ok(answer)
        })
    }

    fn replay(&self, request: &HttpRequest) -> HttpConnectorFuture {
        let mut recording = self.recording();
        let Recorded { operation: recorded, answer } =
            recording.calls.get(recording.played).expect("it makes no more calls than before");
        assert_eq!(operation(request), recorded, "call {}", recording.played);
        let answer = answer.as_ref().and_then(SdkBody::try_clone).expect("a body in memory");
        recording.played += 1;
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(ANSWER_TIME).await;
            Ok(HttpResponse::new(StatusCode::try_from(200).expect("a status"), answer))
        })
    }
}

/// The DynamoDB operation, or the method of a call to a connection.
fn operation(request: &HttpRequest) -> &str {
    let target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
    target.unwrap_or_else(|| request.method())
}

impl HttpConnector for Recorder {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let mode = self.recording().mode;
        match mode {
            Mode::Pass => self.wire.call(request),
            Mode::Record => self.record(request),
            Mode::Replay => self.replay(&request),
        }
    }
}

impl HttpClient for Recorder {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn operations_repeat_their_calls() {
    if Deployment::is_elsewhere() {
        return;
    }
    let named = std::env::var("INSTRUCTIONS_OF").ok();
    let times = std::env::var("INSTRUCTIONS_TIMES").map_or(2, |times| times.parse().expect("a number"));
    let is_named = |operation: &&Operation| named.as_ref().is_none_or(|name| name == operation.name);
    let chosen: Vec<&Operation> = OPERATIONS.iter().filter(is_named).collect();
    assert!(!chosen.is_empty(), "there is no operation {named:?}");
    for operation in chosen {
        Stage::new().run(operation, times).await;
    }
}

/// An input that is read to its end and then refused, by its size in bytes. The reading is counted.
struct Input {
    name: &'static str,
    /// The largest size. Half of it is read as well.
    bytes: usize,
    function: &'static Function,
    event: fn(&str, usize) -> String,
    is_refused: fn(&str) -> bool,
}

/// Fields of an object, with distinct names.
fn fields(bytes: usize) -> String {
    (0..bytes / 11).map(|number| format!("\"{number:06}\":0,")).collect()
}

fn frame(connection: &str, frame: &str) -> String {
    socket_event("$default", "alice", connection, Some(frame)).to_string()
}

fn is_400(result: &str) -> bool {
    serde_json::from_str::<Value>(result).expect("a result is JSON")["statusCode"] == 400
}

const INPUTS: [Input; 8] = [
    Input {
        name: "frame-fields",
        bytes: 32 * 1024,
        function: &functions::message::FUNCTION,
        event: |connection, bytes| frame(connection, &format!("{{{}\"type\":0}}", fields(bytes - 10))),
        is_refused: is_ok,
    },
    Input {
        name: "frame-too-long",
        bytes: 128 * 1024,
        function: &functions::message::FUNCTION,
        event: |connection, bytes| frame(connection, &format!("{{{}", "\"requestId\":\"r\",".repeat(bytes / 16))),
        is_refused: is_ok,
    },
    Input {
        name: "content",
        bytes: 32 * 1024,
        function: &functions::message::FUNCTION,
        event: |connection, bytes| {
            let items = "[[[1,\"\\ud83d\\ude00\"]]],".repeat(bytes / 24 - 5);
            let frame = r#"{"type":"unicast","receiverId":"bob","content":[CONTENT"\ud800"]}"#;
            self::frame(connection, &frame.replace("CONTENT", &items))
        },
        is_refused: is_ok,
    },
    Input {
        name: "body",
        bytes: 16 * 1024,
        function: &functions::invite::FUNCTION,
        event: |_, bytes| {
            let mut invite = call("POST", "alice", "/api/request", None, "", None);
            invite.body = Some(format!("{{{}\"userId\":0}}", fields(bytes - 20)));
            invite.event().to_string()
        },
        is_refused: is_400,
    },
    Input {
        name: "query",
        bytes: 8 * 1024,
        function: &functions::list_groups::FUNCTION,
        event: |_, bytes| {
            let parameters: String = (0..bytes / 8).map(|number| format!("&{number:04}=%20")).collect();
            let query = format!("{parameters}&detailed=maybe");
            call("GET", "alice", "/api/group", None, &query, None).event().to_string()
        },
        is_refused: is_400,
    },
    Input {
        name: "name",
        bytes: 8 * 1024,
        function: &functions::create_group::FUNCTION,
        event: |_, bytes| {
            let query = format!("&name={}", "%E2%80%8B".repeat(bytes / 9));
            call("POST", "alice", "/api/group", None, &query, None).event().to_string()
        },
        is_refused: is_400,
    },
    Input {
        name: "notification",
        bytes: 512 * 1024,
        function: &functions::notification::FUNCTION,
        event: |_, bytes| format!("{{{}\"to\":0}}", fields(bytes)),
        is_refused: |result| result.contains("fields"),
    },
    Input {
        name: "relationship",
        bytes: 16 * 1024,
        function: &functions::relationship::FUNCTION,
        event: |_, bytes| format!("{{{}\"userId\":0}}", fields(bytes - 20)),
        is_refused: |result| result.contains("fields"),
    },
];

/// Reads an input `INSTRUCTIONS_TIMES` times. `INSTRUCTIONS_INPUT` is for example `frame-fields/2`: half of the largest
/// size.
#[tokio::test(start_paused = true)]
async fn inputs_are_read_completely() {
    if Deployment::is_elsewhere() {
        return;
    }
    let named = std::env::var("INSTRUCTIONS_INPUT").ok();
    let times = std::env::var("INSTRUCTIONS_TIMES").map_or(1, |times| times.parse().expect("a number"));
    let (stage, mut found) = (Stage::new(), false);
    let connection = stage.inside.connect("alice").await;
    for input in INPUTS {
        for parts in [1, 2] {
            if named.as_ref().is_some_and(|named| *named != format!("{}/{parts}", input.name)) {
                continue;
            }
            found = true;
            let event = (input.event)(&connection, input.bytes / parts);
            for _ in 0..times {
                let result = stage.inside.invoke(input.function, &event).await;
                let result = result.unwrap_or_else(|failure| failure.error_message);
                assert!((input.is_refused)(&result), "{}/{parts}: {result}", input.name);
            }
        }
    }
    assert!(found, "there is no input {named:?}");
    let frames = stage.inside.frames(&connection);
    assert!(frames.iter().all(|frame| frame["code"] == "bad_request"), "{frames:?}");
}
