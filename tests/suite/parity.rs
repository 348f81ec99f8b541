//! What is withheld makes the same calls as what is delivered, in the same order and with writes of the same size. It stores
//! nothing for the user it is withheld from. The second part compares whole outcomes: for each operation, each relation of
//! the two users and each state of their connections, the sender sees the same bytes at the same time. The module `timing`
//! measures how much the time of an answer still tells. The module `player` does all of it in random order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use functions::{
    App, Function, accept_invite, connect, create_group, get_history, invite, list_conversations, list_invites,
    mark_read, message, recall_message, relationship, send_as, send_message, typing,
};
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;
use shared::clock::Ms;
use shared::config::Config;
use shared::id::Ids;

use crate::inside::{Rest, SECRET, call};
use crate::simulation::world::{Phase, Skewed, TABLE, Traced, Wire, World};
use crate::simulation::{config, config_with, token};
use crate::world::Deployment;

/// Names of equal length, so that writes about them have equal sizes.
const ALICE: &str = "alice";
const BRIAN: &str = "brian";
const CAROL: &str = "carol";

/// Functions over an engine, with paused time.
struct Scene {
    world: Arc<World>,
    app: Arc<App>,
    observed: Observed,
}

impl Scene {
    fn new() -> Self {
        Self::with(config(SECRET))
    }

    /// With a bus, so that events are compared too.
    fn with(config: Config) -> Self {
        let config = Config { event_bus: Some("bus".to_owned()), ..config };
        let world = World::new(1);
        let clock = Arc::new(Skewed { world: world.clone(), ahead_ms: 0 });
        let observed = Observed::over(world.clone());
        let http = SharedHttpClient::new(observed.clone());
        Self { app: Arc::new(App::over(http, &config, clock, Arc::new(Ids::seeded(1)))), world, observed }
    }

    async fn invoke(&self, function: &Function, event: &Value) -> Value {
        let answer = localstack::run_as(function.name, function.invoke(&self.app, &event.to_string()))
            .await
            .expect("an event that is well formed");
        serde_json::from_str(&answer).expect("an answer is JSON")
    }

    async fn socket(&self, function: &Function, event: &str, user: &str, connection: &str, body: &Value) -> Value {
        let mut event: Value = serde_json::from_str(event).expect("an event is JSON");
        event["body"] = json!(body.to_string());
        let context = &mut event["requestContext"];
        context["connectionId"] = json!(connection);
        context["requestTimeEpoch"] = json!(self.world.now_ms());
        let version = self.observed.version(connection).to_string();
        context["authorizer"] = json!({ "principalId": user, "userId": user, "exp": "4000000000", "version": version });
        self.invoke(function, &event).await
    }

    async fn connect(&self, user: &str) -> String {
        self.connect_as(user, 1).await
    }

    /// Opens a connection of that version of the protocol.
    async fn connect_as(&self, user: &str, version: u8) -> String {
        let connection = self.world.open(user);
        self.observed.set_version(&connection, version);
        let event = include_str!("../events/websocket-connect.json");
        let answer = self.socket(&connect::FUNCTION, event, user, &connection, &Value::Null).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        self.world.set_phase(&connection, Phase::Open);
        connection
    }

    /// Sends a frame, and returns the calls that this made.
    async fn send(&self, user: &str, connection: &str, frame: &Value) -> Vec<Traced> {
        let event = include_str!("../events/websocket-unicast.json");
        let sending = async {
            let answer = self.socket(&message::FUNCTION, event, user, connection, frame).await;
            assert_eq!(answer["statusCode"], 200, "{answer}");
        };
        let traced = self.world.trace(sending).await;
        let answers = self.world.frames(connection);
        let is_acknowledged = answers.iter().any(|answer| answer["type"] == "ACK");
        assert_eq!(is_acknowledged, frame.get("requestId").is_some(), "{answers:?}");
        assert!(answers.iter().all(|answer| answer["type"] == "ACK"), "{answers:?}");
        traced
    }

    /// Answers a call of the REST API.
    async fn answer(&self, function: &Function, call: &Rest) -> Value {
        self.invoke(function, &call.event()).await
    }

    async fn relate(&self, user: &str, tie: &str, other: &str) {
        self.invoke(&relationship::FUNCTION, &json!({ "method": "PUT", "userId": user, tie: other })).await;
    }

    /// Calls the REST API, and returns the status and the body.
    async fn rest(&self, function: &Function, method: &str, user: &str, extra: Value) -> (u64, String) {
        let mut event: Value = serde_json::from_str(include_str!("../events/http-invite.json")).expect("JSON");
        event["headers"]["authorization"] = json!(format!("Bearer {}", token(user, SECRET)));
        event["requestContext"]["http"]["method"] = json!(method);
        for (name, value) in extra.as_object().expect("what is to be changed") {
            event[name] = value.clone();
        }
        let answer = self.invoke(function, &event).await;
        let body = answer["body"].as_str().unwrap_or_default().to_owned();
        (answer["statusCode"].as_u64().expect("a status"), body)
    }

    async fn group(&self, manager: &str) -> String {
        let name = json!({ "queryStringParameters": { "name": "walkers" }, "rawQueryString": "name=walkers" });
        let (status, body) = self.rest(&create_group::FUNCTION, "POST", manager, name).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("the id of a group")
    }

    /// Invites a user, and returns the answer and the calls that this made.
    async fn invite(&self, group: &str, by: &str, user: &str) -> ((u64, String), Vec<Traced>) {
        let mut answer = None;
        let body = json!({ "body": json!({ "groupId": group, "userId": user }).to_string() });
        let inviting = async { answer = Some(self.rest(&invite::FUNCTION, "POST", by, body).await) };
        let traced = self.world.trace(inviting).await;
        (answer.expect("an answer"), traced)
    }

    async fn invitations(&self, user: &str) -> Vec<Value> {
        let (_, body) = self.rest(&list_invites::FUNCTION, "GET", user, json!({ "body": null })).await;
        serde_json::from_str(&body).expect("a list")
    }

    async fn bring(&self, group: &str, by: &str, user: &str) {
        assert_eq!(self.invite(group, by, user).await.0, (200, String::new()));
        let path = json!({ "pathParameters": { "requestId": self.invitations(user).await[0]["id"] } });
        assert_eq!(self.rest(&accept_invite::FUNCTION, "PUT", user, path).await, (200, String::new()));
    }

    /// The items of a user, except two kinds: decoys, which no pull reads, and the ends of connections, which are facts
    /// that any sender may record.
    fn stored_for(&self, user: &str) -> Vec<Value> {
        let mut items = self.world.partition(&format!("USER#{user}"));
        items.retain(|item| !item["sk"]["S"].as_str().expect("a key").starts_with("HID#"));
        let attributes = items.iter_mut().flat_map(|item| item.as_object_mut().expect("an item").iter_mut());
        for (_, connection) in attributes.filter(|(name, _)| name.starts_with("c#")) {
            connection["M"].as_object_mut().expect("a connection").remove("to");
        }
        items
    }
}

/// The parts of calls that their time may reveal: the operations and the number of bytes written, without keys. A push
/// and a look at a connection count as the same.
fn shows(traced: &[Traced]) -> Vec<(&str, usize)> {
    let written = |call: &Traced| match call.operation.as_str() {
        "PutItem" => {
            let item = call.request["Item"].as_object().expect("an item").iter();
            item.filter(|(name, _)| !["pk", "sk"].contains(&name.as_str())).map(|(_, v)| v.to_string().len()).sum()
        }
        "UpdateItem" => call.request["ExpressionAttributeValues"].to_string().len(),
        "PutEvents" => call.request["Entries"].to_string().len(),
        _ => 0,
    };
    let operation = |call| match call {
        "GET" | "POST" => "a connection",
        operation => operation,
    };
    traced.iter().map(|call| (operation(call.operation.as_str()), written(call))).collect()
}

/// The state of the receiver's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Away,
    Open,
    ThreeOpen,
    /// Gone unnoticed, long after it was opened. The first push that fails records its end.
    Dead,
    /// Gone, but so young that its handshake may still be under way.
    DeadAndYoung,
    /// One of two connections is gone.
    DeadAndOpen,
    /// Gone, and there is no room for another missed name, so the time is uncovered.
    DeadAndManyMissed,
}

const PRESENCES: [Presence; 7] = [
    Presence::Away,
    Presence::Open,
    Presence::ThreeOpen,
    Presence::Dead,
    Presence::DeadAndYoung,
    Presence::DeadAndOpen,
    Presence::DeadAndManyMissed,
];

impl Presence {
    async fn arrange(self, scene: &Scene, user: &str) {
        self.arrange_as(scene, user, &[1]).await;
    }

    fn connections(self) -> usize {
        match self {
            Self::Away => 0,
            Self::Open | Self::Dead | Self::DeadAndYoung => 1,
            Self::DeadAndOpen | Self::DeadAndManyMissed => 2,
            Self::ThreeOpen => 3,
        }
    }

    /// Arranges connections of these versions, in turn.
    async fn arrange_as(self, scene: &Scene, user: &str, versions: &[u8]) {
        for n in 0..self.connections() {
            let connection = scene.connect_as(user, versions[n % versions.len()]).await;
            if !matches!(self, Self::Open | Self::ThreeOpen) && (n == 0 || self == Self::DeadAndManyMissed) {
                scene.world.set_phase(&connection, Phase::Closed);
            }
        }
        if self == Self::DeadAndManyMissed {
            let names: Vec<String> = (0..2_000).map(|n| format!("u/{n:026}")).collect();
            let update = json!({
                "TableName": TABLE,
                "Key": { "pk": { "S": format!("USER#{user}") }, "sk": { "S": "STATE" } },
                "UpdateExpression": "SET missed = :names",
                "ExpressionAttributeValues": { ":names": { "SS": names } },
            });
            scene.world.update(&update);
        }
        if matches!(self, Self::Dead | Self::DeadAndOpen) {
            tokio::time::sleep(Duration::from_secs(31)).await;
        }
    }
}

/// The relation of the two users, which decides whether a message is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Friends,
    BlockedFriends,
    Strangers,
    BlockedStrangers,
}

/// The calls of a private message, and whether anything reached the receiver or was stored for them.
async fn private(presence: Presence, between: Between, request: Option<&str>) -> (Vec<Traced>, bool) {
    let scene = Scene::new();
    if matches!(between, Between::Friends | Between::BlockedFriends) {
        scene.relate(ALICE, "friendId", BRIAN).await;
    }
    if matches!(between, Between::BlockedFriends | Between::BlockedStrangers) {
        scene.relate(BRIAN, "blockedId", ALICE).await;
    }
    let connection = scene.connect(ALICE).await;
    presence.arrange(&scene, BRIAN).await;
    let before = scene.stored_for(BRIAN);
    let mut frame = json!({ "type": "unicast", "receiverId": BRIAN, "content": "x".repeat(1_500) });
    if let Some(request) = request {
        frame["requestId"] = json!(request);
    }
    let traced = scene.send(ALICE, &connection, &frame).await;
    let noticed = scene.stored_for(BRIAN) != before || !scene.world.taken_by(BRIAN).is_empty();
    (traced, noticed)
}

#[tokio::test(start_paused = true)]
async fn withheld_and_delivered_private_messages_make_the_same_calls() {
    if Deployment::is_elsewhere() {
        return;
    }
    for presence in PRESENCES {
        for request in [None, Some("r-1")] {
            let (delivered, noticed) = private(presence, Between::Friends, request).await;
            assert!(noticed, "{presence:?}");
            for between in [Between::BlockedFriends, Between::Strangers, Between::BlockedStrangers] {
                let (withheld, noticed) = private(presence, between, request).await;
                assert_eq!(shows(&withheld), shows(&delivered), "{presence:?}, {between:?}, {request:?}");
                assert!(!noticed, "{presence:?}, {between:?}, {request:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_and_absent_receivers_cause_the_same_calls() {
    if Deployment::is_elsewhere() {
        return;
    }
    let scene = Scene::new();
    scene.relate(ALICE, "friendId", BRIAN).await;
    let connection = scene.connect(ALICE).await;
    let mut traces = Vec::new();
    for user in [BRIAN, "ghost"] {
        let frame = json!({ "type": "unicast", "receiverId": user, "content": 1, "requestId": user });
        traces.push(scene.send(ALICE, &connection, &frame).await);
    }
    assert_eq!(shows(&traces[0]), shows(&traces[1]));
    assert!(scene.stored_for("ghost").is_empty());
}

#[tokio::test(start_paused = true)]
async fn decoys_do_not_accumulate() {
    if Deployment::is_elsewhere() {
        return;
    }
    let scene = Scene::new();
    let connection = scene.connect(ALICE).await;
    Presence::DeadAndYoung.arrange(&scene, BRIAN).await;
    let mut stored = Vec::new();
    for n in 0..3 {
        scene.send(ALICE, &connection, &json!({ "type": "unicast", "receiverId": BRIAN, "content": n })).await;
        let mut items = [ALICE, BRIAN].map(|user| scene.world.partition(&format!("USER#{user}"))).concat();
        // The messages themselves are in the sender's history.
        items.retain(|item| item["content"].is_null());
        stored.push(items.iter().map(|item| item.to_string().len()).sum::<usize>());
    }
    assert_eq!(stored[0], stored[2]);
}

/// The calls of a group message from alice, and whether it reached or was stored for any of `blockers`.
async fn in_group(presence: Presence, members: &[&str], blockers: &[&str]) -> (Vec<Traced>, bool) {
    in_group_of(Scene::new(), presence, members, blockers).await
}

async fn in_group_of(scene: Scene, presence: Presence, members: &[&str], blockers: &[&str]) -> (Vec<Traced>, bool) {
    let group = scene.group(ALICE).await;
    for member in members {
        scene.bring(&group, ALICE, member).await;
        presence.arrange(&scene, member).await;
    }
    for blocker in blockers {
        scene.relate(blocker, "blockedId", ALICE).await;
    }
    let connection = scene.connect(ALICE).await;
    let before: Vec<_> = blockers.iter().map(|user| scene.stored_for(user)).collect();
    let frame = json!({ "type": "multicast", "groupId": group, "content": "x", "requestId": "r-1" });
    let traced = scene.send(ALICE, &connection, &frame).await;
    let after: Vec<_> = blockers.iter().map(|user| scene.stored_for(user)).collect();
    let noticed = after != before || blockers.iter().any(|user| !scene.world.taken_by(user).is_empty());
    (traced, noticed)
}

#[tokio::test(start_paused = true)]
async fn blocks_do_not_change_the_calls_of_a_group_message() {
    if Deployment::is_elsewhere() {
        return;
    }
    for presence in PRESENCES.into_iter().filter(|presence| *presence != Presence::DeadAndManyMissed) {
        for (members, blockers) in [
            (&[BRIAN][..], &[BRIAN][..]),
            (&[BRIAN, CAROL], &[BRIAN]),
            (&[BRIAN, CAROL], &[CAROL]),
            (&[BRIAN, CAROL], &[BRIAN, CAROL]),
        ] {
            let (delivered, _) = in_group(presence, members, &[]).await;
            let (withheld, noticed) = in_group(presence, members, blockers).await;
            assert_eq!(shows(&withheld), shows(&delivered), "{presence:?}, {blockers:?} of {members:?}");
            assert!(!noticed, "{presence:?}, {blockers:?} of {members:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn blocks_do_not_change_the_calls_of_a_message_to_a_large_group() {
    if Deployment::is_elsewhere() {
        return;
    }
    let large =
        || Scene::with(config_with(SECRET, &[("FANOUT_MEMBERS", "1"), ("FANOUT_QUEUE_URL", "http://q/1/FanoutQueue")]));
    let (presence, members) = (PRESENCES[0], &[BRIAN, CAROL]);
    let (delivered, _) = in_group_of(large(), presence, members, &[]).await;
    assert!(delivered.iter().any(|call| call.operation == "SendMessageBatch"), "{delivered:?}");
    for blockers in [&[BRIAN][..], &[CAROL], &[BRIAN, CAROL]] {
        let (withheld, noticed) = in_group_of(large(), presence, members, blockers).await;
        assert_eq!(shows(&withheld), shows(&delivered), "{blockers:?}");
        assert!(!noticed, "{blockers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn absent_and_foreign_groups_cause_the_same_calls() {
    if Deployment::is_elsewhere() {
        return;
    }
    let scene = Scene::new();
    let group = scene.group(BRIAN).await;
    let connection = scene.connect(ALICE).await;
    let mut traces = Vec::new();
    for (n, group) in [group.clone(), "x".repeat(group.len())].into_iter().enumerate() {
        let frame = json!({ "type": "multicast", "groupId": group, "content": 1, "requestId": n.to_string() });
        traces.push(scene.send(ALICE, &connection, &frame).await);
    }
    assert_eq!(shows(&traces[0]), shows(&traces[1]));
}

/// Alice invites brian to a second group, when there is room for `places` invitations. Returns the answer, the calls,
/// and whether the second invitation was stored.
async fn invited(places: usize, blocked: bool, again: bool) -> ((u64, String), Vec<Traced>, bool) {
    let scene = Scene::with(Config { max_invitations: places, ..config(SECRET) });
    let (first, second) = (scene.group(ALICE).await, scene.group(ALICE).await);
    scene.invite(&first, ALICE, BRIAN).await;
    if again {
        scene.invite(&second, ALICE, BRIAN).await;
    }
    if blocked {
        scene.relate(BRIAN, "blockedId", ALICE).await;
    }
    // A repeated write has a later expiry.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = scene.stored_for(BRIAN);
    let (answer, traced) = scene.invite(&second, ALICE, BRIAN).await;
    let noticed = scene.stored_for(BRIAN) != before;
    (answer, traced, noticed)
}

#[tokio::test(start_paused = true)]
async fn stored_and_withheld_invitations_make_the_same_calls() {
    if Deployment::is_elsewhere() {
        return;
    }
    let (expected, delivered, noticed) = invited(200, false, false).await;
    assert_eq!(expected, (200, String::new()));
    assert!(noticed);
    for (places, blocked, again, stored) in [
        (200, true, false, false),
        (200, false, true, true),
        (200, true, true, false),
        (1, false, false, false),
        (1, true, false, false),
    ] {
        let (answer, traced, noticed) = invited(places, blocked, again).await;
        let case = format!("{places} places, blocked: {blocked}, again: {again}");
        assert_eq!(answer, expected, "{case}");
        assert_eq!(shows(&traced), shows(&delivered), "{case}");
        assert_eq!(noticed, stored, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn replacing_an_invitation_makes_the_same_calls_as_keeping_it() {
    if Deployment::is_elsewhere() {
        return;
    }
    let mut seen = Vec::new();
    for blocked in [None, Some(ALICE), Some(CAROL)] {
        let scene = Scene::new();
        let group = scene.group(ALICE).await;
        scene.bring(&group, ALICE, CAROL).await;
        scene.invite(&group, ALICE, BRIAN).await;
        // In each case, brian blocks somebody, because the functions read brian's blocks.
        scene.relate(BRIAN, "blockedId", blocked.unwrap_or("other")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = scene.stored_for(BRIAN);
        let (answer, traced) = scene.invite(&group, CAROL, BRIAN).await;
        assert_eq!(answer, (200, String::new()), "{blocked:?}");
        assert_eq!(scene.stored_for(BRIAN) == before, blocked == Some(CAROL), "{blocked:?}");
        let inviters: Vec<Value> = scene.invitations(BRIAN).await.iter().map(|one| one["invitedBy"].clone()).collect();
        assert_eq!(inviters, if blocked == Some(CAROL) { [ALICE] } else { [CAROL] }, "{blocked:?}");
        seen.push(traced);
    }
    assert_eq!(shows(&seen[1]), shows(&seen[0]));
    assert_eq!(shows(&seen[2]), shows(&seen[0]));
}

// -------------------------------------------------------------------------------------------------------- whole outcomes

/// A call of a function, with its answer.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    /// When it ended.
    pub(crate) ended: Ms,
    /// The DynamoDB operation, or the method of a call to a connection.
    pub(crate) operation: String,
    /// The connection, if it is a call to one.
    pub(crate) connection: String,
    pub(crate) request: Value,
    /// The answer. Null while the call is under way, and if it was cut off.
    pub(crate) answer: Value,
    /// The status of the answer.
    pub(crate) status: u16,
}

/// The wire, with a record of calls and answers. Posts may take longer than looks.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    wire: Wire,
    seen: Arc<Mutex<Vec<Observation>>>,
    versions: Arc<Mutex<BTreeMap<String, u8>>>,
    /// How much longer a post and a look take, by connection.
    delays: Arc<Mutex<BTreeMap<String, [Ms; 2]>>>,
}

impl Observed {
    pub(crate) fn over(world: Arc<World>) -> Self {
        Self { wire: Wire(world), seen: Arc::default(), versions: Arc::default(), delays: Arc::default() }
    }

    fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().expect("no holder of the lock panics")
    }

    /// From now on, posts and looks at this connection take so much longer.
    pub(crate) fn delay(&self, connection: &str, post: Ms, look: Ms) {
        Self::lock(&self.delays).insert(connection.to_owned(), [post, look]);
    }

    pub(crate) fn set_version(&self, connection: &str, version: u8) {
        Self::lock(&self.versions).insert(connection.to_owned(), version);
    }

    pub(crate) fn version(&self, connection: &str) -> u8 {
        Self::lock(&self.versions).get(connection).copied().unwrap_or(1)
    }

    /// Returns the calls since this was last called.
    pub(crate) fn take(&self) -> Vec<Observation> {
        std::mem::take(&mut Self::lock(&self.seen))
    }
}

impl HttpConnector for Observed {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
        let operation = target.unwrap_or_else(|| request.method()).to_owned();
        let connection = match target {
            Some(_) => String::new(),
            None => {
                request.uri().rsplit('/').next().unwrap_or_default().split('?').next().unwrap_or_default().to_owned()
            }
        };
        let body = |bytes: Option<&[u8]>| serde_json::from_slice(bytes.unwrap_or_default()).unwrap_or_default();
        let is_look = usize::from(operation == "GET");
        let delay = Self::lock(&self.delays).get(&connection).map_or(0, |delays| delays[is_look]);
        let number = {
            let request = body(request.body().bytes());
            let mut seen = Self::lock(&self.seen);
            seen.push(Observation { ended: 0, operation, connection, request, answer: Value::Null, status: 0 });
            seen.len() - 1
        };
        let (answering, this) = (self.wire.call(request), self.clone());
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            let answer = answering.await?;
            if let Some(one) = Self::lock(&this.seen).get_mut(number) {
                (one.ended, one.status) = (this.wire.0.now_ms(), answer.status().as_u16());
                one.answer = body(answer.body().bytes());
            }
            Ok(answer)
        })
    }
}

impl HttpClient for Observed {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Replaces the random part of each id of a message by a number, in the order of the ids' first appearance. The time in an
/// id stays.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, usize>);

impl Names {
    pub(crate) fn of(&mut self, text: &str) -> String {
        let (mut named, mut word) = (String::new(), String::new());
        for next in text.chars().map(Some).chain([None]) {
            match next {
                Some(letter) if letter.is_ascii_alphanumeric() => word.push(letter),
                _ => {
                    let is_id = word.len() == 26 && !word.bytes().any(|byte| byte.is_ascii_lowercase());
                    let count = self.0.len();
                    match is_id {
                        true => {
                            let number = *self.0.entry(word[10..].to_owned()).or_insert(count);
                            named.push_str(&format!("{}~{number}", &word[..10]));
                        }
                        false => named.push_str(&word),
                    }
                    word.clear();
                    named.extend(next);
                }
            }
        }
        named
    }
}

/// What the sender sees of an operation: answers and frames, with their times.
type Sight = Vec<(Ms, String)>;

/// The operations that may be withheld, and those that may show that others were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Send,
    SendUnacknowledged,
    /// A send whose first attempt did not finish.
    SendAgain,
    /// The same, and the message was recalled meanwhile.
    SendRecalled,
    SendByRest,
    /// The back end sends in the sender's name.
    SendAs,
    Recall,
    RecallAgain,
    Read,
    /// The mark is there already.
    ReadAgain,
    Typing,
    Invite,
}

const ACTS: [Act; 12] = [
    Act::Send,
    Act::SendUnacknowledged,
    Act::SendAgain,
    Act::SendRecalled,
    Act::SendByRest,
    Act::SendAs,
    Act::Recall,
    Act::RecallAgain,
    Act::Read,
    Act::ReadAgain,
    Act::Typing,
    Act::Invite,
];

/// The state of two users, of whom one acts upon the other.
#[derive(Debug, Clone)]
struct Case {
    between: Between,
    presence: Presence,
    /// The versions of the receiver's connections, in turn.
    versions: &'static [u8],
    /// The versions of the connections of the sender. The first one sends.
    own: &'static [u8],
    /// How much longer a post to the receiver takes, and a post to the sender's other connections.
    posts: [Ms; 2],
}

/// The two users of a case. Ids have equal lengths.
struct Pair {
    scene: Scene,
    own: Vec<String>,
    group: String,
}

impl Pair {
    async fn of(case: &Case) -> Self {
        let scene = Scene::new();
        let group = scene.group(ALICE).await;
        if matches!(case.between, Between::Friends | Between::BlockedFriends) {
            scene.relate(ALICE, "friendId", BRIAN).await;
        }
        if matches!(case.between, Between::BlockedFriends | Between::BlockedStrangers) {
            scene.relate(BRIAN, "blockedId", ALICE).await;
        }
        // From here on, all cases happen at the same time.
        tokio::time::sleep_until(tokio::time::Instant::now() + Self::rest_of_a_minute(&scene)).await;
        let mut own = Vec::new();
        for version in case.own {
            own.push(scene.connect_as(ALICE, *version).await);
        }
        case.presence.arrange_as(&scene, BRIAN, case.versions).await;
        // The gateway refuses a post to a closed connection at once.
        let others = case.presence.connections();
        let of_receiver = (own.len()..own.len() + others).map(|n| format!("c{n}"));
        for connection in of_receiver.filter(|connection| scene.world.phase(connection) == Phase::Open) {
            scene.observed.delay(&connection, case.posts[0], 0);
        }
        for connection in &own[1..] {
            scene.observed.delay(connection, case.posts[1], case.posts[1]);
        }
        Self { scene, own, group }
    }

    fn rest_of_a_minute(scene: &Scene) -> Duration {
        Duration::from_millis(60_000 - scene.world.now_ms() % 60_000)
    }

    async fn frame(&self, frame: &Value) {
        let function = if frame["type"] == "typing" { &typing::FUNCTION } else { &message::FUNCTION };
        let event = include_str!("../events/websocket-unicast.json");
        let answer = self.scene.socket(function, event, ALICE, &self.own[0], frame).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
    }

    fn message(request: Option<&str>) -> Value {
        let mut frame = json!({ "type": "unicast", "receiverId": BRIAN, "content": "x".repeat(1_500) });
        if let Some(request) = request {
            frame["requestId"] = json!(request);
        }
        frame
    }

    async fn rest(&self, function: &Function, call: &Rest) -> Option<Value> {
        let answer = self.scene.answer(function, call).await;
        assert_eq!(answer["statusCode"], 200, "{call:?}: {answer}");
        Some(answer)
    }

    /// The first message of alice's history.
    async fn first(&self) -> String {
        let call = call("GET", ALICE, "/api/history", None, &format!("&userId={BRIAN}&after={}", "0".repeat(26)), None);
        let answer = self.rest(&get_history::FUNCTION, &call).await.expect("an answer");
        let history: Value = crate::inside::body(&answer);
        history[0]["id"].as_str().expect("a message in the sender's history").to_owned()
    }

    async fn recall(&self) -> Option<Value> {
        let (id, query) = (self.first().await, format!("&receiverId={BRIAN}"));
        self.scene.observed.take();
        self.rest(&recall_message::FUNCTION, &call("DELETE", ALICE, "/api/message", Some(("id", &id)), &query, None))
            .await
    }

    async fn read(&self) -> Option<Value> {
        let query = format!("&userId={BRIAN}&until={:0<26}", "01KEPT");
        self.rest(&mark_read::FUNCTION, &call("PUT", ALICE, "/api/read", None, &query, None)).await
    }

    /// Makes the record of a send that of one whose function died.
    fn forget_delivery(&self, request: &str) {
        self.scene.world.update(&json!({
            "TableName": TABLE,
            "Key": { "pk": { "S": format!("USER#{ALICE}") }, "sk": { "S": format!("SENT#{request}") } },
            "UpdateExpression": "REMOVE done",
        }));
    }

    /// Does what must come before an act.
    async fn prepare(&self, act: Act) {
        match act {
            Act::SendAgain | Act::SendRecalled | Act::Recall | Act::RecallAgain => {
                self.frame(&Self::message(Some("r-1"))).await;
                // The function waits for posts after its answer, which no client sees.
                tokio::time::sleep(Self::rest_of_a_minute(&self.scene)).await;
                if matches!(act, Act::SendRecalled | Act::RecallAgain) {
                    self.recall().await;
                }
                self.forget_delivery("r-1");
            }
            Act::ReadAgain => drop(self.read().await),
            Act::Send
            | Act::SendUnacknowledged
            | Act::SendByRest
            | Act::SendAs
            | Act::Read
            | Act::Typing
            | Act::Invite => {}
        }
        // Each act begins at the same time in all cases.
        tokio::time::sleep(Self::rest_of_a_minute(&self.scene)).await;
        self.scene.observed.take();
    }

    /// Does an act, and returns the answer of the REST API if there is one.
    async fn act(&self, act: Act) -> Option<Value> {
        match act {
            Act::Send | Act::SendAgain | Act::SendRecalled => self.frame(&Self::message(Some("r-1"))).await,
            Act::SendUnacknowledged => self.frame(&Self::message(None)).await,
            Act::Typing => self.frame(&json!({ "type": "typing", "receiverId": BRIAN })).await,
            Act::SendByRest => {
                let body = Some(Self::message(Some("r-1")));
                return self.rest(&send_message::FUNCTION, &call("POST", ALICE, "/api/message", None, "", body)).await;
            }
            Act::SendAs => {
                let mut message = Self::message(Some("r-1"));
                message["from"] = json!(ALICE);
                return Some(self.scene.invoke(&send_as::FUNCTION, &message).await);
            }
            Act::Recall | Act::RecallAgain => return self.recall().await,
            Act::Read | Act::ReadAgain => return self.read().await,
            Act::Invite => {
                let body = Some(json!({ "groupId": self.group, "userId": BRIAN }));
                return self.rest(&invite::FUNCTION, &call("POST", ALICE, "/api/request", None, "", body)).await;
            }
        }
        None
    }

    /// Does an act. Returns its calls, and what the sender sees.
    async fn observe(&self, act: Act) -> (Vec<Observation>, Sight) {
        self.prepare(act).await;
        let answer = self.act(act).await;
        let answered = self.scene.world.now_ms();
        // Posts that are still under way end.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let calls = self.scene.observed.take();
        (calls.clone(), sight(&calls, &self.own, answer.map(|answer| (answered, answer))))
    }

    /// Returns what histories and the list of conversations show to the sender, after more messages and a recall.
    async fn told(&self) -> Told {
        for n in 2..6 {
            self.frame(&Self::message(Some(&format!("r-{n}")))).await;
        }
        self.recall().await;
        self.scene.observed.take();
        let (mut names, mut pages) = (Names::default(), Vec::new());
        for limit in [1, 2, 3, 100] {
            for direction in ["before", "after"] {
                let mut position = (direction == "after").then(|| "0".repeat(26));
                loop {
                    let place = position.map(|id| format!("&{direction}={id}")).unwrap_or_default();
                    let query = format!("&userId={BRIAN}&limit={limit}{place}");
                    let call = call("GET", ALICE, "/api/history", None, &query, None);
                    let answer = self.rest(&get_history::FUNCTION, &call).await.expect("an answer");
                    pages.push(names.of(&answer.to_string()));
                    let Some(next) = answer["headers"]["x-next"].as_str() else { break };
                    position = Some(next.to_owned());
                }
            }
        }
        let of_pages = self.scene.observed.take();
        let list = call("GET", ALICE, "/api/conversation", None, "", None);
        let list = self.rest(&list_conversations::FUNCTION, &list).await.expect("an answer");
        Told { pages, of_pages, list: names.of(&list.to_string()), of_list: self.scene.observed.take() }
    }
}

/// What histories and the list of conversations show, and the calls of both.
struct Told {
    pages: Vec<String>,
    of_pages: Vec<Observation>,
    list: String,
    of_list: Vec<Observation>,
}

/// The frames to these connections and the answer, with their times.
fn sight(calls: &[Observation], own: &[String], answer: Option<(Ms, Value)>) -> Sight {
    let mut names = Names::default();
    let mut sight = Vec::new();
    for connection in own {
        let posts = calls.iter().filter(|call| call.operation == "POST" && call.connection == *connection);
        sight.extend(posts.map(|post| (post.ended, format!("{connection}: {}", post.request))));
    }
    sight.extend(answer.map(|(at, answer)| (at, answer.to_string())));
    sight.into_iter().map(|(at, text)| (at, names.of(&text.replace(&"x".repeat(1_500), "x")))).collect()
}

/// The parts of calls that their time may reveal: the operation, the bytes that are written, and the bytes that are read. A
/// push and a look at a connection count as the same.
fn weighs(calls: &[Observation]) -> Vec<(&str, usize, usize)> {
    calls.iter().map(|call| (operation(call), written(&call.request), read(&call.answer))).collect()
}

fn operation(call: &Observation) -> &str {
    match call.operation.as_str() {
        "GET" | "POST" => "a connection",
        operation => operation,
    }
}

/// The bytes of the items and values of a write, without keys.
fn written(request: &Value) -> usize {
    if let Some(events) = request["Entries"].as_array() {
        return json!(events).to_string().len();
    }
    if let Some(parts) = request["TransactItems"].as_array() {
        return parts.iter().flat_map(|part| part.as_object().expect("a part").values()).map(written).sum();
    }
    let item = request["Item"].as_object().into_iter().flatten();
    let attributes = item.filter(|(name, _)| !["pk", "sk"].contains(&name.as_str()));
    let values = &request["ExpressionAttributeValues"];
    let values = if request["KeyConditionExpression"].is_null() { values } else { &Value::Null };
    attributes.map(|(_, value)| value.to_string().len()).sum::<usize>() + values.to_string().len()
}

/// The bytes of the items that a read returned. Two things are left out. The relations of the two users are what differs. And
/// the state of a receiver whose connections are dead holds the names of missed messages, if they were delivered.
fn read(answer: &Value) -> usize {
    let one = answer["Item"].as_object().map(|item| vec![json!(item)]);
    let many = answer["Items"].as_array().cloned();
    let batch = answer["Responses"][TABLE].as_array().cloned();
    let mut items: Vec<Value> = one.or(many).or(batch).unwrap_or_default();
    let relations = ["FRIEND#", "BLOCKER#", "VIEW#BLOCK#"];
    items.retain(|item| !relations.iter().any(|kind| item["sk"]["S"].as_str().is_some_and(|sk| sk.starts_with(kind))));
    for item in items.iter_mut().filter(|item| item["sk"]["S"] == "STATE") {
        let state = item.as_object_mut().expect("an item");
        state.retain(|name, _| !["missed", "version", "uncovers"].contains(&name.as_str()));
    }
    items.iter().map(|item| item.to_string().len()).sum()
}

/// All relations. A stranger who is away has no item at all, as an unknown user.
const RELATIONS: [Between; 4] =
    [Between::Friends, Between::BlockedFriends, Between::Strangers, Between::BlockedStrangers];

#[tokio::test(start_paused = true)]
async fn every_act_looks_the_same_in_all_relations() {
    if Deployment::is_elsewhere() {
        return;
    }
    for presence in PRESENCES {
        for (versions, own) in [(&[1][..], &[1][..]), (&[2], &[2, 2]), (&[2, 1], &[1, 2, 2, 1])] {
            let is_possible = |act: &Act| match act {
                Act::Typing => own[0] == 2,
                // A message that uncovers its time changes the state, which the next write about it shows.
                Act::SendAgain | Act::SendRecalled | Act::Recall | Act::RecallAgain => {
                    presence != Presence::DeadAndManyMissed
                }
                _ => true,
            };
            // Histories and lists read no state of a connection.
            let is_told = |act: &Act| {
                let by_call = matches!(act, Act::SendByRest | Act::SendAs);
                own.len() == 2 && matches!(presence, Presence::Away | Presence::ThreeOpen) && !by_call
            };
            for act in ACTS.into_iter().filter(is_possible) {
                let case = |between| Case { between, presence, versions, own, posts: [0, 0] };
                let (mut calls, mut sights, mut told) = (Vec::new(), Vec::new(), Vec::new());
                for between in RELATIONS {
                    let pair = Pair::of(&case(between)).await;
                    let (made, sight) = pair.observe(act).await;
                    calls.push(made);
                    sights.push(sight);
                    if is_told(&act) {
                        told.push(pair.told().await);
                    }
                }
                for n in 1..RELATIONS.len() {
                    let what = format!("{act:?}, {:?}, {presence:?}, {versions:?}, {own:?}", RELATIONS[n]);
                    assert_eq!(sights[n], sights[0], "{what}");
                    assert_eq!(weighs(&calls[n]), weighs(&calls[0]), "{what}");
                    if !is_told(&act) {
                        continue;
                    }
                    assert_eq!(told[n].pages, told[0].pages, "{what}");
                    assert_eq!(weighs(&told[n].of_pages), weighs(&told[0].of_pages), "{what}");
                    // The list shows friends. So friends are compared with friends, and strangers with strangers.
                    assert_eq!(told[n].list, told[n / 2 * 2].list, "{what}");
                    assert_eq!(weighs(&told[n].of_list), weighs(&told[n / 2 * 2].of_list), "{what}");
                }
            }
        }
    }
}

/// How much longer posts to the receiver take. The slot of a post, 25 ms, is between.
const SLOW_POSTS: [Ms; 3] = [15, 60, 700];

/// Compares what the sender sees of acts, if posts take longer than looks.
async fn compare_slow(acts: &[Act], own: &'static [u8], own_post: Ms) {
    for presence in [Presence::Open, Presence::DeadAndOpen] {
        for post in SLOW_POSTS {
            for act in acts {
                let mut sights = Vec::new();
                for between in RELATIONS {
                    let versions = &[2, 1];
                    let case = Case { between, presence, versions, own, posts: [post, own_post] };
                    sights.push(Pair::of(&case).await.observe(*act).await.1);
                }
                for (sight, between) in sights.iter().zip(RELATIONS) {
                    assert_eq!(*sight, sights[0], "{act:?}, {between:?}, {presence:?}, {post} ms, {own_post} ms");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn slow_posts_do_not_change_what_the_sender_sees() {
    if Deployment::is_elsewhere() {
        return;
    }
    let of_version_1: Vec<Act> = ACTS.into_iter().filter(|act| *act != Act::Typing).collect();
    compare_slow(&of_version_1, &[1], 0).await;
    let others: Vec<Act> = ACTS.into_iter().filter(|act| !matches!(act, Act::SendByRest | Act::SendAs)).collect();
    for own_post in [0, 700] {
        compare_slow(&others, &[2, 2, 1], own_post).await;
    }
}

#[tokio::test(start_paused = true)]
async fn slow_posts_do_not_change_what_another_device_of_the_sender_sees() {
    if Deployment::is_elsewhere() {
        return;
    }
    for own_post in [0, 15, 700] {
        compare_slow(&[Act::SendByRest, Act::SendAs], &[2, 2, 1], own_post).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_rate_stops_a_sender_at_the_same_moment_in_all_relations() {
    if Deployment::is_elsewhere() {
        return;
    }
    let mut seen = Vec::new();
    for between in RELATIONS {
        let scene = Scene::with(Config { messages_per_minute: 250, ..config(SECRET) });
        if matches!(between, Between::Friends | Between::BlockedFriends) {
            scene.relate(ALICE, "friendId", BRIAN).await;
        }
        if matches!(between, Between::BlockedFriends | Between::BlockedStrangers) {
            scene.relate(BRIAN, "blockedId", ALICE).await;
        }
        let connection = scene.connect(ALICE).await;
        tokio::time::sleep(Pair::rest_of_a_minute(&scene)).await;
        let event = include_str!("../events/websocket-unicast.json");
        for n in 0..400 {
            let frame = json!({ "type": "unicast", "receiverId": BRIAN, "content": 1, "requestId": n.to_string() });
            scene.socket(&message::FUNCTION, event, ALICE, &connection, &frame).await;
        }
        let mut names = Names::default();
        seen.push(scene.world.frames(&connection).iter().map(|frame| names.of(&frame.to_string())).collect::<Vec<_>>());
    }
    assert!(seen[0].iter().any(|frame| frame.contains("rate_limited")));
    for other in &seen[1..] {
        assert_eq!(*other, seen[0]);
    }
}
