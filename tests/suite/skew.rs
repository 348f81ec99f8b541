//! Functions run on machines whose clocks differ by a few milliseconds. Despite clock skew, a change holds as soon as
//! it is answered. The functions run in this process, and some have a clock that is ahead.

use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::world::Deployment;

/// By how much one clock is ahead. The functions allow for less than 5 ms.
const AHEAD_MS: u64 = 4;

/// Functions with a correct clock, and others over the same table whose clock is ahead.
fn machines() -> Option<(Inside, Inside)> {
    if Deployment::is_elsewhere() {
        return None;
    }
    let right = Inside::new(1);
    let ahead = right.with_clock_ahead(AHEAD_MS);
    Some((right, ahead))
}

async fn change_block(machine: &Inside, method: &str) {
    machine.relate(method, "bob", "blockedId", "alice").await;
}

/// The contents of bob's missed messages.
async fn missed(machine: &Inside) -> Vec<Value> {
    let pull = call("GET", "bob", "/api/message", None, "&drop=false", None);
    let senders: Vec<Value> = body(&machine.rest(&functions::pull_messages::FUNCTION, &pull).await);
    let messages = senders.iter().flat_map(|sender| sender["messages"].as_array().expect("messages"));
    messages.map(|message| message["content"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_after_an_unblock_is_delivered_despite_clock_skew() {
    let Some((right, ahead)) = machines() else { return };
    right.tie("alice", "friendId", "bob").await;
    let alice = right.connect("alice").await;
    change_block(&ahead, "PUT").await;
    // The host repeats the call if the first answer is lost. The repeat must not be answered sooner.
    for _ in 0..2 {
        change_block(&ahead, "DELETE").await;
        right.send("alice", &alice, &json!({ "type": "unicast", "receiverId": "bob", "content": 1 })).await;
    }
    assert_eq!(missed(&right).await, [1, 1]);
}

/// A group of alice, which bob joins.
async fn group_with_bob(right: &Inside, bobs: &Inside) -> String {
    let group = right.create_group("alice").await;
    let invitation = right.invite("alice", &group, "bob").await;
    bobs.accept("bob", &invitation).await;
    group
}

#[tokio::test(start_paused = true)]
async fn a_message_after_an_acceptance_is_delivered_despite_clock_skew() {
    let Some((right, ahead)) = machines() else { return };
    let alice = right.connect("alice").await;
    let group = group_with_bob(&right, &ahead).await;
    right.send("alice", &alice, &json!({ "type": "multicast", "groupId": group, "content": 1 })).await;
    assert_eq!(missed(&right).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_membership_begins_before_its_answer_despite_clock_skew() {
    let Some((right, ahead)) = machines() else { return };
    for machine in [&right, &ahead] {
        let called = right.world().now_ms();
        let group = group_with_bob(&right, machine).await;
        let items = right.world().partition(&format!("GROUP#{group}"));
        let bob = items.iter().find(|item| item["sk"]["S"] == "ROSTER#bob").expect("bob is a member");
        let joined: u64 = bob["joined"]["N"].as_str().and_then(|number| number.parse().ok()).expect("a time");
        // Before the call, a fast clock may have stamped a message. After the answer, a correct clock may stamp one.
        assert!(called + AHEAD_MS < joined && joined <= right.world().now_ms());
    }
}

/// The stored time when bob's block of alice began or last ended.
fn edge(machine: &Inside) -> u64 {
    let items = machine.world().partition("USER#bob");
    let block = items.iter().find(|item| item["sk"]["S"] == "VIEW#BLOCK#alice").expect("a current or former block");
    let number = |value: &Value| value["N"].as_str().and_then(|number| number.parse().ok());
    number(&block["since"]).or_else(|| number(&block["past"]["L"].as_array()?.last()?["L"][1])).expect("a time")
}

#[tokio::test(start_paused = true)]
async fn a_block_changes_before_its_answer_despite_clock_skew() {
    let Some((right, ahead)) = machines() else { return };
    for method in ["PUT", "DELETE", "PUT", "DELETE"] {
        change_block(&ahead, method).await;
        assert!(edge(&right) < right.world().now_ms(), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_change_is_not_answered_sooner() {
    let Some((right, ahead)) = machines() else { return };
    for method in ["PUT", "DELETE"] {
        // The first call was killed just after its write.
        let time = json!({ "N": (right.world().now_ms() + AHEAD_MS).to_string() });
        let mut block =
            json!({ "pk": { "S": "USER#bob" }, "sk": { "S": "VIEW#BLOCK#alice" }, "user": { "S": "alice" } });
        match method {
            "PUT" => (block["since"], block["past"]) = (time, json!({ "L": [] })),
            _ => block["past"] = json!({ "L": [{ "L": [{ "N": "1" }, time] }] }),
        }
        right.world().put(&block);
        change_block(&ahead, method).await;
        assert!(edge(&right) < right.world().now_ms(), "{method}");
    }
}
