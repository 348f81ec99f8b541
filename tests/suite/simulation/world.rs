//! What surrounds the functions in a simulation: the real engine without a socket, a gateway of connections, and
//! between both and the SDK a wire that delays, fails and forgets. Time is tokio's, paused: it passes when nothing is
//! left to do, so a run of minutes takes milliseconds, and the order of everything follows from the seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
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
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::clock::{Clock, Ms};
use tokio::time::Instant;

pub(super) const TABLE: &str = "chat";
pub(super) const DYNAMODB: &str = "http://dynamodb.simulated";
pub(super) const GATEWAY: &str = "http://gateway.simulated/ws";
/// How long a call may take on its way, and its answer. Long, so that much happens meanwhile.
const LATENCY_MS: u64 = 150;
/// When each simulation begins.
const BEGINNING: Ms = 1_800_000_000_000;

/// What of a connection the gateway knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// `$connect` has not answered yet: a push is refused with 410.
    Opening,
    /// A push reaches the client.
    Open,
    /// The client is gone and nobody knows: a push is taken, and reaches nobody.
    Dead,
    /// A push is refused with 410.
    Closed,
}

#[derive(Debug)]
struct Connection {
    user: String,
    phase: Phase,
    frames: Vec<Value>,
}

/// The surroundings.
pub(super) struct World {
    database: Database,
    rng: Mutex<StdRng>,
    connections: Mutex<BTreeMap<String, Connection>>,
    /// How many calls in a hundred go wrong.
    faults: Mutex<u64>,
    calls: Mutex<u64>,
    began: Instant,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics that holds a lock")
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let database = Database::memory().expect("an engine in memory");
        let table = json!({
            "TableName": TABLE,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                { "AttributeName": "pk", "AttributeType": "S" }, { "AttributeName": "sk", "AttributeType": "S" },
            ],
            "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }, { "AttributeName": "sk", "KeyType": "RANGE" }],
        });
        let request = serde_json::from_value(table).expect("a request of the engine");
        database.create_table(request).expect("a new table");
        Arc::new(Self {
            database,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            connections: Mutex::default(),
            faults: Mutex::default(),
            calls: Mutex::default(),
            began: Instant::now(),
        })
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        lock(&self.rng).next_u64() % bound
    }

    pub(super) fn in_a_hundred(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// True time.
    pub(super) fn now_ms(&self) -> Ms {
        BEGINNING + u64::try_from(self.began.elapsed().as_millis()).expect("a short run")
    }

    /// Pause for less than `bound` milliseconds.
    pub(super) async fn pause(&self, bound: u64) {
        let pause = self.below(bound);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// From now on so many calls in a hundred go wrong.
    pub(super) fn set_faults(&self, in_a_hundred: u64) {
        *lock(&self.faults) = in_a_hundred;
    }

    pub(super) fn is_faulty(&self) -> bool {
        *lock(&self.faults) > 0
    }

    fn goes_wrong(&self) -> bool {
        let chance = *lock(&self.faults);
        self.in_a_hundred(chance)
    }

    /// How many calls of the SDK there were.
    pub(super) fn calls(&self) -> u64 {
        *lock(&self.calls)
    }

    // ---------------------------------------------------------------------------------------------------- connections
    /// A client knocks.
    pub(super) fn open(&self, user: &str) -> String {
        let mut connections = lock(&self.connections);
        let id = format!("c{}", connections.len());
        let connection = Connection { user: user.to_owned(), phase: Phase::Opening, frames: Vec::new() };
        connections.insert(id.clone(), connection);
        id
    }

    pub(super) fn set_phase(&self, id: &str, phase: Phase) {
        lock(&self.connections).get_mut(id).expect("a connection").phase = phase;
    }

    pub(super) fn phase(&self, id: &str) -> Phase {
        lock(&self.connections)[id].phase
    }

    /// What was pushed to a connection, and taken.
    pub(super) fn frames(&self, id: &str) -> Vec<Value> {
        lock(&self.connections)[id].frames.clone()
    }

    /// What any connection of a user took.
    pub(super) fn taken_by(&self, user: &str) -> Vec<Value> {
        let connections = lock(&self.connections);
        connections.values().filter(|c| c.user == user).flat_map(|c| c.frames.clone()).collect()
    }

    pub(super) fn close_all(&self) {
        lock(&self.connections).values_mut().for_each(|connection| connection.phase = Phase::Closed);
    }

    fn post(&self, id: &str, frame: &[u8]) -> HttpResponse {
        let mut connections = lock(&self.connections);
        let Some(connection) = connections.get_mut(id) else { return refusal(410, "GoneException") };
        if !matches!(connection.phase, Phase::Open | Phase::Dead) {
            return refusal(410, "GoneException");
        }
        connection.frames.push(serde_json::from_slice(frame).expect("a frame is JSON"));
        answer(200, "")
    }

    fn delete(&self, id: &str) -> HttpResponse {
        match lock(&self.connections).get_mut(id) {
            Some(connection) if connection.phase != Phase::Closed => {
                connection.phase = Phase::Closed;
                answer(204, "")
            }
            _ => refusal(410, "GoneException"),
        }
    }

    // ------------------------------------------------------------------------------------------------------- the wire
    /// One call of the SDK, with what may happen to it on its way.
    async fn serve(&self, request: &HttpRequest) -> HttpResponse {
        *lock(&self.calls) += 1;
        self.pause(LATENCY_MS).await;
        if !self.goes_wrong() {
            let response = self.perform(request);
            self.pause(LATENCY_MS).await;
            return response;
        }
        match self.below(7) {
            0 => refusal(400, "ThrottlingException"),
            1 => refusal(500, "InternalServerError"),
            // The answer is lost: the SDK waits for longer than it has patience.
            2 => {
                let response = self.perform(request);
                tokio::time::sleep(Duration::from_secs(20)).await;
                response
            }
            3 => {
                self.perform(request);
                refusal(500, "InternalServerError")
            }
            4 => {
                self.pause(2_500).await;
                self.perform(request)
            }
            5 => {
                let response = self.perform(request);
                self.pause(2_500).await;
                response
            }
            _ => self.refuse_in_part(request),
        }
    }

    /// What DynamoDB does when it is busy: a transaction conflicts, and a batch is done in part.
    fn refuse_in_part(&self, request: &HttpRequest) -> HttpResponse {
        let operation = operation(request);
        let mut body: Value = serde_json::from_slice(bytes(request)).unwrap_or_default();
        if let Some(items) = body["TransactItems"].as_array() {
            let mut reasons = vec![json!({ "Code": "None" }); items.len()];
            reasons[0] = json!({ "Code": "TransactionConflict", "Message": "Transaction is ongoing for the item" });
            let body = json!({
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "Transaction cancelled", "CancellationReasons": reasons,
            });
            return answer(400, &body.to_string());
        }
        let (list, left_name) = match operation {
            Some("BatchGetItem") => ("/Keys", "UnprocessedKeys"),
            Some("BatchWriteItem") => ("", "UnprocessedItems"),
            _ => return self.perform(request),
        };
        let pointer = format!("/RequestItems/{TABLE}{list}");
        let Some(items) = body.pointer_mut(&pointer).and_then(Value::as_array_mut) else {
            return self.perform(request);
        };
        if items.len() < 2 {
            return self.perform(request);
        }
        let left = items.split_off(items.len() / 2);
        let mut unprocessed = json!({ TABLE: body["RequestItems"][TABLE] });
        match list {
            "" => unprocessed[TABLE] = json!(left),
            _ => unprocessed[TABLE]["Keys"] = json!(left),
        }
        match self.call(operation.unwrap_or_default(), body.to_string().as_bytes()) {
            Ok(mut done) => {
                done[left_name] = unprocessed;
                answer(200, &done.to_string())
            }
            Err(error) => answer(error.status_code(), &error.to_json()),
        }
    }

    fn perform(&self, request: &HttpRequest) -> HttpResponse {
        if let Some(operation) = operation(request) {
            return match self.call(operation, bytes(request)) {
                Ok(done) => answer(200, &done.to_string()),
                Err(error) => answer(error.status_code(), &error.to_json()),
            };
        }
        let id = request.uri().rsplit('/').next().unwrap_or_default();
        let id = id.split('?').next().unwrap_or_default();
        match request.method() {
            "POST" => self.post(id, bytes(request)),
            "DELETE" => self.delete(id),
            other => panic!("the management API has no {other} here"),
        }
    }

    fn call(&self, operation: &str, body: &[u8]) -> Result<Value, DynoxideError> {
        let database = &self.database;
        match operation {
            "GetItem" => database.get_item(decoded(body)).map(encoded),
            "PutItem" => database.put_item(decoded(body)).map(encoded),
            "UpdateItem" => database.update_item(decoded(body)).map(encoded),
            "DeleteItem" => database.delete_item(decoded(body)).map(encoded),
            "Query" => database.query(decoded(body)).map(encoded),
            "BatchGetItem" => database.batch_get_item(decoded(body)).map(encoded),
            "BatchWriteItem" => database.batch_write_item(decoded(body)).map(encoded),
            "TransactWriteItems" => database.transact_write_items(decoded(body)).map(encoded),
            "TransactGetItems" => database.transact_get_items(decoded(body)).map(encoded),
            other => panic!("no function calls {other}"),
        }
    }
}

fn decoded<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).expect("the SDK writes what the engine reads")
}

fn encoded(response: impl Serialize) -> Value {
    serde_json::to_value(&response).expect("a response is JSON")
}

fn operation(request: &HttpRequest) -> Option<&str> {
    request.headers().get("x-amz-target")?.rsplit('.').next()
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

/// The wire, as the SDK knows it.
#[derive(Debug, Clone)]
pub(super) struct Wire(pub(super) Arc<World>);

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = self.0.clone();
        HttpConnectorFuture::new(async move { Ok(world.serve(&request).await) })
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// The clock of one function instance, a little off.
#[derive(Debug)]
pub(super) struct Skewed {
    pub(super) world: Arc<World>,
    pub(super) ahead_ms: Ms,
}

impl Clock for Skewed {
    fn now_ms(&self) -> Ms {
        self.world.now_ms() + self.ahead_ms
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
