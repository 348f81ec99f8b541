//! A withheld message or invitation makes the same calls as a delivered one, in the same order and with writes of the
//! same size. It stores nothing for the user it is withheld from. The module `timing` measures how much the time of an
//! answer still tells.

use std::sync::Arc;
use std::time::Duration;

use functions::{App, Function, accept_invite, connect, create_group, invite, list_invites, message, relationship};
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;
use shared::config::Config;
use shared::id::Ids;

use crate::simulation::world::{Phase, Skewed, TABLE, Traced, Wire, World};
use crate::simulation::{config, config_with, token};
use crate::world::Deployment;

const SECRET: &str = "the secret of the parity tests, which is long enough";

/// Names of equal length, so that writes about them have equal sizes.
const ALICE: &str = "alice";
const BRIAN: &str = "brian";
const CAROL: &str = "carol";

/// Functions over an engine, with paused time.
struct Scene {
    world: Arc<World>,
    app: Arc<App>,
}

impl Scene {
    fn new() -> Self {
        Self::with(config(SECRET))
    }

    fn with(config: Config) -> Self {
        let world = World::new(1);
        let clock = Arc::new(Skewed { world: world.clone(), ahead_ms: 0 });
        let http = SharedHttpClient::new(Wire(world.clone()));
        Self { app: Arc::new(App::over(http, &config, clock, Arc::new(Ids::seeded(1)))), world }
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
        context["authorizer"] = json!({ "principalId": user, "userId": user, "exp": "4000000000" });
        self.invoke(function, &event).await
    }

    async fn connect(&self, user: &str) -> String {
        let connection = self.world.open(user);
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
        let connections = match self {
            Self::Away => 0,
            Self::Open | Self::Dead | Self::DeadAndYoung => 1,
            Self::DeadAndOpen | Self::DeadAndManyMissed => 2,
            Self::ThreeOpen => 3,
        };
        for n in 0..connections {
            let connection = scene.connect(user).await;
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
async fn withheld_messages_do_not_accumulate() {
    if Deployment::is_elsewhere() {
        return;
    }
    let scene = Scene::new();
    let connection = scene.connect(ALICE).await;
    Presence::DeadAndYoung.arrange(&scene, BRIAN).await;
    let mut stored = Vec::new();
    for n in 0..3 {
        scene.send(ALICE, &connection, &json!({ "type": "unicast", "receiverId": BRIAN, "content": n })).await;
        let items = [ALICE, BRIAN].map(|user| scene.world.partition(&format!("USER#{user}"))).concat();
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
