//! The surroundings of the functions in a simulation: the real engine without a socket, a gateway of connections, and a
//! queue. Between them and the SDK is a wire that delays calls, fails them and loses answers. Time is tokio's, paused:
//! it advances when no task can run. So a run of minutes takes milliseconds, and the seed determines the order of all
//! events.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use dynoxide::Database;
use dynoxide::errors::DynoxideError;
use futures::future::BoxFuture;
use localstack::{Policies, running};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::clock::{Clock, Ms};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::history::Taken;
pub(crate) use crate::world::engine::TABLE;
use crate::world::engine::creation;

pub(crate) const DYNAMODB: &str = "http://dynamodb.simulated";
pub(crate) const SQS: &str = "http://sqs.simulated";
pub(crate) const EVENTS: &str = "http://events.simulated";
pub(crate) const GATEWAY: &str = "http://gateway.simulated/ws";
/// The age at which the gateway closes a connection.
const MAX_CONNECTION_MS: Ms = 2 * 60 * 60 * 1000;
/// How long an eventually consistent read of the table may miss a write.
const STALE_MS: Ms = 1_000;
/// How long a read of the index may miss a write.
pub(super) const INDEX_LAG_MS: Ms = 3_000;
/// The kinds of items that eventually consistent reads read.
const READ_LATE: [&str; 5] = ["STATE", "LOG", "HID", "READ", "META"];
/// The time at which each simulation begins.
const BEGINNING: Ms = 1_800_000_000_000;

/// The state of a connection at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `$connect` has not answered yet: a push is refused with 410.
    Opening,
    /// A push reaches the client.
    Open,
    /// The client is gone unnoticed: a push succeeds and reaches nobody.
    Dead,
    /// A push is refused with 410.
    Closed,
}

#[derive(Debug)]
struct Connection {
    user: String,
    phase: Phase,
    opened: Ms,
    /// The client does not read, and its buffers are full.
    stalls: bool,
    frames: Vec<Pushed>,
}

/// A frame that was pushed to a connection.
#[derive(Debug, Clone)]
struct Pushed {
    frame: Value,
    /// Whether the client was there and had not closed.
    read: bool,
    /// Whether the answer was so slow that the function may have counted the push as failed.
    slow: bool,
    /// When the function began that pushed it.
    began: Ms,
}

/// The places where functions called the SDK: by function, operation and kind of item. The values are the number of
/// calls while calls failed, and the number of kills.
pub(crate) type Places = BTreeMap<(&'static str, String), (u64, u64)>;

/// The chance of one step of a plan, and of the function that it invokes.
struct Chance {
    rng: StdRng,
    /// The name of that function, if any.
    function: &'static str,
    /// When that function began.
    began: Ms,
    /// The number of calls before the function is killed, if it is.
    calls_left: Option<u64>,
    /// The number of bytes that its queries have returned.
    read_bytes: usize,
    killed: Arc<Notify>,
}

tokio::task_local! {
    static CHANCE: RefCell<Chance>;
}

/// The delays and the fault of one call.
struct Transit {
    before: Duration,
    after: Duration,
    fault: Option<u64>,
    /// The most items that a query returns, though there are more.
    page: Option<u64>,
    /// Whether an eventually consistent read misses the last writes.
    stale: bool,
    /// How long the index may miss a write, if it does.
    behind: Ms,
    /// When the calling function began.
    began: Ms,
}

/// A slower post may be counted as failed.
const SLOW: Duration = Duration::from_millis(20);

/// How long a post takes to a connection whose client does not read.
const STALL: Duration = Duration::from_secs(3);

impl Transit {
    fn is_slow(&self) -> bool {
        self.before + self.after >= SLOW
    }
}

/// The surroundings.
pub(crate) struct World {
    database: Database,
    latency: Ms,
    connections: Mutex<BTreeMap<String, Connection>>,
    /// The events on the bus: the detail type and the detail of each.
    events: Mutex<Vec<(String, Value)>>,
    /// Whether the bus refuses all events.
    refuses_events: Mutex<bool>,
    /// The bodies of the jobs in the queue.
    jobs: Mutex<Vec<String>>,
    /// Notified when a job enters the queue.
    queued: Notify,
    /// Whether the queue refuses every second job.
    refuses_jobs: Mutex<bool>,
    /// What the writes of the last seconds have replaced, with the time of each write, by key.
    replaced: Mutex<BTreeMap<(String, String), Replaced>>,
    /// How many of a hundred calls fail.
    faults: Mutex<u64>,
    calls: Mutex<u64>,
    /// A hash of every call and its time, in order.
    fingerprint: Mutex<DefaultHasher>,
    places: Mutex<Places>,
    traced: Mutex<Vec<Traced>>,
    is_tracing: Mutex<bool>,
    began: Instant,
}

/// The versions of an item that writes have replaced, oldest first, each with the time of the write. A version is `None` if
/// the item did not exist.
type Replaced = Vec<(Ms, Option<Value>)>;

/// A call of the SDK.
#[derive(Debug, Clone)]
pub(crate) struct Traced {
    /// The DynamoDB operation, or the method of a call to a connection.
    pub(crate) operation: String,
    /// The request to DynamoDB.
    pub(crate) request: Value,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}

impl World {
    pub(crate) fn new(latency: Ms) -> Arc<Self> {
        let database = Database::memory().expect("an engine in memory");
        let request = serde_json::from_value(creation()).expect("a request of the engine");
        database.create_table(request).expect("a new table");
        Arc::new(Self {
            database,
            latency,
            connections: Mutex::default(),
            events: Mutex::default(),
            refuses_events: Mutex::default(),
            jobs: Mutex::default(),
            queued: Notify::new(),
            refuses_jobs: Mutex::default(),
            replaced: Mutex::default(),
            faults: Mutex::default(),
            calls: Mutex::default(),
            fingerprint: Mutex::default(),
            places: Mutex::default(),
            traced: Mutex::default(),
            is_tracing: Mutex::default(),
            began: Instant::now(),
        })
    }

    /// Runs something whose chances depend on `chance` alone.
    pub(crate) async fn with_chance<T>(chance: u64, doing: impl Future<Output = T>) -> T {
        let rng = StdRng::seed_from_u64(chance);
        CHANCE
            .scope(
                RefCell::new(Chance {
                    rng,
                    function: "",
                    began: 0,
                    calls_left: None,
                    read_bytes: 0,
                    killed: Arc::default(),
                }),
                doing,
            )
            .await
    }

    /// A number below `bound`. Outside [`World::with_chance`], it is always the largest.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        CHANCE.try_with(|chance| chance.borrow_mut().rng.next_u64() % bound).unwrap_or(bound - 1)
    }

    /// Kills the function that this step invokes at its call number `calls_left`, or lets it live. The result is
    /// notified when the function is killed.
    pub(crate) fn doom(&self, function: &'static str, calls_left: Option<u64>) -> Arc<Notify> {
        CHANCE.with(|chance| {
            let mut chance = chance.borrow_mut();
            (chance.function, chance.calls_left, chance.killed) = (function, calls_left, Arc::default());
            (chance.began, chance.read_bytes) = (self.now_ms(), 0);
            chance.killed.clone()
        })
    }

    /// The number of bytes that the queries of the last function have returned.
    pub(crate) fn read_bytes(&self) -> usize {
        CHANCE.with(|chance| chance.borrow().read_bytes)
    }

    fn count_read(&self, response: &HttpResponse) {
        let bytes = response.body().bytes().map_or(0, <[u8]>::len);
        // Outside a plan, nothing is counted.
        let _ = CHANCE.try_with(|chance| chance.borrow_mut().read_bytes += bytes);
    }

    /// Whether the function is killed at this call.
    fn is_killed_at(&self, request: &HttpRequest, body: &Value) -> bool {
        let counted = CHANCE.try_with(|chance| {
            let mut chance = chance.borrow_mut();
            let left = chance.calls_left;
            chance.calls_left = left.map(|left| left.saturating_sub(1));
            let killed = left == Some(0);
            if killed {
                chance.killed.notify_one();
            }
            if self.is_faulty() {
                let mut places = lock(&self.places);
                let (calls, kills) = places.entry((chance.function, place(request, body))).or_default();
                (*calls, *kills) = (*calls + 1, *kills + u64::from(killed));
            }
            killed
        });
        counted.unwrap_or(false)
    }

    /// Returns the places where functions called the SDK, and clears them.
    pub(crate) fn places(&self) -> Places {
        std::mem::take(&mut lock(&self.places))
    }

    pub(crate) fn in_a_hundred(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// The true time.
    pub(crate) fn now_ms(&self) -> Ms {
        BEGINNING + u64::try_from(self.began.elapsed().as_millis()).expect("a short run")
    }

    /// Pauses for less than `bound` milliseconds.
    pub(crate) async fn pause(&self, bound: u64) {
        let pause = self.below(bound);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// From now on, this many of a hundred calls fail.
    pub(crate) fn set_faults(&self, in_a_hundred: u64) {
        *lock(&self.faults) = in_a_hundred;
    }

    pub(crate) fn is_faulty(&self) -> bool {
        *lock(&self.faults) > 0
    }

    fn goes_wrong(&self) -> bool {
        let chance = *lock(&self.faults);
        self.in_a_hundred(chance)
    }

    /// The number of SDK calls.
    pub(crate) fn calls(&self) -> u64 {
        *lock(&self.calls)
    }

    /// A hash of the sequence of calls.
    pub(crate) fn fingerprint(&self) -> u64 {
        lock(&self.fingerprint).finish()
    }

    /// The calls that begin while `doing` runs, in order.
    pub(crate) async fn trace(&self, doing: impl Future<Output = ()>) -> Vec<Traced> {
        *lock(&self.is_tracing) = true;
        doing.await;
        *lock(&self.is_tracing) = false;
        std::mem::take(&mut lock(&self.traced))
    }

    /// Changes an item directly, without the wire.
    pub(crate) fn update(&self, update: &Value) {
        self.database.update_item(decoded(update.to_string().as_bytes())).expect("an update");
    }

    /// Puts an item directly, without the wire.
    pub(crate) fn put(&self, item: &Value) {
        let put = json!({ "TableName": TABLE, "Item": item }).to_string();
        self.database.put_item(decoded(put.as_bytes())).expect("a put");
    }

    /// All items of the table.
    pub(crate) fn all_items(&self) -> Vec<Value> {
        let scan = json!({ "TableName": TABLE, "ConsistentRead": true }).to_string();
        let answer = encoded(self.database.scan(decoded(scan.as_bytes())).expect("a scan"));
        assert!(answer["LastEvaluatedKey"].is_null(), "the table fits into one page");
        answer["Items"].as_array().expect("items").clone()
    }

    /// All items of a partition.
    pub(crate) fn partition(&self, pk: &str) -> Vec<Value> {
        let values = json!({ ":pk": { "S": pk } });
        let query = json!({
            "TableName": TABLE, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": values,
        });
        let query = query.to_string();
        let found = self.database.query(decoded(query.as_bytes())).map(encoded).expect("a query");
        found["Items"].as_array().expect("items").clone()
    }

    // ---------------------------------------------------------------------------------------------------- connections
    /// Opens a connection, before `$connect` is invoked.
    pub(crate) fn open(&self, user: &str) -> String {
        let mut connections = lock(&self.connections);
        let id = format!("c{}", connections.len());
        let opened = self.now_ms();
        let (user, phase) = (user.to_owned(), Phase::Opening);
        let connection = Connection { user, phase, opened, stalls: false, frames: Vec::new() };
        connections.insert(id.clone(), connection);
        id
    }

    pub(crate) fn set_phase(&self, id: &str, phase: Phase) {
        lock(&self.connections).get_mut(id).expect("a connection").phase = phase;
    }

    /// From now on, the client of the connection does not read.
    pub(crate) fn stall(&self, id: &str) {
        lock(&self.connections).get_mut(id).expect("a connection").stalls = true;
    }

    pub(crate) fn is_stalled(&self, id: &str) -> bool {
        lock(&self.connections)[id].stalls
    }

    pub(crate) fn opened_at(&self, id: &str) -> Ms {
        lock(&self.connections)[id].opened
    }

    fn stalls(&self, request: &HttpRequest) -> bool {
        let is_post = operation(request).is_none() && request.method() == "POST";
        let stalls = |id: &str| lock(&self.connections).get(id).is_some_and(|c| c.stalls && c.phase == Phase::Open);
        is_post && stalls(connection_id(request))
    }

    pub(crate) fn phase(&self, id: &str) -> Phase {
        self.phase_of(&lock(&self.connections)[id])
    }

    fn phase_of(&self, connection: &Connection) -> Phase {
        if self.now_ms() - connection.opened > MAX_CONNECTION_MS { Phase::Closed } else { connection.phase }
    }

    /// The frames that the client of a connection read.
    pub(crate) fn frames(&self, id: &str) -> Vec<Value> {
        let frames = &lock(&self.connections)[id].frames;
        frames.iter().filter(|pushed| pushed.read).map(|pushed| pushed.frame.clone()).collect()
    }

    /// The frames that the connections of a user received.
    pub(crate) fn taken_by(&self, user: &str) -> Vec<Taken> {
        let connections = lock(&self.connections);
        let of_user = connections.iter().filter(|(_, connection)| connection.user == user);
        let taken = of_user.flat_map(|(id, connection)| {
            let taken = |pushed: &Pushed| {
                let Pushed { frame, read, slow, began } = pushed.clone();
                Taken { frame, connection: id.clone(), read, slow, began }
            };
            connection.frames.iter().map(taken).collect::<Vec<_>>()
        });
        taken.collect()
    }

    pub(crate) fn close_all(&self) {
        lock(&self.connections).values_mut().for_each(|connection| connection.phase = Phase::Closed);
    }

    fn post(&self, id: &str, frame: &[u8], transit: &Transit) -> HttpResponse {
        let mut connections = lock(&self.connections);
        let Some(connection) = connections.get_mut(id) else { return refusal(410, "GoneException") };
        let phase = self.phase_of(connection);
        if !matches!(phase, Phase::Open | Phase::Dead) {
            return refusal(410, "GoneException");
        }
        // A frame may hold a number that no JSON value here holds.
        let frame = serde_json::from_slice(frame).unwrap_or_else(|_| json!(String::from_utf8_lossy(frame)));
        let (read, slow, began) = (phase == Phase::Open, transit.is_slow(), transit.began);
        connection.frames.push(Pushed { frame, read, slow, began });
        answer(200, "")
    }

    /// The gateway's information about a connection. The client does not notice the call.
    fn look(&self, id: &str) -> HttpResponse {
        match lock(&self.connections).get(id).map(|connection| self.phase_of(connection)) {
            Some(Phase::Open | Phase::Dead) => {
                let time = "2027-01-15T08:00:00.000Z";
                let identity = json!({ "sourceIp": "192.0.2.1", "userAgent": "simulated" });
                let body = json!({ "connectedAt": time, "lastActiveAt": time, "identity": identity });
                answer(200, &body.to_string())
            }
            _ => refusal(410, "GoneException"),
        }
    }

    fn delete(&self, id: &str) -> HttpResponse {
        match lock(&self.connections).get_mut(id) {
            Some(connection) if self.phase_of(connection) != Phase::Closed => {
                connection.phase = Phase::Closed;
                answer(204, "")
            }
            _ => refusal(410, "GoneException"),
        }
    }

    // ------------------------------------------------------------------------------------------------------ the queue
    /// Removes all jobs from the queue and returns them.
    pub(crate) fn take_jobs(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.jobs))
    }

    /// Whether the queue has jobs.
    pub(crate) fn has_jobs(&self) -> bool {
        !lock(&self.jobs).is_empty()
    }

    /// Waits until a job enters the queue. Returns at once if one came since the last wait.
    pub(crate) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// From now on, the queue refuses every second job, or none.
    pub(crate) fn refuse_jobs(&self, refuses: bool) {
        *lock(&self.refuses_jobs) = refuses;
    }

    fn send_jobs(&self, body: &[u8]) -> HttpResponse {
        let request: Value = decoded(body);
        let (mut taken, mut failed) = (Vec::new(), Vec::new());
        for (index, entry) in request["Entries"].as_array().expect("entries").iter().enumerate() {
            let (id, body) = (&entry["Id"], entry["MessageBody"].as_str().expect("a body"));
            if *lock(&self.refuses_jobs) && index % 2 == 0 {
                failed.push(json!({ "Id": id, "Code": "InternalError", "SenderFault": false }));
            } else {
                lock(&self.jobs).push(body.to_owned());
                self.queued.notify_one();
                taken.push(json!({ "Id": id, "MessageId": "simulated", "MD5OfMessageBody": "simulated" }));
            }
        }
        answer(200, &json!({ "Successful": taken, "Failed": failed }).to_string())
    }

    // -------------------------------------------------------------------------------------------------------- the bus
    /// Removes all events from the bus and returns them.
    pub(crate) fn take_events(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut lock(&self.events))
    }

    /// From now on, the bus refuses all events, or none.
    pub(crate) fn refuse_events(&self, refuses: bool) {
        *lock(&self.refuses_events) = refuses;
    }

    fn put_events(&self, body: &[u8]) -> HttpResponse {
        let request: Value = decoded(body);
        if *lock(&self.refuses_events) {
            return refusal(400, "ResourceNotFoundException");
        }
        let entries = request["Entries"].as_array().expect("entries");
        let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
        let event = |entry: &Value| (text(entry, "DetailType"), decoded(text(entry, "Detail").as_bytes()));
        lock(&self.events).extend(entries.iter().map(event));
        let ids: Vec<Value> = entries.iter().map(|_| json!({ "EventId": "simulated" })).collect();
        answer(200, &json!({ "FailedEntryCount": 0, "Entries": ids }).to_string())
    }

    // ------------------------------------------------------------------------------------------------------- the wire
    /// Serves one SDK call, with its delays and faults. A call that was sent takes effect even if its sender is dead by
    /// then.
    async fn serve(self: Arc<Self>, request: HttpRequest) -> HttpResponse {
        *lock(&self.calls) += 1;
        let body = serde_json::from_slice(bytes(&request)).unwrap_or_default();
        self.note(&request, &body);
        let transit = self.transit();
        let killed = self.is_killed_at(&request, &body);
        if killed && self.in_a_hundred(50) {
            return std::future::pending().await;
        }
        if self.stalls(&request) {
            tokio::time::sleep(STALL).await;
            return refusal(429, "LimitExceededException");
        }
        let (world, is_query) = (self.clone(), operation(&request) == Some("Query"));
        let performed = tokio::spawn(async move {
            tokio::time::sleep(transit.before).await;
            let response = world.perform_or_fail(&request, &transit);
            (response, transit.after)
        });
        if killed {
            return std::future::pending().await;
        }
        let (response, after) = performed.await.expect("the engine does not panic");
        if is_query {
            self.count_read(&response);
        }
        tokio::time::sleep(after).await;
        response
    }

    fn transit(&self) -> Transit {
        let span = |bound: u64| Duration::from_millis(self.below(bound));
        // Mostly short, sometimes long, so that calls overtake each other.
        let leg = || match self.below(20) {
            0..14 => span(self.latency.div_ceil(20)),
            14..19 => span(self.latency),
            _ => span(3 * self.latency),
        };
        let (mut before, mut after) = (leg(), leg());
        let fault = self.goes_wrong().then(|| self.below(7));
        match fault {
            // The answer is lost: it comes after the SDK's time-out.
            Some(2) => after = Duration::from_secs(20),
            Some(4) => before = span(2_500),
            Some(5) => after = span(2_500),
            _ => {}
        }
        let page = self.in_a_hundred(25).then(|| 1 + self.below(3));
        let (stale, behind) = (self.in_a_hundred(50), 1 + self.below(INDEX_LAG_MS));
        let began = CHANCE.try_with(|chance| chance.borrow().began).unwrap_or_default();
        Transit { before, after, fault, page, stale, behind, began }
    }

    fn perform_or_fail(&self, request: &HttpRequest, transit: &Transit) -> HttpResponse {
        match transit.fault {
            Some(0) => refusal(400, "ThrottlingException"),
            Some(1) => refusal(500, "InternalServerError"),
            Some(3) => {
                self.perform(request, transit);
                refusal(500, "InternalServerError")
            }
            Some(6) => self.refuse_in_part(request, transit),
            _ => self.perform(request, transit),
        }
    }

    fn note(&self, request: &HttpRequest, body: &Value) {
        // Hashed as a JSON value, because the SDK writes the fields of an object in any order, and adds a random token.
        let mut known = body.clone();
        known.as_object_mut().map(|fields| fields.remove("ClientRequestToken"));
        (self.now_ms(), operation(request), request.uri(), known.to_string()).hash(&mut *lock(&self.fingerprint));
        if *lock(&self.is_tracing) {
            let name = operation(request).unwrap_or_else(|| request.method());
            lock(&self.traced).push(Traced { operation: name.to_owned(), request: body.clone() });
        }
    }

    /// Refuses as a busy DynamoDB does: a transaction conflicts or is throttled, a single write conflicts with a
    /// transaction, and a batch is done in part.
    fn refuse_in_part(&self, request: &HttpRequest, transit: &Transit) -> HttpResponse {
        let operation = operation(request);
        let mut body: Value = serde_json::from_slice(bytes(request)).unwrap_or_default();
        if let Some(items) = body["TransactItems"].as_array() {
            let mut reasons = vec![json!({ "Code": "None" }); items.len()];
            reasons[0] = match transit.stale {
                true => json!({ "Code": "ThrottlingError", "Message": "Throughput exceeds the current capacity" }),
                false => json!({ "Code": "TransactionConflict", "Message": "Transaction is ongoing for the item" }),
            };
            let body = json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "Transaction cancelled", "CancellationReasons": reasons,
            });
            return answer(400, &body.to_string());
        }
        // Items that are written without a condition are in no transaction.
        if body["ConditionExpression"].is_string() {
            return refusal(400, "TransactionConflictException");
        }
        let (list, left_name) = match operation {
            Some("BatchGetItem") => ("/Keys", "UnprocessedKeys"),
            Some("BatchWriteItem") => ("", "UnprocessedItems"),
            _ => return self.perform(request, transit),
        };
        let pointer = format!("/RequestItems/{TABLE}{list}");
        let Some(items) = body.pointer_mut(&pointer).and_then(Value::as_array_mut) else {
            return self.perform(request, transit);
        };
        if items.len() < 2 {
            return self.perform(request, transit);
        }
        let left = items.split_off(items.len() / 2);
        let mut unprocessed = json!({ TABLE: body["RequestItems"][TABLE] });
        match list {
            "" => unprocessed[TABLE] = json!(left),
            _ => unprocessed[TABLE]["Keys"] = json!(left),
        }
        match self.call(operation.unwrap_or_default(), body.to_string().as_bytes(), transit) {
            Ok(mut done) => {
                done[left_name] = unprocessed;
                answer(200, &done.to_string())
            }
            Err(error) => answer(error.status_code(), &error.to_json()),
        }
    }

    fn perform(&self, request: &HttpRequest, transit: &Transit) -> HttpResponse {
        if operation(request) == Some("SendMessageBatch") {
            return self.send_jobs(bytes(request));
        }
        if operation(request) == Some("PutEvents") {
            return self.put_events(bytes(request));
        }
        if let Some(operation) = operation(request) {
            return match self.call(operation, bytes(request), transit) {
                Ok(done) => answer(200, &done.to_string()),
                Err(error) => answer(error.status_code(), &error.to_json()),
            };
        }
        let id = connection_id(request);
        match request.method() {
            "POST" => self.post(id, bytes(request), transit),
            "GET" => self.look(id),
            "DELETE" => self.delete(id),
            other => panic!("the management API has no {other} here"),
        }
    }

    fn call(&self, operation: &str, body: &[u8], transit: &Transit) -> Result<Value, DynoxideError> {
        let mut body: Value = decoded(body);
        self.remember_what_was(operation, &body);
        if let (Some(page), true) = (transit.page, operation == "Query" && may_be_cut(&body)) {
            let limit = body["Limit"].as_u64().unwrap_or(u64::MAX);
            body["Limit"] = json!(page.min(limit));
        }
        if operation == "Query" {
            return self.query(body, transit);
        }
        let is_consistent = body["ConsistentRead"] == true || body["RequestItems"][TABLE]["ConsistentRead"] == true;
        let seen = self.now_ms() - if is_consistent || !transit.stale { 0 } else { STALE_MS };
        let text = body.to_string();
        let (database, body) = (&self.database, text.as_bytes());
        match operation {
            "GetItem" => {
                let mut answer = database.get_item(decoded(body)).map(encoded)?;
                match self.as_it_was(&decoded::<Value>(body)["Key"], seen) {
                    Some(Some(item)) => answer["Item"] = item,
                    Some(None) => answer = json!({}),
                    None => {}
                }
                Ok(answer)
            }
            "BatchGetItem" => {
                let mut answer = database.batch_get_item(decoded(body)).map(encoded)?;
                if let Some(items) = answer["Responses"][TABLE].as_array_mut() {
                    *items = std::mem::take(items).into_iter().filter_map(|item| self.seen_at(item, seen)).collect();
                }
                Ok(answer)
            }
            "PutItem" => database.put_item(decoded(body)).map(encoded),
            "UpdateItem" => database.update_item(decoded(body)).map(encoded),
            "DeleteItem" => database.delete_item(decoded(body)).map(encoded),
            "BatchWriteItem" => database.batch_write_item(decoded(body)).map(encoded),
            "TransactWriteItems" => database.transact_write_items(decoded(body)).map(encoded),
            "TransactGetItems" => database.transact_get_items(decoded(body)).map(encoded),
            other => panic!("no function calls {other}"),
        }
    }

    /// Queries the table or the index. Unless the read is consistent, it may miss the writes of the last moment.
    fn query(&self, mut body: Value, transit: &Transit) -> Result<Value, DynoxideError> {
        let is_of_index = body["IndexName"].is_string();
        let behind = match (transit.stale && body["ConsistentRead"] != true, is_of_index) {
            (false, _) => 0,
            (true, true) => transit.behind,
            (true, false) => transit.behind * STALE_MS / INDEX_LAG_MS,
        };
        let seen = self.now_ms() - behind;
        let (limit, missing) = (body["Limit"].as_u64(), self.count_created_after(seen));
        if let Some(limit) = limit {
            // Items that this read misses do not count.
            body["Limit"] = json!(limit.saturating_add(missing));
        }
        let mut answer = self.database.query(decoded(body.to_string().as_bytes())).map(encoded)?;
        if behind == 0 {
            return Ok(answer);
        }
        let items = answer["Items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut items: Vec<Value> = items.into_iter().filter_map(|item| self.seen_at(item, seen)).collect();
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if items.len() > limit {
            items.truncate(limit);
            let key: &[&str] = if is_of_index { &["pk", "sk", "conversation", "id"] } else { &["pk", "sk"] };
            let last = items.last().expect("a limit is at least 1");
            answer["LastEvaluatedKey"] = key.iter().map(|name| ((*name).to_owned(), last[*name].clone())).collect();
        }
        answer["Count"] = json!(items.len());
        answer["ScannedCount"] = json!(items.len());
        answer["Items"] = json!(items);
        Ok(answer)
    }

    /// Keeps what a write replaces, for reads that miss the write.
    fn remember_what_was(&self, operation: &str, write: &Value) {
        let now = self.now_ms();
        for key in written_keys(operation, write) {
            if !READ_LATE.contains(&kind(key["sk"]["S"].as_str().unwrap_or_default())) {
                continue;
            }
            let read = json!({ "TableName": TABLE, "Key": key, "ConsistentRead": true });
            let answer = self.database.get_item(decoded(read.to_string().as_bytes())).map(encoded);
            let item = answer.expect("the engine answers").get("Item").filter(|item| !item.is_null()).cloned();
            let mut replaced = lock(&self.replaced);
            let versions = replaced.entry(name_of(&key)).or_default();
            versions.retain(|(written, _)| written + INDEX_LAG_MS >= now);
            versions.push((now, item));
        }
    }

    /// Returns an item as it was at a time, if writes have replaced it since: `None` if it did not exist.
    fn as_it_was(&self, key: &Value, at: Ms) -> Option<Option<Value>> {
        let replaced = lock(&self.replaced);
        let versions = replaced.get(&name_of(key))?;
        versions.iter().find(|(written, _)| *written > at).map(|(_, item)| item.clone())
    }

    /// Returns an item that was read, as it was at a time. Returns nothing if it did not exist.
    fn seen_at(&self, item: Value, at: Ms) -> Option<Value> {
        self.as_it_was(&item, at).unwrap_or(Some(item))
    }

    /// Returns how many items were created after a time.
    fn count_created_after(&self, at: Ms) -> u64 {
        let replaced = lock(&self.replaced);
        let is_new =
            |versions: &&Replaced| matches!(versions.iter().find(|(written, _)| *written > at), Some((_, None)));
        replaced.values().filter(is_new).count() as u64
    }

    /// The member count of a group, or nothing if the group does not exist.
    pub(crate) fn member_count(&self, group: &str) -> Option<u64> {
        let key = json!({ "pk": { "S": format!("GROUP#{group}") }, "sk": { "S": "META" } });
        let read = json!({ "TableName": TABLE, "Key": key, "ConsistentRead": true });
        let answer = encoded(self.database.get_item(decoded(read.to_string().as_bytes())).expect("the engine answers"));
        answer["Item"]["memberCount"]["N"].as_str()?.parse().ok()
    }
}

fn decoded<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).expect("the SDK writes what the engine reads")
}

fn encoded(response: impl Serialize) -> Value {
    serde_json::to_value(&response).expect("a response is JSON")
}

/// Whether the items of a query may be too long for one page of an answer, or too many.
fn may_be_cut(query: &Value) -> bool {
    let is_of_messages = query["IndexName"].is_string() || query_kind(query) == Some("LOG");
    query["Limit"].as_u64().is_none_or(|limit| limit > 2 && is_of_messages)
}

/// The kind of the items of a query.
fn query_kind(query: &Value) -> Option<&str> {
    query["ExpressionAttributeValues"][":from"]["S"].as_str().map(kind)
}

/// Returns the keys that a call writes.
fn written_keys(operation: &str, write: &Value) -> Vec<Value> {
    let key = |write: &Value| {
        let of = if write["Key"].is_object() { &write["Key"] } else { &write["Item"] };
        json!({ "pk": of["pk"], "sk": of["sk"] })
    };
    match operation {
        "PutItem" | "UpdateItem" => vec![key(write)],
        "TransactWriteItems" => {
            let parts = write["TransactItems"].as_array().into_iter().flatten();
            parts
                .flat_map(|part| ["Put", "Update"].map(|kind| &part[kind]))
                .filter(|part| !part.is_null())
                .map(key)
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the key of an item as text.
fn name_of(item: &Value) -> (String, String) {
    let [pk, sk] = ["pk", "sk"].map(|name| item[name]["S"].as_str().unwrap_or_default().to_owned());
    (pk, sk)
}

fn operation(request: &HttpRequest) -> Option<&str> {
    request.headers().get("x-amz-target")?.rsplit('.').next()
}

fn connection_id(request: &HttpRequest) -> &str {
    let id = request.uri().rsplit('/').next().unwrap_or_default();
    id.split('?').next().unwrap_or_default()
}

/// The operation of a call and the kind of its item, without user ids.
fn place(request: &HttpRequest, body: &Value) -> String {
    let Some(operation) = operation(request) else { return request.method().to_owned() };
    if let Some(index) = body["IndexName"].as_str() {
        return format!("{operation} {index}");
    }
    if let Some(kind) = query_kind(body) {
        return format!("{operation} {kind}");
    }
    let is_key = |value: &Value| value["pk"].is_object();
    let mut within = vec![body];
    let item = loop {
        let Some(value) = within.pop() else { return operation.to_owned() };
        if is_key(value) {
            break value["sk"]["S"].as_str().unwrap_or_default();
        }
        match value {
            Value::Array(list) => within.extend(list.iter().rev()),
            Value::Object(fields) => within.extend(fields.values()),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    };
    format!("{operation} {}", kind(item))
}

/// The kind of item that a sort key belongs to.
fn kind(sk: &str) -> &str {
    sk.split('#').next().unwrap_or_default()
}

fn bytes(request: &HttpRequest) -> &[u8] {
    request.body().bytes().expect("a body in memory")
}

fn answer(status: u16, body: &str) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("a status");
    HttpResponse::new(status, SdkBody::from(body))
}

fn refusal(status: u16, name: &'static str) -> HttpResponse {
    let mut response = answer(status, &json!({ "__type": name, "message": "simulated" }).to_string());
    response.headers_mut().insert("x-amzn-errortype", name);
    response
}

/// What the policies of the template allow the functions.
static POLICIES: LazyLock<Policies> = LazyLock::new(Policies::of_project);

/// The wire as an HTTP client of the SDK.
#[derive(Debug, Clone)]
pub(crate) struct Wire(pub(crate) Arc<World>);

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        // Faults lead functions where no test of a deployment leads them. What the tests themselves call is no function's.
        if running().is_some() {
            POLICIES.check(&request).unwrap_or_else(|refusal| panic!("{refusal}"));
        }
        let world = self.0.clone();
        HttpConnectorFuture::new(async move { Ok(world.serve(request).await) })
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// The clock of one function instance, which is ahead of the true time.
#[derive(Debug)]
pub(crate) struct Skewed {
    pub(crate) world: Arc<World>,
    pub(crate) ahead_ms: Ms,
}

impl Clock for Skewed {
    fn now_ms(&self) -> Ms {
        self.world.now_ms() + self.ahead_ms
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
