//! The functions in this process, over the engine, invoked with genuine events and nothing in between. For what cannot
//! be seen from outside. Time is the simulation's.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use functions::{App, Failure, Function};
use localstack::run_as;
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;
use shared::clock::Ms;
use shared::config::Config;
use shared::id::{Ids, MessageId};

use crate::simulation::world::{Phase, Skewed, TABLE, Wire, World};

/// The secret that signs the tokens.
pub(crate) const SECRET: &str = "the secret of the functions in this process";

/// The functions and their surroundings.
pub(crate) struct Inside {
    world: Arc<World>,
    app: Arc<App>,
    /// The calls that the functions made, by name of the operation.
    calls: Arc<Mutex<Vec<String>>>,
}

/// The parts of an event of the REST API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) variables: Vec<(String, String)>,
    /// The query string as in the address, with the token.
    pub(crate) query: String,
    pub(crate) body: Option<String>,
}

impl Rest {
    /// A call of a route, with these values of its variables.
    pub(crate) fn of(route: functions::Route, mut value: impl FnMut(&str) -> String) -> Self {
        let mut call = Self { method: route.method.to_owned(), ..Self::default() };
        for segment in route.path.split('/').skip(1) {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let segment = name.map_or_else(|| segment.to_owned(), &mut value);
            call.variables.extend(name.map(|name| (name.to_owned(), segment.clone())));
            call.path.push_str(&format!("/{segment}"));
        }
        call
    }

    /// The event, in payload format 2.0.
    pub(crate) fn event(&self) -> Value {
        let mut event: Value =
            serde_json::from_str(include_str!("../events/http-bare.json")).expect("a genuine event is JSON");
        let route = json!(format!("{} {}", self.method, self.path));
        (event["routeKey"], event["requestContext"]["routeKey"]) = (route.clone(), route);
        (event["rawPath"], event["requestContext"]["http"]["path"]) = (json!(self.path), json!(self.path));
        event["requestContext"]["http"]["method"] = json!(self.method);
        event["rawQueryString"] = json!(self.query);
        if !self.variables.is_empty() {
            event["pathParameters"] = self.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        }
        if let Some(body) = &self.body {
            event["body"] = json!(body);
        }
        event
    }
}

/// Escapes a text for a query string.
pub(crate) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// A token that the functions accept.
pub(crate) fn token(user: &str) -> String {
    crate::simulation::token(user, SECRET)
}

/// A call of the REST API by a user.
pub(crate) fn call(
    method: &str,
    user: &str,
    path: &str,
    variable: Option<(&str, &str)>,
    query: &str,
    body: Option<Value>,
) -> Rest {
    Rest {
        method: method.to_owned(),
        path: format!("{path}{}", variable.map(|(_, id)| format!("/{id}")).unwrap_or_default()),
        variables: variable.map(|(name, id)| (name.to_owned(), id.to_owned())).into_iter().collect(),
        query: format!("access_token={}{query}", token(user)),
        body: body.map(|body| body.to_string()),
    }
}

/// The body of an answer.
pub(crate) fn body<T: serde::de::DeserializeOwned>(answer: &Value) -> T {
    serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON")
}

impl Inside {
    /// New functions over a new world.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(seed, &[])
    }

    /// The same, with these environment variables.
    pub(crate) fn with(seed: u64, variables: &[(&str, &str)]) -> Self {
        let (world, calls) = (World::new(1), Arc::new(Mutex::default()));
        let recorded = Recorded { wire: Wire(world.clone()), calls: Arc::clone(&calls) };
        let config = crate::simulation::config_with(SECRET, variables);
        Self { calls, ..Self::configured(world, SharedHttpClient::new(recorded), seed, &config, 0) }
    }

    /// The same in the given world, which the functions reach through `http`. Calls are not recorded.
    pub(crate) fn over(world: Arc<World>, http: SharedHttpClient, variables: &[(&str, &str)]) -> Self {
        Self::configured(world, http, 1, &crate::simulation::config_with(SECRET, variables), 0)
    }

    /// Other functions in the same world, on a machine whose clock is ahead.
    pub(crate) fn with_clock_ahead(&self, ahead_ms: Ms) -> Self {
        let (world, config) = (self.world.clone(), crate::simulation::config(SECRET));
        Self::configured(world.clone(), SharedHttpClient::new(Wire(world)), ahead_ms, &config, ahead_ms)
    }

    fn configured(world: Arc<World>, http: SharedHttpClient, seed: u64, config: &Config, ahead_ms: Ms) -> Self {
        let clock = Arc::new(Skewed { world: world.clone(), ahead_ms });
        let app = App::over(http, config, clock, Arc::new(Ids::seeded(seed)));
        Self { world, app: Arc::new(app), calls: Arc::default() }
    }

    /// Invokes a function with an event.
    pub(crate) async fn invoke(&self, function: &Function, event: &str) -> Result<String, Failure> {
        run_as(function.name, function.invoke(&self.app, event)).await
    }

    /// Calls the REST API with a valid event, and returns the whole result.
    pub(crate) async fn rest(&self, function: &Function, call: &Rest) -> Value {
        let result = self.invoke(function, &call.event().to_string()).await.expect("a genuine event is answered");
        serde_json::from_str(&result).expect("a result is JSON")
    }

    /// The same, and asserts that the status is 200.
    pub(crate) async fn done(&self, function: &Function, call: &Rest) -> Value {
        let answer = self.rest(function, call).await;
        assert_eq!(answer["statusCode"], 200, "{call:?}: {answer}");
        answer
    }

    /// Creates a group and returns its id.
    pub(crate) async fn create_group(&self, manager: &str) -> String {
        let create = call("POST", manager, "/api/group", None, "&name=walkers", None);
        body(&self.done(&functions::create_group::FUNCTION, &create).await)
    }

    /// A member invites a user who has no other invitation. Returns the invitation's id.
    pub(crate) async fn invite(&self, member: &str, group: &str, user: &str) -> String {
        let wanted = json!({ "groupId": group, "userId": user });
        self.done(&functions::invite::FUNCTION, &call("POST", member, "/api/request", None, "", Some(wanted))).await;
        let list = call("GET", user, "/api/request", None, "", None);
        let invitations: Value = body(&self.done(&functions::list_invites::FUNCTION, &list).await);
        invitations[0]["id"].as_str().expect("an invitation").to_owned()
    }

    /// A user accepts an invitation.
    pub(crate) async fn accept(&self, user: &str, invitation: &str) {
        let accept = call("PUT", user, "/api/request", Some(("requestId", invitation)), "", None);
        self.done(&functions::accept_invite::FUNCTION, &accept).await;
    }

    /// A member brings a user into a group.
    pub(crate) async fn bring(&self, member: &str, group: &str, user: &str) {
        let invitation = self.invite(member, group, user).await;
        self.accept(user, &invitation).await;
    }

    /// A member leaves a group.
    pub(crate) async fn leave(&self, user: &str, group: &str) {
        let leave = call("DELETE", user, "/api/group", Some(("groupId", group)), "", None);
        self.done(&functions::leave_group::FUNCTION, &leave).await;
    }

    /// Creates a group and returns its id. The first two members join through the functions. The others are written to
    /// the table as an acceptance writes them.
    pub(crate) async fn written_group(&self, manager: &str, others: &[String]) -> String {
        let group = self.create_group(manager).await;
        self.bring(manager, &group, &others[0]).await;
        let items = self.world.partition(&format!("GROUP#{group}"));
        let accepted =
            items.iter().find(|item| item["user"]["S"] == others[0].as_str()).expect("the member who accepted");
        let mut last = 0;
        for (members, user) in (2..).zip(&others[1..]) {
            let shard = shard(members);
            let mut item: Value =
                serde_json::from_str(&accepted.to_string().replace(&others[0], user)).expect("it was JSON");
            if shard > 0 {
                item["pk"]["S"] = json!(format!("GROUP#{group}#{shard}"));
            }
            self.world.put(&item);
            last = last.max(shard);
        }
        if last > 0 {
            self.world.update(&json!({
                "TableName": TABLE,
                "Key": { "pk": { "S": format!("GROUP#{group}") }, "sk": { "S": "META" } },
                "UpdateExpression": "SET lastShard = :last",
                "ExpressionAttributeValues": { ":last": { "N": last.to_string() } },
            }));
        }
        group
    }

    /// Makes two users friends (`friendId`), or lets the first block the second (`blockedId`).
    pub(crate) async fn tie(&self, user: &str, tie: &str, other: &str) {
        self.relate("PUT", user, tie, other).await;
    }

    /// Creates or deletes a friendship or a block.
    pub(crate) async fn relate(&self, method: &str, user: &str, tie: &str, other: &str) {
        let payload = json!({ "method": method, "userId": user, tie: other }).to_string();
        self.invoke(&functions::relationship::FUNCTION, &payload).await.expect("ties are changed");
    }

    /// Opens a connection and returns its id.
    pub(crate) async fn connect(&self, user: &str) -> String {
        self.connect_as(user, "1").await
    }

    /// Opens a connection of that version.
    pub(crate) async fn connect_as(&self, user: &str, version: &str) -> String {
        let connection = self.world.open(user);
        let mut event = socket_event("$connect", user, &connection, None);
        event["requestContext"]["authorizer"]["version"] = json!(version);
        self.invoke(&functions::connect::FUNCTION, &event.to_string()).await.expect("a connection is opened");
        self.world.set_phase(&connection, Phase::Open);
        connection
    }

    /// A client closes its connection.
    pub(crate) async fn disconnect(&self, user: &str, connection: &str) {
        self.world.set_phase(connection, Phase::Closed);
        let mut event = socket_event("$disconnect", user, connection, None);
        let context = &mut event["requestContext"];
        context["requestTimeEpoch"] = json!(self.world.now_ms());
        (context["disconnectStatusCode"], context["disconnectReason"]) = (json!(1005), json!(""));
        self.invoke(&functions::disconnect::FUNCTION, &event.to_string()).await.expect("a connection ends");
    }

    /// A client sends a frame.
    pub(crate) async fn send(&self, user: &str, connection: &str, frame: &Value) {
        let route = frame["type"].as_str().unwrap_or("$default");
        let event = socket_event(route, user, connection, Some(&frame.to_string())).to_string();
        self.invoke(&functions::message::FUNCTION, &event).await.expect("a frame is answered");
    }

    /// Writes a private message to its log now. It was accepted at `time`, as number `number` of its millisecond.
    pub(crate) fn log(&self, sender: &str, receiver: &str, time: Ms, number: u64) -> String {
        let id = format!("{}{number:016X}", &MessageId::first_at(time).to_string()[..10]);
        self.world.put(&json!({
            "pk": { "S": format!("USER#{receiver}") }, "sk": { "S": format!("LOG#{id}") }, "id": { "S": id },
            "sender": { "S": sender }, "content": { "S": "1" }, "timestamp": { "N": time.to_string() },
        }));
        id
    }

    /// The surroundings of the functions.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The frames that were pushed to a connection.
    pub(crate) fn frames(&self, connection: &str) -> Vec<Value> {
        self.world.frames(connection)
    }

    /// The frames that were pushed to a user.
    pub(crate) fn taken_by(&self, user: &str) -> Vec<Value> {
        self.world.taken_by(user).into_iter().map(|taken| taken.frame).collect()
    }

    /// The number of events that the bus did not take.
    pub(crate) fn failed_events(&self) -> u64 {
        self.app.metrics().total(shared::metrics::Metric::EventsFailed)
    }

    /// The calls of the functions since this was last called.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().expect("no holder of the lock panics"))
    }
}

/// The shard of the roster for the next member of a group, if all shards fill evenly.
fn shard(members: usize) -> usize {
    let first = (members / 2_000).checked_ilog2().map_or(0, |doubled| 1 << doubled);
    if first == 0 { 0 } else { first + members % first }
}

/// An event of the WebSocket API.
pub(crate) fn socket_event(route: &str, user: &str, connection: &str, frame: Option<&str>) -> Value {
    let mut event: Value =
        serde_json::from_str(include_str!("../events/websocket-default.json")).expect("a genuine event is JSON");
    let kind = match route {
        "$connect" => "CONNECT",
        "$disconnect" => "DISCONNECT",
        _ => "MESSAGE",
    };
    let context = &mut event["requestContext"];
    (context["routeKey"], context["eventType"]) = (json!(route), json!(kind));
    context["connectionId"] = json!(connection);
    context["authorizer"] = json!({ "principalId": user, "userId": user, "exp": "4000000000" });
    event["body"] = json!(frame);
    event
}

/// The wire with a record of each call.
#[derive(Debug, Clone)]
struct Recorded {
    wire: Wire,
    calls: Arc<Mutex<Vec<String>>>,
}

impl HttpConnector for Recorded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let operation = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
        let name = operation.map_or_else(|| format!("{} @connections", request.method()), str::to_owned);
        self.calls.lock().expect("no holder of the lock panics").push(name);
        self.wire.call(request)
    }
}

impl HttpClient for Recorded {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
