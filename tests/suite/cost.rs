//! The cost of each operation: capacity of the database as it counts it, SDK calls, and pushes. The tables are in
//! `docs/benchmarks.md`, and these tests compare them. `UPDATE_COSTS=1` writes them instead.

mod plot;
mod queued;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;
use shared::id::MessageId;

use crate::inside::{Inside, body, call, socket_event};
use crate::simulation::world::{TABLE, Wire, World};
use crate::world::Deployment;

/// The document with the tables. Each table is between two marks with its name.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");

/// Held while the document is read or written.
static DOCUMENT_IN_USE: Mutex<()> = Mutex::new(());

/// Dollars per million: list prices of us-east-1, November 2026.
const WRITE_USD: f64 = 0.625;
const READ_USD: f64 = 0.125;
const INVOCATION_USD: f64 = 0.20;
const GATEWAY_USD: f64 = 1.00;
const QUEUE_USD: f64 = 0.40;
const EVENT_USD: f64 = 1.00;

/// The sizes of groups that are made by invitations.
const MEMBERS: [usize; 4] = [2, 10, 100, 1_000];

/// The largest size that may be configured. Its members are written directly to the table.
const VAST: usize = 10_000;

/// The number of connections of each online member.
const DEVICES: [usize; 2] = [1, 3];

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Cost {
    /// Write units and read units.
    writes: f64,
    reads: f64,
    /// Calls of the SDK.
    calls: u32,
    /// The longest chain of calls in which each began after the one before it was over.
    in_sequence: u32,
    /// Calls for a connection: posts, or looks if a message is withheld.
    pushes: u32,
    /// Events on the bus: one counts as one for each 64 KiB that it has.
    events: u32,
    /// SQS requests: a call counts as one for each 64 KiB that it carries.
    queue: u32,
}

/// A wire that asks the database what each call costs.
#[derive(Debug, Clone)]
struct Meter {
    wire: Wire,
    cost: Arc<Mutex<Cost>>,
    /// Read units by partition, for partitions of groups.
    partitions: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl Meter {
    fn change<T>(&self, change: impl FnOnce(&mut Cost) -> T) -> T {
        change(&mut self.cost.lock().expect("nobody panics that holds it"))
    }

    /// The cost since this was last called.
    fn take(&self) -> Cost {
        self.change(std::mem::take)
    }

    fn note(&self, operation: Option<&str>, depth: u32, asked: &Value, answer: &HttpResponse) {
        let Some(operation) = operation else {
            return self.change(|cost| {
                cost.calls += 1;
                cost.pushes += 1;
                cost.in_sequence = cost.in_sequence.max(depth);
            });
        };
        if operation == "SendMessageBatch" {
            return self.change(|cost| {
                cost.calls += 1;
                cost.queue += queue_requests(asked.to_string().len());
                cost.in_sequence = cost.in_sequence.max(depth);
            });
        }
        if operation == "PutEvents" {
            let events = asked["Entries"]
                .as_array()
                .expect("entries")
                .iter()
                .map(|event| queue_requests(event.to_string().len()));
            return self.change(|cost| {
                cost.calls += 1;
                cost.events += events.sum::<u32>();
                cost.in_sequence = cost.in_sequence.max(depth);
            });
        }
        let body: Value = serde_json::from_slice(answer.body().bytes().expect("a body in memory")).expect("JSON");
        let units =
            |consumed: &Value| consumed["CapacityUnits"].as_f64().unwrap_or_else(|| panic!("{operation}: {body}"));
        let spent = match &body["ConsumedCapacity"] {
            // A failed condition costs as much as the write of that item, which is small here.
            _ if answer.status().as_u16() == 400 && body["__type"].as_str().is_some_and(is_failed_condition) => 1.0,
            Value::Array(tables) => tables.iter().map(units).sum(),
            consumed => units(consumed),
        };
        self.note_partitions(asked, spent);
        self.change(|cost| {
            cost.calls += 1;
            cost.in_sequence = cost.in_sequence.max(depth);
            match operation {
                "GetItem" | "BatchGetItem" | "Query" => cost.reads += spent,
                _ => cost.writes += spent,
            }
        });
    }

    /// Records the partitions of a read, if it is a query or a batch whose items have at most 4 KB each.
    fn note_partitions(&self, asked: &Value, spent: f64) {
        let queried = asked["ExpressionAttributeValues"][":pk"]["S"].as_str().map(|pk| (pk, spent));
        let keys = asked["RequestItems"][TABLE]["Keys"].as_array().into_iter().flatten();
        let looked_up = keys.filter_map(|key| Some((key["pk"]["S"].as_str()?, 1.0)));
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        for (pk, units) in queried.into_iter().chain(looked_up).filter(|(pk, _)| pk.starts_with("GROUP#")) {
            *partitions.entry(pk.to_owned()).or_default() += units;
        }
    }
}

/// The number of requests that SQS counts for a call with this many bytes.
fn queue_requests(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(64 * 1024).max(1)).expect("calls have a limit")
}

impl HttpConnector for Meter {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let operation = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
        let operation = operation.map(str::to_owned);
        let mut asked = Value::Null;
        if operation.is_some() {
            asked = serde_json::from_slice(request.body().bytes().expect("a body")).expect("JSON");
            asked["ReturnConsumedCapacity"] = json!("TOTAL");
            *request.body_mut() = SdkBody::from(asked.to_string());
        }
        let depth = self.change(|cost| cost.in_sequence + 1);
        let (meter, answer) = (self.clone(), self.wire.call(request));
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            meter.note(operation.as_deref(), depth, &asked, &answer);
            Ok(answer)
        })
    }
}

impl HttpClient for Meter {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn is_failed_condition(name: &str) -> bool {
    name.ends_with("#ConditionalCheckFailedException")
}

/// A line of the table.
struct Row {
    operation: String,
    cost: Cost,
    /// The functions that run, and the requests and frames that the gateway receives.
    invocations: u32,
    requests: u32,
}

impl Row {
    /// Dollars for a million operations: the database, the gateway and invocations, without the run time of functions.
    fn price(&self) -> f64 {
        WRITE_USD * self.cost.writes
            + READ_USD * self.cost.reads
            + INVOCATION_USD * f64::from(self.invocations)
            + GATEWAY_USD * f64::from(self.requests + self.cost.pushes)
            + QUEUE_USD * f64::from(self.cost.queue)
            + EVENT_USD * f64::from(self.cost.events)
    }

    /// The part of a message's price that no design can save: the frame is received, a function runs, the message is
    /// written once, and each open connection gets a push.
    fn floor(&self) -> f64 {
        WRITE_USD + INVOCATION_USD + GATEWAY_USD * f64::from(self.requests + self.cost.pushes)
    }

    /// Asserts the highest cost.
    fn within(self, writes: f64, reads: f64, in_sequence: u32) -> Self {
        let Cost { writes: w, reads: r, in_sequence: s, .. } = self.cost;
        let about =
            format!("{}: {w} writes of {writes}, {r} reads of {reads}, {s} calls of {in_sequence}", self.operation);
        assert!(w <= writes && r <= reads && s <= in_sequence, "{about}");
        self
    }
}

struct Bench {
    inside: Inside,
    meter: Meter,
}

impl Bench {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With these environment variables for the functions.
    fn with(variables: &[(&str, &str)]) -> Self {
        let world = World::new(1);
        let meter = Meter { wire: Wire(world.clone()), cost: Arc::default(), partitions: Arc::default() };
        let inside = Inside::over(world, SharedHttpClient::new(meter.clone()), variables);
        Self { inside, meter }
    }

    async fn connect(&self, user: &str, devices: usize) -> Vec<String> {
        let mut connections = Vec::new();
        for _ in 0..devices {
            connections.push(self.inside.connect(user).await);
        }
        connections
    }

    /// The cost of sending a frame.
    async fn send(&self, operation: &str, user: &str, connection: &str, frame: &Value) -> Row {
        let kind = frame["type"].as_str().expect("a type");
        let event = socket_event(kind, user, connection, Some(&frame.to_string())).to_string();
        self.meter.take();
        self.inside.invoke(&functions::message::FUNCTION, &event).await.expect("a message is taken");
        Row { operation: operation.to_owned(), cost: self.meter.take(), invocations: 1, requests: 1 }
    }

    /// The cost of a call of the REST API, and its answer.
    async fn rest<T: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        function: &functions::Function,
        rest: &crate::inside::Rest,
    ) -> (Row, Option<T>) {
        let (row, answer) = self.answer(operation, function, rest).await;
        (row, (answer["body"] != "").then(|| body(&answer)))
    }

    /// What a call of the REST API costs, and its answer with headers.
    async fn answer(
        &self,
        operation: &str,
        function: &functions::Function,
        rest: &crate::inside::Rest,
    ) -> (Row, Value) {
        self.meter.take();
        let answer = self.inside.rest(function, rest).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        let cost = self.meter.take();
        (Row { operation: operation.to_owned(), cost, invocations: 1, requests: 1 }, answer)
    }

    /// Creates a group. Returns its id, and the cost of creating it and of the last invitation and acceptance.
    async fn group(&self, manager: &str, others: &[String]) -> (String, Vec<Row>) {
        let create = call("POST", manager, "/api/group", None, "&name=walkers", None);
        let (row, group) = self.rest::<String>("create a group", &functions::create_group::FUNCTION, &create).await;
        let (group, mut rows) = (group.expect("an id"), vec![row]);
        for user in others {
            let wanted = json!({ "groupId": group, "userId": user });
            let invite = call("POST", manager, "/api/request", None, "", Some(wanted));
            let (invited, _) = self.rest::<Value>("invite", &functions::invite::FUNCTION, &invite).await;
            let list = call("GET", user, "/api/request", None, "", None);
            let (_, list) = self.rest::<Value>("list", &functions::list_invites::FUNCTION, &list).await;
            let invitation = list.expect("a list")[0]["id"].as_str().expect("an id").to_owned();
            let accept = call("PUT", user, "/api/request", Some(("requestId", &invitation)), "", None);
            let (accepted, _) = self.rest::<Value>("accept", &functions::accept_invite::FUNCTION, &accept).await;
            rows.truncate(1);
            rows.extend([invited, accepted]);
        }
        (group, rows)
    }

    /// The cost of messages to a group while a fifth of its members are online, with one connection each and with
    /// three.
    async fn messages_to(&self, group: &str, others: &[String]) -> Vec<GroupRow> {
        let members = others.len() + 1;
        let online = &others[..members.div_ceil(5).min(others.len())];
        let sender = self.inside.connect("manager").await;
        let frame = json!({ "type": "multicast", "groupId": group, "content": "x".repeat(500) });
        let (mut rows, mut open) = (Vec::new(), 0);
        for devices in DEVICES {
            for user in online {
                self.connect(user, devices - open).await;
            }
            open = devices;
            let name = format!("message to a group of {members}, 20 % online with {devices}");
            let row = self.send(&name, "manager", &sender, &frame).await;
            rows.push(GroupRow { members, devices, row: within_limits(row, members, online.len() * devices) });
        }
        rows
    }
}

/// A message to a group. Each online member has `devices` connections.
struct GroupRow {
    members: usize,
    devices: usize,
    row: Row,
}

/// Asserts the highest cost of a message to a group with this many open connections.
fn within_limits(row: Row, members: usize, open: usize) -> Row {
    assert_eq!(row.cost.pushes as usize, open, "{}: one push for each open connection", row.operation);
    assert!((row.cost.writes - 1.0).abs() < 1e-9, "{}: {} writes instead of one", row.operation, row.cost.writes);
    let waves = members / 800 + open / 64;
    let reads = members as f64 + members as f64 / 40.0 + 4.0;
    row.within(1.0, reads, 5 + u32::try_from(waves).expect("a small number"))
}

async fn connections(rows: &mut Vec<Row>) {
    let bench = Bench::new();
    let connection = bench.inside.connect("alice").await;
    let row = Row { operation: "connect".to_owned(), cost: bench.meter.take(), invocations: 2, requests: 0 };
    rows.push(row.within(2.0, 0.0, 2));
    let event = socket_event("$disconnect", "alice", &connection, None).to_string();
    bench.inside.invoke(&functions::disconnect::FUNCTION, &event).await.expect("a connection ends");
    let row = Row { operation: "disconnect".to_owned(), cost: bench.meter.take(), invocations: 1, requests: 0 };
    rows.push(row.within(1.0, 0.0, 1));
}

async fn private_messages(rows: &mut Vec<Row>) {
    let bench = Bench::new();
    bench.inside.tie("alice", "friendId", "bob").await;
    let sender = bench.inside.connect("alice").await;
    let frame = json!({ "type": "unicast", "receiverId": "bob", "content": "x".repeat(500) });
    let mut named = frame.clone();
    named["requestId"] = json!("1");
    rows.push(bench.send("private message, receiver away", "alice", &sender, &frame).await.within(2.0, 4.0, 4));
    for (devices, more) in [(1, 1), (3, 2)] {
        bench.connect("bob", more).await;
        let name = format!("private message, {devices} connection{}", if devices == 1 { "" } else { "s" });
        rows.push(bench.send(&name, "alice", &sender, &frame).await.within(2.0, 4.0, 4));
    }
    let name = "private message with `requestId`, 3 connections";
    rows.push(bench.send(name, "alice", &sender, &named).await.within(4.0, 4.0, 5));
    named["content"] = frame["content"].clone();
    rows.push(bench.send("the same frame again", "alice", &sender, &named).await.within(1.0, 4.0, 4));
    bench.inside.tie("bob", "blockedId", "alice").await;
    let blocked = bench.send("private message, withheld, 3 connections", "alice", &sender, &frame).await;
    rows.push(blocked.within(2.0, 4.0, 4));
    let notification = json!({ "to": "bob", "notificationType": "n", "content": 1 }).to_string();
    bench.meter.take();
    bench.inside.invoke(&functions::notification::FUNCTION, &notification).await.expect("it is notified");
    let row = Row {
        operation: "notification to one, 3 connections".to_owned(),
        cost: bench.meter.take(),
        invocations: 1,
        requests: 0,
    };
    rows.push(row.within(0.0, 2.0, 2));
}

fn others(members: usize) -> Vec<String> {
    (1..members).map(|number| format!("member-{number:05}")).collect()
}

/// The cost of creating and joining a group, and of messages to groups of every size.
async fn group_messages(rows: &mut Vec<Row>) -> Vec<GroupRow> {
    let mut messages = Vec::new();
    for members in MEMBERS {
        let (bench, others) = (Bench::new(), others(members));
        let (group, made) = bench.group("manager", &others).await;
        if members == 2 {
            rows.extend(made);
        }
        messages.extend(bench.messages_to(&group, &others).await);
    }
    let (bench, others) = (Bench::new(), others(VAST));
    let group = bench.inside.written_group("manager", &others).await;
    messages.extend(bench.messages_to(&group, &others).await);
    messages
}

/// The cost of declining, of leaving, and of dissolving a group of ten.
async fn departures(rows: &mut Vec<Row>) {
    let (bench, others) = (Bench::new(), others(11));
    let (group, _) = bench.group("manager", &others).await;
    let wanted = json!({ "groupId": group, "userId": "stranger" });
    let invite = call("POST", "manager", "/api/request", None, "", Some(wanted));
    bench.rest::<Value>("invite", &functions::invite::FUNCTION, &invite).await;
    let list = call("GET", "stranger", "/api/request", None, "", None);
    let (_, list) = bench.rest::<Value>("list", &functions::list_invites::FUNCTION, &list).await;
    let invitation = list.expect("a list")[0]["id"].as_str().expect("an id").to_owned();
    let decline = call("DELETE", "stranger", "/api/request", Some(("requestId", &invitation)), "", None);
    let (row, _) = bench.rest::<Value>("decline", &functions::decline_invite::FUNCTION, &decline).await;
    rows.push(row.within(1.0, 2.0, 3));
    // The members are told, so the state of each is read.
    for (user, name, writes) in [("member-00001", "leave", 8.0), ("manager", "dissolve a group of 10", 21.0)] {
        let leave = call("DELETE", user, "/api/group", Some(("groupId", &group)), "", None);
        let (row, _) = bench.rest::<Value>(name, &functions::leave_group::FUNCTION, &leave).await;
        rows.push(row.within(writes, 17.0, 7));
    }
}

/// A conversation of alice with many others, of 50 messages of 200 bytes each with bob and in a group.
async fn conversation() -> (Bench, String) {
    let bench = Bench::new();
    bench.inside.tie("alice", "friendId", "bob").await;
    let (group, _) = bench.group("alice", &["bob".to_owned()]).await;
    let sender = bench.inside.connect("bob").await;
    for to in [("unicast", "receiverId", "alice"), ("multicast", "groupId", group.as_str())] {
        let frame = json!({ "type": to.0, to.1: to.2, "content": "x".repeat(200) });
        for _ in 0..50 {
            bench.send("", "bob", &sender, &frame).await;
        }
    }
    (bench, group)
}

async fn conversations(rows: &mut Vec<Row>) {
    let (bench, group) = conversation().await;
    for (name, query) in [("private", "&userId=bob".to_owned()), ("group", format!("&groupId={group}"))] {
        let history = call("GET", "alice", "/api/history", None, &query, None);
        let name = format!("{name} history, 50 messages of 200 bytes");
        let (row, page) = bench.rest::<Vec<Value>>(&name, &functions::get_history::FUNCTION, &history).await;
        assert_eq!(page.expect("a page").len(), 50);
        rows.push(row.within(0.0, 6.0, 2));
    }
    let device = bench.inside.connect_as("alice", "2").await;
    let of_bob = bench.inside.connect_as("bob", "2").await;
    let frame = json!({ "type": "unicast", "receiverId": "bob", "content": "x".repeat(500) });
    let post = call("POST", "alice", "/api/message", None, "", Some(frame));
    let name = "private message by REST, one connection each";
    let (row, sent) = bench.rest::<Value>(name, &functions::send_message::FUNCTION, &post).await;
    rows.push(row.within(2.0, 4.0, 5));
    let id = sent.expect("an id")["id"].as_str().expect("an id").to_owned();
    let query = format!("&userId=alice&until={id}");
    let read = call("PUT", "bob", "/api/read", None, &query, None);
    let name = "read mark, one connection each";
    rows.push(bench.rest::<Value>(name, &functions::mark_read::FUNCTION, &read).await.0.within(1.0, 5.0, 3));
    let recall = call("DELETE", "alice", "/api/message", Some(("id", &id)), "&receiverId=bob", None);
    let name = "recall of a private message, one connection each";
    rows.push(bench.rest::<Value>(name, &functions::recall_message::FUNCTION, &recall).await.0.within(4.0, 6.0, 4));
    let frame = json!({ "type": "typing", "receiverId": "bob" });
    let mut event = socket_event("typing", "alice", &device, Some(&frame.to_string()));
    event["requestContext"]["authorizer"]["version"] = json!("2");
    bench.meter.take();
    bench.inside.invoke(&functions::typing::FUNCTION, &event.to_string()).await.expect("a frame is taken");
    let row =
        Row { operation: "typing, one connection".to_owned(), cost: bench.meter.take(), invocations: 1, requests: 1 };
    rows.push(row.within(0.0, 5.0, 2));
    assert!(bench.inside.frames(&of_bob).iter().any(|frame| frame["type"] == "TYPING"));
    rows.push(list_of_conversations().await.within(0.0, 110.0, 11));
}

/// The cost of a list of 100 conversations in which everything is read.
async fn list_of_conversations() -> Row {
    let bench = Bench::new();
    for number in 0..100 {
        let friend = format!("friend-{number:03}");
        bench.inside.tie("alice", "friendId", &friend).await;
        let sender = bench.inside.connect(&friend).await;
        let frame = json!({ "type": "unicast", "receiverId": "alice", "content": "x".repeat(200) });
        bench.send("", &friend, &sender, &frame).await;
        bench.inside.tie("alice", "friendId", &friend).await;
    }
    let list = call("GET", "alice", "/api/conversation", None, "", None);
    let (_, all) = bench.rest::<Vec<Value>>("", &functions::list_conversations::FUNCTION, &list).await;
    for one in all.expect("a list") {
        let (id, friend) = (one["last"]["id"].as_str().expect("an id"), one["userId"].as_str().expect("a user"));
        let read = call("PUT", "alice", "/api/read", None, &format!("&userId={friend}&until={id}"), None);
        bench.rest::<Value>("", &functions::mark_read::FUNCTION, &read).await;
        let read = call("PUT", friend, "/api/read", None, &format!("&userId=alice&until={id}"), None);
        bench.rest::<Value>("", &functions::mark_read::FUNCTION, &read).await;
    }
    let name = "list of 100 conversations, nothing unread";
    let (row, all) = bench.rest::<Vec<Value>>(name, &functions::list_conversations::FUNCTION, &list).await;
    let all = all.expect("a list");
    assert!(all.len() == 100 && all.iter().all(|one| one["unread"] == 0 && one["peerReadUntil"].is_string()));
    row
}

/// The cost of what the back end asks for, of the limit of rate, and of events.
async fn back_end(rows: &mut Vec<Row>) {
    let queue = ("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue");
    let bench = Bench::with(&[queue, ("MAX_GROUP_MEMBERS", "1001")]);
    let invoke = async |operation: &str, function: &functions::Function, payload: Value| {
        bench.meter.take();
        let answer = bench.inside.invoke(function, &payload.to_string()).await.expect("the call succeeds");
        let row = Row { operation: operation.to_owned(), cost: bench.meter.take(), invocations: 1, requests: 0 };
        (row, serde_json::from_str::<Value>(&answer).expect("JSON"))
    };
    bench.connect("bob", 1).await;
    let message = json!({ "from": "shop", "type": "unicast", "receiverId": "bob", "content": "x".repeat(500) });
    let name = "private message of the back end, 1 connection";
    let (row, sent) = invoke(name, &functions::send_as::FUNCTION, message).await;
    rows.push(row.within(2.0, 4.0, 4));
    let recall = json!({ "id": sent["id"], "receiverId": "bob", "from": "shop" });
    let (row, _) = invoke("recall by the back end", &functions::moderate_message::FUNCTION, recall).await;
    rows.push(row.within(4.0, 6.0, 4));
    let changes: Vec<Value> =
        (0..1_000).map(|n| json!({ "userId": "shop", "friend": format!("friend-{n:04}") })).collect();
    let import = json!({ "method": "POST", "changes": changes });
    let (row, _) = invoke("import of 1,000 friendships", &functions::relationship::FUNCTION, import).await;
    // A transaction costs two units for each item.
    rows.push(row.within(4_000.0, 0.0, 70));
    let users: Vec<String> = (1..1_000).map(|n| format!("member-{n:04}")).collect();
    let make = json!({ "method": "POST", "name": "all", "managerId": "bob", "usersId": users });
    let (row, group) = invoke("group of 1,000, made at once", &functions::manage_group::FUNCTION, make).await;
    // Two units for each member, and eight for the draft that META replaces.
    rows.push(row.within(2_008.0, 1_600.0, 60));
    let put_in = json!({ "method": "PUT", "groupId": group, "userId": "alice" });
    let (row, _) = invoke("a member is put in", &functions::manage_group::FUNCTION, put_in).await;
    rows.push(row.within(14.0, 8.0, 7));
    let kick = json!({ "method": "DISCONNECT", "userId": "bob" });
    rows.push(invoke("kick, 1 connection", &functions::manage_user::FUNCTION, kick).await.0.within(1.0, 1.0, 4));
    bench.connect("bob", 1).await;
    let ban = json!({ "method": "BAN", "userId": "bob", "until": "2100-01-01T00:00:00Z" });
    rows.push(invoke("ban, 1 connection", &functions::manage_user::FUNCTION, ban).await.0.within(3.0, 2.0, 8));
    let erase = json!({ "userId": "bob" });
    let (row, _) = invoke("begin of an erasure", &functions::erase_user::FUNCTION, erase).await;
    rows.push(row.within(3.0, 2.0, 6));
    let export = json!({ "userId": "shop" });
    let (row, _) = invoke("first page of an export", &functions::export_user::FUNCTION, export).await;
    rows.push(row.within(0.0, 80.0, 32));
    for (name, variable, limits) in [
        ("private message, counted for the limit, receiver away", ("MESSAGES_PER_MINUTE", "100"), (3.0, 4.0, 3)),
        ("private message, receiver away, with a bus", ("EVENT_BUS_NAME", "bus"), (2.0, 4.0, 4)),
    ] {
        let bench = Bench::with(&[variable]);
        bench.inside.tie("alice", "friendId", "bob").await;
        let sender = bench.inside.connect("alice").await;
        let frame = json!({ "type": "unicast", "receiverId": "bob", "content": "x".repeat(500) });
        rows.push(bench.send(name, "alice", &sender, &frame).await.within(limits.0, limits.1, limits.2));
    }
}

/// The number of messages of a long conversation, unless `CONVERSATION_MESSAGES` says otherwise.
const LONG: u64 = 5_000;

#[tokio::test(start_paused = true)]
async fn a_page_costs_the_same_at_both_ends_of_a_long_conversation() {
    if Deployment::is_elsewhere() {
        return;
    }
    let count = std::env::var("CONVERSATION_MESSAGES").map_or(LONG, |count| count.parse().expect("a number"));
    let bench = Bench::new();
    let (group, _) = bench.group("alice", &["bob".to_owned()]).await;
    let from = bench.inside.world().now_ms() + 1_000;
    for (pk, conversation) in [("USER#alice".to_owned(), Some("alice#bob")), (format!("GROUP#{group}"), None)] {
        for n in 0..count {
            let id = MessageId::first_at(from + n).to_string();
            let mut item = json!({
                "pk": { "S": pk }, "sk": { "S": format!("LOG#{id}") }, "id": { "S": id }, "sender": { "S": "bob" },
                "content": { "S": format!("\"{}\"", "x".repeat(200)) }, "timestamp": { "N": from.to_string() },
            });
            if let Some(conversation) = conversation {
                item["conversation"] = json!({ "S": conversation });
            }
            bench.inside.world().put(&item);
        }
    }
    // A history ends where its call begins.
    tokio::time::advance(std::time::Duration::from_millis(count + 2_000)).await;
    let second = MessageId::first_at(from + 51).to_string();
    for with in ["&userId=bob".to_owned(), format!("&groupId={group}")] {
        let mut costs = Vec::new();
        for more in [String::new(), format!("&before={second}"), "&after=00000000000000000000000000".to_owned()] {
            let history = call("GET", "alice", "/api/history", None, &format!("{with}{more}"), None);
            let began = std::time::Instant::now();
            let (row, page) = bench.rest::<Vec<Value>>("", &functions::get_history::FUNCTION, &history).await;
            println!("{with}{more}: {:?} in {:?}", row.cost, began.elapsed());
            assert_eq!(page.expect("a page").len(), 50);
            costs.push(row.cost);
        }
        assert_eq!(costs[0], costs[1], "the end and the beginning");
        assert_eq!(costs[0], costs[2], "backwards and forwards");
    }
}

/// All messages are younger than half a minute, so each is dropped by its id.
#[tokio::test(start_paused = true)]
async fn pages_of_young_messages_cost_as_much_as_there_is() {
    if Deployment::is_elsewhere() {
        return;
    }
    let cost = async |messages: u64| {
        let bench = Bench::with(&[("MAX_PAGE_MESSAGES", "250")]);
        let now = bench.inside.world().now_ms();
        (1..=messages).for_each(|age| drop(bench.inside.log("alice", "bob", now - age, 0)));
        let (pull, mut reads, mut pulled) = (call("GET", "bob", "/api/message", None, "", None), 0.0, 0);
        loop {
            let (row, answer) = bench.answer("", &functions::pull_messages::FUNCTION, &pull).await;
            reads += row.cost.reads;
            let senders: Vec<Value> = body(&answer);
            pulled += senders.iter().map(|sender| sender["messages"].as_array().map_or(0, Vec::len)).sum::<usize>();
            if answer["headers"]["x-has-more"] != "true" {
                break;
            }
        }
        assert_eq!(pulled as u64, messages, "each message is pulled once");
        reads
    };
    let (some, more) = (cost(500).await, cost(2_000).await);
    assert!(more < 6.0 * some, "{some} read units for 500 messages, {more} for 2,000");
}

/// The cost of dropping in a second step what a pull has shown.
async fn drops(rows: &mut Vec<Row>) {
    let bench = Bench::new();
    bench.inside.tie("alice", "friendId", "bob").await;
    let sender = bench.inside.connect("bob").await;
    let frame = json!({ "type": "unicast", "receiverId": "alice", "content": "x".repeat(500) });
    for _ in 0..3 {
        bench.send("", "bob", &sender, &frame).await;
    }
    let pull = call("GET", "alice", "/api/message", None, "&drop=false", None);
    let name = "pull with `drop=false`, 3 missed, groups: 0";
    let (row, shown) = bench.answer(name, &functions::pull_messages::FUNCTION, &pull).await;
    rows.push(row.within(1.0, 6.0, 4));
    let token = shown["headers"]["x-page"].as_str().expect("a token");
    let drop = call("DELETE", "alice", "/api/message", None, &format!("&page={token}"), None);
    let name = "drop what it has shown";
    let (row, _) = bench.rest::<Value>(name, &functions::drop_messages::FUNCTION, &drop).await;
    // Besides the messages: the state, and its list of dropped ids. That list is an item of its own, as in a pull.
    rows.push(row.within(2.0, 3.0, 3));
}

async fn pulls(rows: &mut Vec<Row>) {
    for groups in [0, 1, 10] {
        let bench = Bench::new();
        bench.inside.tie("alice", "friendId", "bob").await;
        let sender = bench.inside.connect("bob").await;
        let mut joined = Vec::new();
        for _ in 0..groups {
            joined.push(bench.group("bob", &["alice".to_owned()]).await.0);
        }
        let pull = call("GET", "alice", "/api/message", None, "", None);
        for messages in [0, 3] {
            for number in 0..messages {
                let frame = match joined.is_empty() {
                    true => json!({ "type": "unicast", "receiverId": "alice", "content": "x".repeat(500) }),
                    false => json!({
                        "type": "multicast", "groupId": joined[number % joined.len()], "content": "x".repeat(500),
                    }),
                };
                bench.send("", "bob", &sender, &frame).await;
            }
            let name = format!("pull, {messages} missed, groups: {groups}");
            let (row, _) = bench.rest::<Value>(&name, &functions::pull_messages::FUNCTION, &pull).await;
            // Besides the messages: the state, memberships and blocks together, the log of private messages, and the log
            // of each group.
            // Young messages are dropped by an item of their own, before the state names it.
            let (writes, calls) = if messages == 0 { (0.0, 2) } else { (2.0, 4) };
            rows.push(row.within(writes, f64::from(groups) + messages as f64 / 4.0 + 3.0, calls));
        }
    }
}

/// The line that fits the points best: its slope and its intercept.
fn fitted(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    let slope = above / below;
    (slope, y - slope * x)
}

/// The lines fitted to the cost of group messages by members, and the largest distance of a point.
fn fits(messages: &[GroupRow]) -> String {
    let mut text = "| message to a group of n | for each member | and | the farthest point is off by |\n".to_owned();
    text.push_str("| --- | --- | --- | --- |\n");
    let mut line = |name: String, devices: usize, value: &dyn Fn(&GroupRow) -> f64| {
        let of_devices = messages.iter().filter(|message| message.devices == devices);
        let points: Vec<_> = of_devices.map(|message| (message.members as f64, value(message))).collect();
        let (slope, intercept) = fitted(&points);
        let off = points.iter().map(|(x, y)| (slope * x + intercept - y).abs()).fold(0.0, f64::max);
        writeln!(text, "| {name} | {slope:.4} | {intercept:.2} | {off:.2} |").expect("a text takes all");
    };
    line("RRU".to_owned(), 1, &|message| message.row.cost.reads);
    for devices in DEVICES {
        line(format!("pushes, 20 % online with {devices}"), devices, &|message| f64::from(message.row.cost.pushes));
    }
    for devices in DEVICES {
        line(format!("USD per million, 20 % online with {devices}"), devices, &|message| message.row.price());
    }
    text
}

/// How far each group message is from the floor.
fn floors(messages: &[GroupRow]) -> String {
    let mut text =
        "| members | connections of each who is online | USD per million | floor | times the floor |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- |\n");
    for message in messages {
        let (members, devices) = (message.members, message.devices);
        let (price, floor) = (message.row.price(), message.row.floor());
        writeln!(text, "| {members} | {devices} | {price:.3} | {floor:.3} | {:.2} |", price / floor)
            .expect("a text takes all");
    }
    text
}

fn table<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut text =
        "| operation | WRU | RRU | calls | in sequence | pushes | invocations | USD per million |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for row in rows {
        let Cost { writes, reads, calls, in_sequence, pushes, .. } = row.cost;
        let (name, invocations, price) = (&row.operation, row.invocations, row.price());
        writeln!(
            text,
            "| {name} | {writes} | {reads} | {calls} | {in_sequence} | {pushes} | {invocations} | {price:.2} |"
        )
        .expect("a text takes all");
    }
    text
}

#[tokio::test(start_paused = true)]
async fn the_table_of_costs_is_up_to_date() {
    if Deployment::is_elsewhere() {
        return;
    }
    let mut rows = Vec::new();
    connections(&mut rows).await;
    private_messages(&mut rows).await;
    let messages = group_messages(&mut rows).await;
    departures(&mut rows).await;
    let mut reading = Vec::new();
    pulls(&mut reading).await;
    drops(&mut reading).await;
    conversations(&mut reading).await;
    back_end(&mut reading).await;
    let all = rows.iter().chain(messages.iter().map(|message| &message.row)).chain(&reading);
    compare("costs", &format!("{}\n{}\n{}", table(all), fits(&messages), floors(&messages)));
    compare_plot(&messages);
}

/// Compares the plot of the document with these costs, or writes it.
fn compare_plot(messages: &[GroupRow]) {
    const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/images/cost-by-group-size.svg");
    let points = |devices: usize, cost: fn(&Row) -> f64| {
        let of_devices = messages.iter().filter(move |message| message.devices == devices);
        of_devices.map(|message| (message.members as f64, cost(&message.row))).collect()
    };
    let line = |name: &str, points| plot::Line { name: name.to_owned(), points };
    let svg = plot::svg(&[
        line("3 connections each", points(3, Row::price)),
        line("1 connection each", points(1, Row::price)),
        line("1 connection each, the floor", points(1, Row::floor)),
    ]);
    if std::env::var_os("UPDATE_COSTS").is_some() {
        std::fs::write(PLOT, svg).expect("the plot is written");
    } else {
        let written = std::fs::read_to_string(PLOT).expect("the plot");
        assert_eq!(written, svg, "UPDATE_COSTS=1 cargo test -p tests cost:: writes it anew");
    }
}

/// Compares the table of that name in the document with this one, or writes it.
fn compare(name: &str, table: &str) {
    let _in_use = DOCUMENT_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let document = std::fs::read_to_string(Path::new(DOCUMENT)).expect("the document");
    let (before, rest) = document.split_once(&begin).expect("the mark before the table");
    let (written, after) = rest.split_once(&end).expect("the mark after the table");
    if std::env::var_os("UPDATE_COSTS").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{begin}{table}{end}{after}")).expect("the document is written");
    } else {
        assert_eq!(written, table, "UPDATE_COSTS=1 cargo test -p tests cost:: writes it anew");
    }
}

#[tokio::test(start_paused = true)]
async fn a_directly_written_group_costs_as_much_as_a_real_one() {
    if Deployment::is_elsewhere() {
        return;
    }
    let (real, written, others) = (Bench::new(), Bench::new(), others(100));
    let (group, _) = real.group("manager", &others).await;
    let of_real = real.messages_to(&group, &others).await;
    let group = written.inside.written_group("manager", &others).await;
    let of_written = written.messages_to(&group, &others).await;
    for (real, written) in of_real.iter().zip(&of_written) {
        assert_eq!(real.row.cost, written.row.cost, "{}", real.row.operation);
    }
}
