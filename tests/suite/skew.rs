//! Functions run on machines whose clocks differ by a few milliseconds. What was asked for holds from its answer on all
//! the same. The functions run in this process, some with a clock that is ahead.

use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::world::Deployment;

/// By how much one clock is ahead. The functions assume less than 5 ms.
const AHEAD_MS: u64 = 4;

/// Functions with a clock that is right, and others over the same table with one that is ahead.
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

/// The contents that bob missed.
async fn missed(machine: &Inside) -> Vec<Value> {
    let pull = call("GET", "bob", "/api/message", None, "&drop=false", None);
    let senders: Vec<Value> = body(&machine.rest(&functions::pull_messages::FUNCTION, &pull).await);
    let messages = senders.iter().flat_map(|sender| sender["messages"].as_array().expect("messages"));
    messages.map(|message| message["content"].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_once_a_block_is_lifted_is_not_lost() {
    let Some((right, ahead)) = machines() else { return };
    right.tie("alice", "friendId", "bob").await;
    let alice = right.connect("alice").await;
    change_block(&ahead, "PUT").await;
    // Twice, as the host does whose first answer is lost: that one must not be quicker.
    for _ in 0..2 {
        change_block(&ahead, "DELETE").await;
        right.send("alice", &alice, &json!({ "type": "unicast", "receiverId": "bob", "content": 1 })).await;
    }
    assert_eq!(missed(&right).await, [1, 1]);
}

/// A group of alice, in which bob becomes a member.
async fn group_with_bob(right: &Inside, his: &Inside) -> String {
    let group = right.create_group("alice").await;
    let invitation = right.invite("alice", &group, "bob").await;
    his.accept("bob", &invitation).await;
    group
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_once_an_invitation_is_accepted_is_the_new_members() {
    let Some((right, ahead)) = machines() else { return };
    let alice = right.connect("alice").await;
    let group = group_with_bob(&right, &ahead).await;
    right.send("alice", &alice, &json!({ "type": "multicast", "groupId": group, "content": 1 })).await;
    assert_eq!(missed(&right).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_membership_begins_after_the_call_and_before_the_answer_by_every_clock() {
    let Some((right, ahead)) = machines() else { return };
    for machine in [&right, &ahead] {
        let called = right.world().now_ms();
        let group = group_with_bob(&right, machine).await;
        let items = right.world().partition(&format!("GROUP#{group}"));
        let bob = items.iter().find(|item| item["sk"]["S"] == "ROSTER#bob").expect("bob is a member");
        let joined: u64 = bob["joined"]["N"].as_str().and_then(|number| number.parse().ok()).expect("a time");
        // A clock that is ahead may have stamped a message before the call, and one that is right, after the answer.
        assert!(called + AHEAD_MS < joined && joined <= right.world().now_ms());
    }
}

/// When bob's block of alice began, or ended last, as it is stored.
fn edge(machine: &Inside) -> u64 {
    let items = machine.world().partition("USER#bob");
    let block =
        items.iter().find(|item| item["sk"]["S"] == "VIEW#BLOCK#alice").expect("a block, or what is left of one");
    let number = |value: &Value| value["N"].as_str().and_then(|number| number.parse().ok());
    number(&block["since"]).or_else(|| number(&block["past"]["L"].as_array()?.last()?["L"][1])).expect("a time")
}

#[tokio::test(start_paused = true)]
async fn a_block_has_begun_and_ended_by_every_clock_when_it_is_answered() {
    let Some((right, ahead)) = machines() else { return };
    for method in ["PUT", "DELETE", "PUT", "DELETE"] {
        change_block(&ahead, method).await;
        assert!(edge(&right) < right.world().now_ms(), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_finds_it_done_is_not_quicker() {
    let Some((right, ahead)) = machines() else { return };
    for method in ["PUT", "DELETE"] {
        // The first was killed behind its write, which it made just now.
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
