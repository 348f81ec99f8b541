//! Section 10: the events by which the back end learns what happens. Most tests run the functions in this process.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use crate::inside::{Inside, call};
use crate::jobs::{QUEUED, event};
use crate::stack::{Local, with};
use crate::world::scene::{friends_at, group_of};
use crate::world::{Deployment, within};

const BUS: (&str, &str) = ("EVENT_BUS_NAME", "local");

fn inside(more: &[(&str, &str)]) -> Option<Inside> {
    let variables: Vec<_> = [BUS].iter().chain(more).copied().collect();
    (!Deployment::is_elsewhere()).then(|| Inside::with(1, &variables))
}

async fn send(inside: &Inside, connection: &str, to: Value) -> Value {
    let mut frame = json!({ "content": "hi", "requestId": format!("{}", rand::random::<u64>()) });
    frame.as_object_mut().expect("an object").extend(to.as_object().expect("an object").clone());
    inside.send("alice", connection, &frame).await;
    inside.frames(connection).pop().expect("an answer")
}

/// Alice sends to a user by REST.
async fn send_by_rest(inside: &Inside, receiver: &str) {
    let body = json!({ "type": "unicast", "receiverId": receiver, "content": 1 });
    let post = call("POST", "alice", "/api/message", None, "", Some(body));
    inside.done(&functions::send_message::FUNCTION, &post).await;
}

fn to_user(user: &str) -> Value {
    json!({ "type": "unicast", "receiverId": user })
}

fn to_group(group: &str) -> Value {
    json!({ "type": "multicast", "groupId": group })
}

#[tokio::test(start_paused = true)]
async fn a_message_that_no_connection_took_makes_an_event() {
    let Some(inside) = inside(&[]) else { return };
    inside.tie("alice", "friendId", "bob").await;
    let phone = inside.connect("alice").await;
    let sent = send(&inside, &phone, to_user("bob")).await;
    let expected = json!({
        "id": sent["id"], "type": "unicast", "senderId": "alice", "receivers": ["bob"],
        "timestamp": sent["timestamp"], "padding": "",
    });
    assert_eq!(inside.world().take_events(), [("MessageMissed".to_owned(), expected)]);
    inside.connect("bob").await;
    send(&inside, &phone, to_user("bob")).await;
    assert_eq!(inside.world().take_events(), []);
    send_by_rest(&inside, "carol").await;
    let events = inside.world().take_events();
    assert_eq!((events.len(), events[0].0.as_str()), (1, "MessageHidden"), "carol is no friend");
}

#[tokio::test(start_paused = true)]
async fn a_withheld_message_makes_an_event_of_equal_size() {
    let mut sizes = Vec::new();
    for is_blocked in [false, true] {
        let Some(inside) = inside(&[]) else { return };
        inside.tie("alice", "friendId", "bob").await;
        let group = inside.create_group("alice").await;
        inside.bring("alice", &group, "bob").await;
        inside.bring("alice", &group, "carol").await;
        if is_blocked {
            inside.tie("bob", "blockedId", "alice").await;
        }
        let phone = inside.connect("alice").await;
        inside.world().take_events();
        for to in [to_user("bob"), to_group(&group)] {
            send(&inside, &phone, to).await;
        }
        let events = inside.world().take_events();
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [if is_blocked { "MessageHidden" } else { "MessageMissed" }, "MessageMissed"]);
        let in_group = &events[1].1["receivers"];
        assert_eq!(*in_group, if is_blocked { json!(["carol"]) } else { json!(["bob", "carol"]) });
        sizes.push(events.iter().map(|(_, detail)| json!(detail.to_string()).to_string().len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes[0], sizes[1]);
}

#[tokio::test(start_paused = true)]
async fn a_message_through_the_queue_makes_events_by_its_jobs() {
    let Some(inside) = inside(&QUEUED) else { return };
    let group = inside.create_group("alice").await;
    for member in ["bob", "carol", "dave"] {
        inside.bring("alice", &group, member).await;
    }
    inside.tie("carol", "blockedId", "alice").await;
    let (phone, _online) = (inside.connect("alice").await, inside.connect("dave").await);
    inside.world().take_events();
    send(&inside, &phone, to_group(&group)).await;
    assert_eq!(inside.world().take_events(), []);
    let jobs = inside.world().take_jobs();
    inside.invoke(&functions::fanout::FUNCTION, &event(&jobs)).await.expect("an answer");
    let events = inside.world().take_events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].0.as_str(), &events[0].1["receivers"]), ("MessageMissed", &json!(["bob"])));
}

#[tokio::test(start_paused = true)]
async fn an_event_has_the_content_only_if_the_deployment_says_so() {
    let Some(inside) = inside(&[("EVENT_CONTENT", "true")]) else { return };
    inside.tie("alice", "friendId", "bob").await;
    let phone = inside.connect("alice").await;
    send(&inside, &phone, to_user("bob")).await;
    assert_eq!(inside.world().take_events()[0].1["content"], "hi");
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_refuses_stops_no_message() {
    let Some(inside) = inside(&[]) else { return };
    inside.tie("alice", "friendId", "bob").await;
    let phone = inside.connect("alice").await;
    inside.world().refuse_events(true);
    assert_eq!(send(&inside, &phone, to_user("bob")).await["type"], "ACK");
    send_by_rest(&inside, "bob").await;
    inside.create_group("alice").await;
    assert_eq!(inside.world().take_events(), []);
    let pull = call("GET", "bob", "/api/message", None, "", None);
    let pulled: Value = crate::inside::body(&inside.done(&functions::pull_messages::FUNCTION, &pull).await);
    assert_eq!(pulled[0]["messages"].as_array().map(Vec::len), Some(2));
    assert_eq!(inside.failed_events(), 3);
}

#[tokio::test(start_paused = true)]
async fn changes_of_groups_make_events() {
    let Some(inside) = inside(&[]) else { return };
    let group = inside.create_group("alice").await;
    inside.bring("alice", &group, "bob").await;
    inside.leave("bob", &group).await;
    for query in ["&name=runners", ""] {
        let rename = call("PUT", "alice", "/api/group", Some(("groupId", &group)), query, None);
        inside.rest(&functions::rename_group::FUNCTION, &rename).await;
    }
    inside.leave("alice", &group).await;
    let events = inside.world().take_events();
    let seen: Vec<(&str, &str)> = events
        .iter()
        .map(|(name, detail)| {
            assert_eq!(detail["groupId"], group.as_str());
            (name.as_str(), detail["event"].as_str().expect("an event"))
        })
        .collect();
    let expected = ["created", "joined", "left", "renamed", "dissolved"].map(|event| ("GroupChanged", event));
    assert_eq!(seen, expected);
    assert_eq!((&events[0].1["name"], &events[1].1["userId"]), (&json!("walkers"), &json!("bob")));
}

#[tokio::test(start_paused = true)]
async fn without_a_bus_there_are_no_events() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    let phone = inside.connect("alice").await;
    send(&inside, &phone, to_user("bob")).await;
    assert!(!inside.take_calls().iter().any(|call| call == "PutEvents"));
}

#[tokio::test]
async fn the_local_stack_shows_events_in_the_shape_of_eventbridge() {
    let Some(local) = Local::start(with(&[])).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let group = group_of(&alice, &[&bob]).await;
    let mut phone = alice.connect().await;
    let sent = phone.send(&bob, "hi").await;
    let address = format!("{}/dev/events", local.deployment().internal);
    let looking = async {
        loop {
            let answer = Client::new().get(&address).send().await.expect("an answer");
            let events: Vec<Value> = answer.json().await.expect("JSON");
            if let Some(missed) = events.iter().find(|event| event["detail-type"] == "MessageMissed") {
                return (missed.clone(), events);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (missed, events) = within("the event", looking).await;
    assert_eq!((&missed["source"], &missed["version"]), (&json!("chat"), &json!("0")));
    assert_eq!((&missed["detail"]["id"], &missed["detail"]["receivers"]), (&json!(sent.id), &json!([bob.id()])));
    let of_group = events.iter().filter(|event| event["detail"]["groupId"] == group.as_str()).count();
    assert_eq!(of_group, 2, "created, joined");
    local.stop().await;
}
