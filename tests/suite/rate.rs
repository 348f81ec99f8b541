//! The limit of what a user may send in a minute, and kicks in the middle of handshakes, in simulated time. The functions run
//! in this process.

use std::time::Duration;

use functions::{connect, manage_user, message};
use futures::future::maybe_done;
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;

use crate::fragile::Fragile;
use crate::inside::{Inside, body, call, socket_event};
use crate::simulation::world::{Phase, Wire, World};
use crate::world::Deployment;

fn inside(variables: &[(&str, &str)]) -> Option<Inside> {
    (!Deployment::is_elsewhere()).then(|| Inside::with(1, variables))
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Sends a private message to bob with a request id, and returns the answer.
async fn send(inside: &Inside, connection: &str, number: usize) -> Value {
    let frame = json!({ "type": "unicast", "receiverId": "bob", "content": number, "requestId": number.to_string() });
    inside.send("alice", connection, &frame).await;
    inside.frames(connection).pop().expect("an answer")
}

/// Waits for the beginning of a minute.
async fn next_minute(inside: &Inside) {
    pass(60_000 - inside.world().now_ms() % 60_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_send_succeeds_with_the_same_request_id_after_the_wait() {
    let Some(inside) = inside(&[("MESSAGES_PER_MINUTE", "1")]) else { return };
    inside.tie("alice", "friendId", "bob").await;
    let (phone, other) = (inside.connect("alice").await, inside.connect("bob").await);
    next_minute(&inside).await;
    assert_eq!(send(&inside, &phone, 1).await["type"], "ACK");
    let refused = send(&inside, &phone, 2).await;
    assert_eq!((&refused["code"], &refused["requestId"]), (&json!("rate_limited"), &json!("2")));
    let items = inside.world().partition("USER#alice");
    assert!(!items.iter().any(|item| item["sk"]["S"] == "SENT#2"), "nothing is stored for a refused send");
    pass(refused["retryAfterMs"].as_u64().expect("a time")).await;
    assert_eq!(send(&inside, &phone, 2).await["type"], "ACK");
    assert_eq!(inside.frames(&other).len(), 2);
}

/// The first of three calls with one `requestId` stops at each of its calls in turn. Meanwhile its ban ends, and the second
/// one is stopped at each of its own.
#[tokio::test(start_paused = true)]
async fn a_repeat_beside_a_refused_send_stores_the_message_once() {
    if Deployment::is_elsewhere() {
        return;
    }
    let frame = json!({ "type": "unicast", "receiverId": "bob", "content": 1, "requestId": "r" });
    for first in 1.. {
        let mut has_stopped = [true; 2];
        for second in 1.. {
            let world = World::new(1);
            let inside = Inside::over(world.clone(), SharedHttpClient::new(Wire(world.clone())), &[]);
            let calls = [(); 2].map(|()| Fragile::over(&world, &[]));
            inside.tie("alice", "friendId", "bob").await;
            let phone = inside.connect("alice").await;
            let event = socket_event("unicast", "alice", &phone, Some(&frame.to_string())).to_string();
            let call = |n: usize, stop| calls[n].invoke_through(stop, &message::FUNCTION, &event);
            manage(&inside, json!({ "method": "BAN", "userId": "alice", "until": "2100-01-01T00:00:00Z" })).await;
            let mut refused = Box::pin(maybe_done(call(0, first)));
            has_stopped[0] = tokio::select! { () = &mut refused => false, () = calls[0].stopped() => true };
            manage(&inside, json!({ "method": "UNBAN", "userId": "alice" })).await;
            let mut accepted = Box::pin(maybe_done(call(1, second)));
            has_stopped[1] = tokio::select! { () = &mut accepted => false, () = calls[1].stopped() => true };
            for (call, running) in calls.iter().zip([refused.as_mut(), accepted.as_mut()]) {
                call.go_on();
                running.await;
            }
            inside.send("alice", &phone, &frame).await;
            let stored = world.partition("USER#bob").iter().filter(|item| item.get("content").is_some()).count();
            assert_eq!(stored, 1, "stopped at {first} and {second}");
            if !has_stopped[1] {
                break;
            }
        }
        if !has_stopped[0] {
            assert!(first > 2, "the stops reach every call");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_ends_within_seconds_and_costs_the_table_little() {
    let Some(inside) = inside(&[("MESSAGES_PER_MINUTE", "600")]) else { return };
    inside.tie("alice", "friendId", "bob").await;
    let phone = inside.connect("alice").await;
    next_minute(&inside).await;
    let mut accepted = 0;
    while send(&inside, &phone, accepted).await["type"] == "ACK" {
        accepted += 1;
    }
    // A flood of ten times the limit, a hundred a second, gets so far within ten seconds.
    assert!((300..1_000).contains(&accepted), "{accepted} of 600");
    inside
        .world()
        .trace(async {
            for number in 0..60 {
                assert_eq!(send(&inside, &phone, 10_000 + number).await["code"], "rate_limited");
            }
        })
        .await
        .iter()
        .for_each(|call| {
            let writes_only_the_count =
                call.request["Key"]["sk"]["S"].as_str().is_none_or(|sk| sk.starts_with("RATE#") || sk == "STATE");
            assert!(writes_only_the_count && call.operation != "PutItem", "{}", call.operation);
        });
}

#[tokio::test(start_paused = true)]
async fn a_quiet_user_is_not_stopped_and_without_a_limit_nothing_is_counted() {
    for (limit, counts) in [("600", true), ("0", false)] {
        let Some(inside) = inside(&[("MESSAGES_PER_MINUTE", limit)]) else { return };
        inside.tie("alice", "friendId", "bob").await;
        let phone = inside.connect("alice").await;
        for number in 0..600 {
            assert_eq!(send(&inside, &phone, number).await["type"], "ACK");
            pass(200).await;
        }
        let items = inside.world().partition("USER#alice");
        assert_eq!(items.iter().any(|item| item["sk"]["S"].as_str().is_some_and(|sk| sk.starts_with("RATE#"))), counts);
    }
}

/// A handshake of alice up to the moment when the gateway opens the connection.
async fn shake_hands(inside: &Inside, connection: &str) -> Result<u64, String> {
    let event = socket_event("$connect", "alice", connection, None).to_string();
    let answer = inside.invoke(&connect::FUNCTION, &event).await.map_err(|failure| failure.error_type)?;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    Ok(answer["statusCode"].as_u64().expect("a status"))
}

async fn manage(inside: &Inside, payload: Value) {
    inside.invoke(&manage_user::FUNCTION, &payload.to_string()).await.expect("the call succeeds");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_at_the_time_of_a_ban_or_kick_leaves_no_open_connection() {
    let queue = [("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue")];
    for (method, delay) in (0..40).flat_map(|delay| [("BAN", delay), ("DISCONNECT", delay)]) {
        let Some(inside) = inside(&queue) else { return };
        let connection = inside.world().open("alice");
        let payload = json!({ "method": method, "userId": "alice", "until": "2100-01-01T00:00:00Z" });
        let closing = async {
            pass(delay).await;
            manage(&inside, payload).await;
        };
        let opening = async {
            let status = shake_hands(&inside, &connection).await;
            if status == Ok(200) && inside.world().phase(&connection) != Phase::Closed {
                inside.world().set_phase(&connection, Phase::Open);
            }
            status
        };
        let (status, ()) = tokio::join!(opening, closing);
        // The job of half a minute later closes what the gateway did not know.
        let jobs = inside.world().take_jobs();
        pass(30_000).await;
        for job in jobs {
            let event = crate::jobs::event(&[job]);
            inside.invoke(&functions::fanout::FUNCTION, &event).await.expect("an answer");
        }
        let is_open = inside.world().phase(&connection) == Phase::Open;
        let state = inside.world().partition("USER#alice").into_iter().find(|item| item["sk"]["S"] == "STATE");
        let known = state.and_then(|state| state.get(format!("c#{connection}")).cloned());
        let has_end = known.as_ref().is_none_or(|known| known["M"].get("to").is_some());
        // A connection that was announced after a kick is a new one.
        let came_after = method == "DISCONNECT" && status == Ok(200) && !has_end;
        assert!(!is_open || came_after, "{method} after {delay} ms: {status:?}, {known:?}");
        assert!(method == "DISCONNECT" || has_end, "{method} after {delay} ms: {status:?}, {known:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_surviving_connection_of_a_banned_user_is_closed_at_its_next_frame() {
    let Some(inside) = inside(&[]) else { return };
    inside.tie("alice", "friendId", "bob").await;
    let phone = inside.connect_as("alice", "2").await;
    manage(&inside, json!({ "method": "BAN", "userId": "alice", "until": "2100-01-01T00:00:00Z" })).await;
    // As if the gateway had not closed it.
    for (function, kind) in [(&functions::message::FUNCTION, "unicast"), (&functions::typing::FUNCTION, "typing")] {
        inside.world().set_phase(&phone, Phase::Open);
        let frame = json!({ "type": kind, "receiverId": "bob", "content": 1 }).to_string();
        let event = socket_event(kind, "alice", &phone, Some(&frame)).to_string();
        let mut event: Value = serde_json::from_str(&event).expect("JSON");
        event["requestContext"]["authorizer"]["version"] = json!("2");
        inside.invoke(function, &event.to_string()).await.expect("a frame is answered");
        assert_eq!(inside.frames(&phone).pop().expect("an answer")["code"], "banned");
        assert_eq!(inside.world().phase(&phone), Phase::Closed);
    }
    let pull = call("GET", "bob", "/api/message", None, "", None);
    assert_eq!(body::<Value>(&inside.done(&functions::pull_messages::FUNCTION, &pull).await), json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_frame_with_the_type_of_an_event_of_the_gateway_changes_nothing() {
    let Some(inside) = inside(&[]) else { return };
    let phone = inside.connect("alice").await;
    let before = inside.world().partition("USER#alice");
    for (function, kind) in [(&functions::disconnect::FUNCTION, "$disconnect"), (&connect::FUNCTION, "$connect")] {
        let mut event = socket_event(kind, "alice", &phone, Some(&json!({ "type": kind }).to_string()));
        event["requestContext"]["eventType"] = json!("MESSAGE");
        let answer = inside.invoke(function, &event.to_string()).await.expect("an answer");
        assert_eq!(serde_json::from_str::<Value>(&answer).expect("JSON")["statusCode"], 400);
        assert_eq!(inside.world().partition("USER#alice"), before);
    }
}
