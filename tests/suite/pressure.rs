//! Users who fill, block and hold what others use. Sends of other users are still acknowledged and pulls are still
//! answered. Neither tells whether a message was delivered.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use functions::{connect, disconnect, message, pull_messages};
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;

use crate::inside::{Inside, body, call, socket_event};
use crate::simulation::world::{Phase, TABLE, Wire, World};
use crate::world::Deployment;

/// A wire on which posts to some connections are never answered.
#[derive(Debug, Clone)]
struct Stalling {
    wire: Wire,
    stalled: Arc<Mutex<BTreeSet<String>>>,
}

impl HttpConnector for Stalling {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let id = request.uri().rsplit('/').next().unwrap_or_default().split('?').next().unwrap_or_default();
        let is_stalled = request.method() == "POST" && self.stalled.lock().expect("a lock").contains(id);
        match is_stalled {
            true => HttpConnectorFuture::new(std::future::pending()),
            false => self.wire.call(request),
        }
    }
}

impl HttpClient for Stalling {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Functions whose gateway never answers posts to some connections.
struct Scene {
    inside: Inside,
    stalled: Arc<Mutex<BTreeSet<String>>>,
}

impl Scene {
    fn new(variables: &[(&str, &str)]) -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let (world, stalled) = (World::new(1), Arc::new(Mutex::default()));
        let http = SharedHttpClient::new(Stalling { wire: Wire(world.clone()), stalled: Arc::clone(&stalled) });
        Some(Self { inside: Inside::over(world, http, variables), stalled })
    }

    /// Opens this many connections of a user.
    async fn connect(&self, user: &str, connections: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..connections {
            ids.push(self.inside.connect(user).await);
        }
        ids
    }

    /// From now on, the clients of these connections do not read.
    fn stall(&self, connections: &[String]) {
        self.stalled.lock().expect("a lock").extend(connections.iter().cloned());
    }

    /// Sends a frame, and returns after how many milliseconds it is acknowledged.
    async fn acknowledged_after(&self, user: &str, connection: &str, mut frame: Value) -> u64 {
        let (began, before) = (self.inside.world().now_ms(), self.inside.frames(connection).len());
        frame["requestId"] = json!(format!("r-{began}"));
        let mut sending = std::pin::pin!(self.inside.send(user, connection, &frame));
        let mut after = None;
        let is_answered = || self.inside.frames(connection).len() > before;
        loop {
            let is_over = tokio::select! {
                () = &mut sending => true,
                () = tokio::time::sleep(Duration::from_millis(1)) => false,
            };
            let now = is_answered().then(|| self.inside.world().now_ms() - began);
            after = after.or(now);
            if is_over {
                break;
            }
        }
        let (answers, after) = (self.inside.frames(connection), after.expect("an answer"));
        assert!(answers[before..].iter().all(|answer| answer["type"] == "ACK"), "{answers:?}");
        after
    }

    async fn pull(&self, user: &str, query: &str) -> (Vec<Value>, Option<String>) {
        let answer =
            self.inside.done(&pull_messages::FUNCTION, &call("GET", user, "/api/message", None, query, None)).await;
        let next = answer["headers"]["x-next"].as_str().map(str::to_owned);
        assert_eq!(answer["headers"]["x-has-more"] == "true", next.is_some(), "{answer}");
        let senders: Vec<Value> = body(&answer);
        let messages = senders.iter().flat_map(|sender| sender["messages"].as_array().expect("messages").clone());
        (messages.collect(), next)
    }

    async fn contents(&self, user: &str, query: &str) -> Vec<Value> {
        self.pull(user, query).await.0.into_iter().map(|message| message["content"].clone()).collect()
    }

    /// The missed messages of a user that are recorded by name.
    fn names(&self, user: &str) -> Vec<Value> {
        let items = self.inside.world().partition(&format!("USER#{user}"));
        let state = items.into_iter().find(|item| item["sk"]["S"] == "STATE").expect("a state");
        state["missed"]["SS"].as_array().cloned().unwrap_or_default()
    }

    /// Ends a connection by its client or its network. The gateway sees it `later_ms` milliseconds later.
    async fn end(&self, user: &str, connection: &str, code: u64, later_ms: u64) {
        tokio::time::sleep(Duration::from_millis(later_ms)).await;
        self.inside.world().set_phase(connection, Phase::Closed);
        let mut event = socket_event("$disconnect", user, connection, None);
        let context = &mut event["requestContext"];
        context["disconnectStatusCode"] = json!(code);
        context["disconnectReason"] = json!("");
        context["requestTimeEpoch"] = json!(self.inside.world().now_ms());
        self.inside.invoke(&disconnect::FUNCTION, &event.to_string()).await.expect("an answer");
    }
}

fn private(to: &str, content: impl Into<Value>) -> Value {
    json!({ "type": "unicast", "receiverId": to, "content": content.into() })
}

// ------------------------------------------------------------------------------------------------- clients that close
#[tokio::test(start_paused = true)]
async fn messages_after_a_close_are_pulled_again() {
    let Some(scene) = Scene::new(&[]) else { return };
    scene.inside.tie("alice", "friendId", "bob").await;
    let alice = scene.inside.connect("alice").await;
    for (code, seen_before_ms, comes_again) in
        [(1000, 1_900, true), (1005, 1_900, true), (1001, 2_100, false), (1006, 14_900, true), (1006, 15_100, false)]
    {
        let bob = scene.inside.connect("bob").await;
        // By now, the opening of a second connection no longer makes earlier times uncovered.
        tokio::time::sleep(Duration::from_secs(60)).await;
        scene.inside.send("alice", &alice, &private("bob", code)).await;
        scene.end("bob", &bob, code, seen_before_ms).await;
        let wanted = if comes_again { vec![json!(code)] } else { Vec::new() };
        assert_eq!(scene.contents("bob", "").await, wanted, "{code} after {seen_before_ms} ms");
        assert_eq!(scene.contents("bob", "").await, [0; 0], "once");
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_to_a_dead_connection_are_pulled_after_reconnecting() {
    let Some(scene) = Scene::new(&[]) else { return };
    scene.inside.tie("alice", "friendId", "bob").await;
    let alice = scene.inside.connect("alice").await;
    let dead = scene.inside.connect("bob").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.inside.world().set_phase(&dead, Phase::Dead);
    scene.inside.send("alice", &alice, &private("bob", "to nobody")).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    scene.inside.connect("bob").await;
    assert_eq!(scene.contents("bob", "").await, ["to nobody"]);
}

#[tokio::test(start_paused = true)]
async fn redeliver_seconds_sets_how_much_is_pulled_again() {
    let Some(scene) = Scene::new(&[("REDELIVER_SECONDS", "0")]) else { return };
    scene.inside.tie("alice", "friendId", "bob").await;
    let (alice, bob) = (scene.inside.connect("alice").await, scene.inside.connect("bob").await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.inside.send("alice", &alice, &private("bob", 1)).await;
    scene.end("bob", &bob, 1006, 1_000).await;
    assert!(scene.contents("bob", "").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delivery_to_one_device_hides_nothing_from_another() {
    let Some(scene) = Scene::new(&[]) else { return };
    scene.inside.tie("alice", "friendId", "bob").await;
    let alice = scene.inside.connect("alice").await;
    let bob = scene.connect("bob", 2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.stall(&bob[1..]);
    scene.inside.send("alice", &alice, &private("bob", "to one")).await;
    assert_eq!(scene.inside.frames(&bob[0]).len(), 1);
    assert_eq!(scene.contents("bob", "").await, ["to one"]);
}

#[tokio::test(start_paused = true)]
async fn closing_the_oldest_connection_is_not_a_clean_close() {
    let Some(scene) = Scene::new(&[("MAX_CONNECTIONS", "1")]) else { return };
    scene.inside.tie("alice", "friendId", "bob").await;
    let (alice, oldest) = (scene.inside.connect("alice").await, scene.inside.connect("bob").await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.inside.world().set_phase(&oldest, Phase::Dead);
    scene.inside.send("alice", &alice, &private("bob", "to nobody")).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The gateway reports a normal close for a connection that it closed for us.
    scene.inside.connect("bob").await;
    scene.end("bob", &oldest, 1000, 0).await;
    assert_eq!(scene.contents("bob", "").await, ["to nobody"]);
}

// ------------------------------------------------------------------------------------------------------ slow readers
#[tokio::test(start_paused = true)]
async fn members_who_do_not_read_delay_nobody() {
    for (slow, at_most_ms) in [(0, 80), (1, 80), (6, 200), (120, 2_500)] {
        let Some(scene) = Scene::new(&[]) else { return };
        let members: Vec<String> =
            ["reader".to_owned()].into_iter().chain((0..slow).map(|n| format!("slow-{n:03}"))).collect();
        let group = scene.inside.written_group("alice", &members).await;
        let reader = scene.inside.connect("reader").await;
        for member in &members[1..] {
            let connections = scene.connect(member, 32).await;
            scene.stall(&connections);
        }
        let alice = scene.inside.connect("alice").await;
        let frame = json!({ "type": "multicast", "groupId": group, "content": "hi" });
        let began = scene.inside.world().now_ms();
        let after = scene.acknowledged_after("alice", &alice, frame).await;
        assert!(after <= at_most_ms, "{slow} slow members: acknowledged after {after} ms");
        let took = scene.inside.world().now_ms() - began;
        assert!(took <= at_most_ms + 600, "{slow} slow members: the function ran for {took} ms");
        assert_eq!(scene.inside.frames(&reader).len(), 1);
        for member in &members[1..] {
            assert_eq!(scene.names(member).len(), 1, "{member} finds it when they pull");
        }
        assert!(scene.names("reader").is_empty(), "nothing is repeated to a member who reads");
    }
}

#[tokio::test(start_paused = true)]
async fn acks_of_delivered_and_withheld_messages_take_the_same_time() {
    let long = "x".repeat(31 * 1024);
    for (sockets, stalled, content) in [
        (0, 0, "short"),
        (1, 0, "short"),
        (8, 0, "short"),
        (32, 0, "short"),
        (32, 0, long.as_str()),
        (1, 1, "short"),
        (32, 1, "short"),
        (32, 32, long.as_str()),
    ] {
        let mut times = Vec::new();
        for tie in [None, Some("blockedId")] {
            let Some(scene) = Scene::new(&[]) else { return };
            scene.inside.tie("alice", "friendId", "bob").await;
            if let Some(tie) = tie {
                scene.inside.tie("bob", tie, "alice").await;
            }
            let bob = scene.connect("bob", sockets).await;
            scene.stall(&bob[..stalled]);
            let alice = scene.inside.connect("alice").await;
            times.push(scene.acknowledged_after("alice", &alice, private("bob", content)).await);
            let got = scene.inside.taken_by("bob").len();
            assert_eq!(got, if tie.is_some() { 0 } else { sockets - stalled });
        }
        // The fine tick follows the clock, and the two runs begin at different phases of it.
        let apart = if sockets == 0 { 4 } else { 0 };
        let what = format!("{sockets} sockets, {stalled} stalled, {} bytes: {times:?} ms", content.len());
        assert!(times[0].abs_diff(times[1]) <= apart, "{what}");
        assert!(times[0] <= 60, "{what}");
    }
}

// ---------------------------------------------------------------------------------------------------- states of others
#[tokio::test(start_paused = true)]
async fn an_unreadable_state_fails_only_its_own_user() {
    let queue = [("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue")];
    let Some(scene) = Scene::new(&queue) else { return };
    let members = ["bob", "carol", "dave"].map(str::to_owned);
    let group = scene.inside.written_group("alice", &members).await;
    let (alice, bob) = (scene.inside.connect("alice").await, scene.inside.connect("bob").await);
    scene.inside.world().update(&json!({
        "TableName": TABLE,
        "Key": { "pk": { "S": "USER#carol" }, "sk": { "S": "STATE" } },
        "UpdateExpression": "SET missed = :broken",
        "ExpressionAttributeValues": { ":broken": { "S": "broken" } },
    }));
    let frame = json!({ "type": "multicast", "groupId": group, "content": "hi" });
    scene.acknowledged_after("alice", &alice, frame).await;
    assert_eq!(scene.inside.frames(&bob).len(), 1);
    let jobs = scene.inside.world().take_jobs();
    let receivers: Vec<Value> =
        jobs.iter().map(|job| serde_json::from_str::<Value>(job).expect("JSON")["receivers"].clone()).collect();
    assert_eq!(receivers, [json!(["+carol"])], "the message is queued again for that member only");
}

#[tokio::test(start_paused = true)]
async fn a_state_survives_a_hundred_handshakes_at_once() {
    let Some(scene) = Scene::new(&[]) else { return };
    scene.inside.tie("alice", "friendId", "bob").await;
    let alice = scene.inside.connect("alice").await;
    let handshake = async |inside: &Inside| {
        let connection = inside.world().open("bob");
        let event = socket_event("$connect", "bob", &connection, None).to_string();
        let answer = inside.invoke(&connect::FUNCTION, &event).await.expect("an answer");
        let status = serde_json::from_str::<Value>(&answer).expect("JSON")["statusCode"].clone();
        let phase = if status == 200 { Phase::Open } else { Phase::Closed };
        if inside.world().phase(&connection) == Phase::Opening {
            inside.world().set_phase(&connection, phase);
        }
        status
    };
    for _ in 0..6 {
        let statuses = futures::future::join_all((0..100).map(|_| handshake(&scene.inside))).await;
        assert!(statuses.iter().all(|status| [200, 403, 429].map(|s| json!(s)).contains(status)), "{statuses:?}");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for n in 0..50 {
        scene.acknowledged_after("alice", &alice, private("bob", n)).await;
    }
    let open = scene.inside.connect("bob").await;
    scene.acknowledged_after("alice", &alice, private("bob", "still")).await;
    assert_eq!(scene.inside.frames(&open).len(), 1);
}

// ------------------------------------------------------------------------------------------------------ logs of others
fn contents(messages: &[Value]) -> Vec<&Value> {
    messages.iter().map(|message| &message["content"]).collect()
}

/// Puts long messages of mallory into the log of a group, one for each millisecond from now on.
fn fill(scene: &Scene, group: &str, mebibytes: usize) {
    let content = json!("x".repeat(32 * 1024)).to_string();
    let now = scene.inside.world().now_ms();
    for n in 0..u64::try_from(mebibytes * 32).expect("a small number") {
        let id = shared::id::MessageId::first_at(now + n).to_string();
        scene.inside.world().put(&json!({
            "pk": { "S": format!("GROUP#{group}") }, "sk": { "S": format!("LOG#{id}") }, "id": { "S": id },
            "sender": { "S": "mallory" }, "content": { "S": content }, "timestamp": { "N": now.to_string() },
        }));
    }
}

/// A group of alice, carol and mallory. Alice blocks mallory, who fills its log while alice is away.
async fn group_filled_by_mallory(scene: &Scene, mebibytes: usize) -> String {
    let group = scene.inside.create_group("alice").await;
    scene.inside.bring("alice", &group, "mallory").await;
    scene.inside.bring("alice", &group, "carol").await;
    scene.inside.tie("alice", "blockedId", "mallory").await;
    let carol = scene.inside.connect("carol").await;
    let say = async |content: &str| {
        let frame = json!({ "type": "multicast", "groupId": group, "content": content });
        scene.acknowledged_after("carol", &carol, frame).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    say("before").await;
    fill(scene, &group, mebibytes);
    tokio::time::sleep(Duration::from_secs(60)).await;
    say("after").await;
    scene.inside.tie("alice", "friendId", "carol").await;
    scene.acknowledged_after("carol", &carol, private("alice", "in private")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    group
}

#[tokio::test(start_paused = true)]
async fn a_log_filled_by_a_blocked_user_does_not_stop_pulls() {
    let Some(scene) = Scene::new(&[("MAX_PAGE_MESSAGES", "1000")]) else { return };
    group_filled_by_mallory(&scene, 40).await;

    let (mut shown, mut after, mut calls) = (Vec::new(), String::new(), 0);
    loop {
        let (messages, next) = scene.pull("alice", &format!("&drop=false{after}")).await;
        shown.extend(messages.into_iter().map(|message| message["content"].clone()));
        calls += 1;
        let Some(next) = next else { break };
        assert!(format!("&after={next}") > after, "the position advances");
        after = format!("&after={next}");
    }
    assert_eq!(shown, ["before", "after", "in private"]);
    assert!((2..=5).contains(&calls), "{calls} calls for 40 MiB");

    let (first, next) = scene.pull("alice", "").await;
    assert_eq!(contents(&first), ["before", "in private"], "the messages that the first queries found are returned");
    assert!(next.is_some());
    let (mut rest, mut calls) = (Vec::new(), 1);
    loop {
        let (messages, next) = scene.pull("alice", "").await;
        rest.extend(messages.into_iter().map(|message| message["content"].clone()));
        calls += 1;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(rest, ["after"]);
    assert!(calls <= 5, "{calls} calls: each call keeps its progress");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_ends_at_its_limit_leaves_the_whole_limit_to_the_next() {
    let Some(scene) = Scene::new(&[("MAX_PAGE_MESSAGES", "1000")]) else { return };
    let group = group_filled_by_mallory(&scene, 10).await;
    let carol = scene.inside.connect("carol").await;
    let say = async |content: &str| {
        let frame = json!({ "type": "multicast", "groupId": group, "content": content });
        scene.acknowledged_after("carol", &carol, frame).await;
    };
    say("a moment ago").await;
    fill(&scene, &group, 15);
    tokio::time::sleep(Duration::from_secs(2)).await;
    say("just now").await;

    // The first page ends at 16 MiB that alice may not see. The second goes on, but the limit does not suffice to read
    // what is young again. The next pull has the whole limit for that.
    let (first, next) = scene.pull("alice", "").await;
    assert_eq!(contents(&first), ["before", "after", "in private", "a moment ago"]);
    assert!(next.is_some());
    let (second, next) = scene.pull("alice", "").await;
    assert_eq!(contents(&second), ["just now"]);
    assert_eq!(next, None);
    let id = shared::id::MessageId::first_at(scene.inside.world().now_ms() - 10_000).to_string();
    scene.inside.world().put(&json!({
        "pk": { "S": format!("GROUP#{group}") }, "sk": { "S": format!("LOG#{id}") }, "id": { "S": id },
        "sender": { "S": "carol" }, "content": { "S": "\"late\"" }, "timestamp": { "N": "1" },
    }));
    let (third, next) = scene.pull("alice", "").await;
    assert_eq!(contents(&third), ["late"]);
    assert_eq!(next, None);
    let (third, next) = scene.pull("alice", "").await;
    assert_eq!((contents(&third), next), (Vec::<&Value>::new(), None));
}

/// More young messages that alice may not see than one pull reads.
#[tokio::test(start_paused = true)]
async fn a_log_filled_just_now_by_a_blocked_user_does_not_hide_what_others_write() {
    let Some(scene) = Scene::new(&[("MAX_PAGE_MESSAGES", "1000")]) else { return };
    let group = group_filled_by_mallory(&scene, 0).await;
    fill(&scene, &group, 40);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let carol = scene.inside.connect("carol").await;
    let mut shown = Vec::new();
    for round in 0..3 {
        let frame = json!({ "type": "multicast", "groupId": group, "content": round });
        scene.acknowledged_after("carol", &carol, frame).await;
        // However often it is repeated, the same call comes to an end.
        let mut calls = 0;
        loop {
            let (messages, next) = scene.pull("alice", "").await;
            shown.extend(messages.into_iter().map(|message| message["content"].clone()));
            calls += 1;
            if next.is_none() {
                break;
            }
            assert!(calls <= 3, "{calls} calls for 40 MiB");
        }
        assert_eq!(shown.pop(), Some(json!(round)));
    }
    assert_eq!(shown, ["before", "after", "in private"]);

    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut calls = 0;
    while scene.pull("alice", "").await.1.is_some() {
        calls += 1;
        assert!(calls <= 3, "old messages are passed for good");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_old_messages_write_no_tail_and_read_no_log_twice() {
    let Some(scene) = Scene::new(&[("MAX_PAGE_MESSAGES", "2")]) else { return };
    group_filled_by_mallory(&scene, 0).await;
    let world = scene.inside.world();
    let mut calls = Vec::new();
    for (of_page, is_last) in [(vec!["before", "after"], false), (vec!["in private"], true)] {
        let before = world.calls();
        let (messages, next) = scene.pull("alice", "").await;
        calls.push(world.calls() - before);
        assert_eq!(contents(&messages), of_page);
        assert_eq!(next.is_none(), is_last);
        assert!(world.partition("USER#alice").iter().all(|item| item["tailMark"].is_null()));
    }
    assert_eq!(calls[0], calls[1]);
}

#[tokio::test(start_paused = true)]
async fn pages_of_contents_that_grow_by_escaping_fit() {
    for content in [
        format!("[{}]", "\n".repeat(32_600)),
        format!("\"{}\"", "\\\\".repeat(16_000)),
        format!("[{}1]", "\"\",".repeat(10_000)),
    ] {
        let Some(scene) = Scene::new(&[("MAX_PAGE_MESSAGES", "1000")]) else { return };
        let now = scene.inside.world().now_ms() - 100_000;
        let put = |n: u64, sender: &str, content: &str| {
            let id = shared::id::MessageId::first_at(now + n).to_string();
            scene.inside.world().put(&json!({
                "pk": { "S": "USER#bob" }, "sk": { "S": format!("LOG#{id}") }, "id": { "S": id },
                "sender": { "S": sender }, "content": { "S": content }, "timestamp": { "N": (now + n).to_string() },
            }));
        };
        put(0, "carol", "1");
        (1..=105).for_each(|n| put(n, "mallory", &content));
        put(106, "carol", "2");
        for query in ["&drop=false", "&drop=false&sort=desc", "&drop=false&since=00000000000000000000000000"] {
            assert!(!scene.pull("bob", query).await.0.is_empty());
        }
        let (mut by_carol, mut count) = (Vec::new(), 0);
        loop {
            let (messages, next) = scene.pull("bob", "").await;
            count += messages.len();
            by_carol.extend(messages.into_iter().filter(|m| m["senderId"] == "carol").map(|m| m["content"].clone()));
            if next.is_none() {
                break;
            }
        }
        assert_eq!((by_carol, count), (vec![json!(1), json!(2)], 107));
    }
}

// ---------------------------------------------------------------------------------------------------------- requests
#[tokio::test(start_paused = true)]
async fn reusing_a_request_id_for_another_message_is_refused() {
    let Some(scene) = Scene::new(&[]) else { return };
    scene.inside.tie("alice", "friendId", "bob").await;
    let (alice, bob) = (scene.inside.connect("alice").await, scene.inside.connect("bob").await);
    let send = async |to: &str, content: &str| {
        let mut frame = private(to, content);
        frame["requestId"] = json!("1");
        let event = socket_event("unicast", "alice", &alice, Some(&frame.to_string())).to_string();
        scene.inside.invoke(&message::FUNCTION, &event).await.expect("an answer");
        scene.inside.frames(&alice).pop().expect("an answer")
    };
    let ack = send("bob", "one").await;
    for (to, content) in [("bob", "two"), ("carol", "one")] {
        let refused = send(to, content).await;
        assert_eq!((&refused["code"], &refused["requestId"]), (&json!("request_id_reused"), &json!("1")), "{refused}");
    }
    assert_eq!(send("bob", "one").await, ack, "the same frame again is answered as before");
    assert_eq!(scene.inside.frames(&bob).len(), 1);
}
