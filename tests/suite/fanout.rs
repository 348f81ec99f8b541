//! Section 2: messages to a group that is too large for one function. The local stack is configured so that two
//! receivers are too many. Skipped if the suite runs against a deployment.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use localstack::Options;
use serde_json::{Value, json};

use crate::stack::{Directory, Local, with};
use crate::world::device::{Device, multicast};
use crate::world::scene::group_of;
use crate::world::{Deployment, User, within};

/// The names of the queues in the template.
const QUEUE: &str = "FanoutQueue";
const DEAD_LETTERS: &str = "FanoutDeadLetters";

fn large_groups() -> Options {
    with(&[("FANOUT_MEMBERS", "1")])
}

/// A group of alice and three other members.
async fn group(local: &Local) -> (User, [User; 3], String) {
    let alice = local.user("alice");
    let others = ["bob", "carol", "dave"].map(|name| local.user(name));
    let group = group_of(&alice, &others.each_ref()).await;
    (alice, others, group)
}

/// Calls SQS.
async fn sqs(deployment: &Deployment, operation: &str, queue: &str, mut request: Value) -> (u16, Value) {
    request["QueueUrl"] = json!(format!("{}/000000000000/{queue}", deployment.internal));
    let call = reqwest::Client::new().post(&deployment.internal).body(request.to_string());
    let call = call.header("x-amz-target", format!("AmazonSQS.{operation}"));
    let answer = call.header("content-type", "application/x-amz-json-1.0").send().await.expect("the queue answers");
    (answer.status().as_u16(), answer.json().await.expect("the queue answers with JSON"))
}

/// Waits until a queue has this many visible and this many hidden messages.
async fn wait_for(deployment: &Deployment, queue: &str, visible: &str, hidden: &str) {
    let counting = async {
        let mut again = tokio::time::interval(Duration::from_millis(20));
        loop {
            again.tick().await;
            let (_, answer) = sqs(deployment, "GetQueueAttributes", queue, json!({})).await;
            let count = |name: &str| answer["Attributes"][name].as_str().expect("a count").to_owned();
            let counts = (count("ApproximateNumberOfMessages"), count("ApproximateNumberOfMessagesNotVisible"));
            if counts == (visible.to_owned(), hidden.to_owned()) {
                return;
            }
        }
    };
    within(&format!("{visible} jobs and {hidden} hidden in {queue}"), counting).await;
}

#[tokio::test]
async fn a_message_reaches_every_connection_of_a_large_group() {
    let Some(local) = Local::start(large_groups()).await else { return };
    let (alice, [bob, carol, dave], group) = group(&local).await;
    dave.block(&alice).await;
    let mut sender = alice.connect().await;
    let mut phones = join_all([bob.connect(), bob.connect()]).await;
    let mut blocker = dave.connect().await;
    let accepted = sender.send_group(&group, "hi all").await;
    for phone in &mut phones {
        assert_eq!(phone.expect_in_group(&group, &alice, "hi all").await.id(), accepted.id);
    }
    wait_for(local.deployment(), QUEUE, "0", "0").await;
    assert_eq!(carol.pull().await.ids(), [accepted.id]);
    assert!(carol.pull().await.is_empty());
    sender.expect_nothing().await;
    blocker.expect_nothing().await;
    for user in [&alice, &dave] {
        assert!(user.pull().await.is_empty(), "{}", user.id());
    }
    local.stop().await;
}

#[tokio::test]
async fn a_repeated_request_id_sends_one_message_to_a_large_group() {
    let Some(local) = Local::start(large_groups()).await else { return };
    let (alice, [bob, carol, _], group) = group(&local).await;
    let (mut sender, mut online) = (alice.connect().await, bob.connect().await);
    let text = multicast(&group, Some("once"), "1");
    sender.send_text(&text).await;
    let first = sender.expect_ack("once").await;
    sender.send_text(&text).await;
    assert_eq!(sender.expect_ack("once").await, first);
    online.expect_in_group(&group, &alice, 1).await;
    wait_for(local.deployment(), QUEUE, "0", "0").await;
    online.expect_nothing().await;
    assert_eq!(carol.pull().await.ids(), [first.id]);
    local.stop().await;
}

#[tokio::test]
async fn many_messages_at_once_reach_a_large_group() {
    let Some(local) = Local::start(large_groups()).await else { return };
    let (alice, [bob, carol, dave], group) = group(&local).await;
    let (mut sender, mut online) = (alice.connect().await, [bob.connect().await, carol.connect().await]);
    let mut accepted = Vec::new();
    for number in 0..50 {
        accepted.push(sender.send_group(&group, number).await.id);
    }
    for device in &mut online {
        let mut taken = Vec::new();
        while taken.len() < accepted.len() {
            taken.push(device.next("a message of the group").await.id());
        }
        // Jobs run in parallel, so the order of arrival may differ from that of acceptance.
        taken.sort_unstable();
        assert_eq!(taken, accepted);
    }
    assert_eq!(dave.pull().await.ids(), accepted);
    local.stop().await;
}

async fn expect_all(devices: &mut [Device], group: &str, from: &User, content: &str) {
    for device in devices {
        device.expect_in_group(group, from, content).await;
    }
}

#[tokio::test]
async fn unreadable_jobs_go_to_the_dead_letters_and_delay_nobody() {
    let options = Options { visibility_timeout: Some(Duration::from_millis(50)), ..large_groups() };
    let Some(local) = Local::start(options).await else { return };
    let (alice, [bob, carol, _], group) = group(&local).await;
    let mut online = [bob.connect().await, carol.connect().await];
    let poison = (0..5).map(|n| json!({ "Id": n.to_string(), "MessageBody": format!("poison {n}") }));
    let entries = json!({ "Entries": poison.collect::<Vec<_>>() });
    let (status, answer) = sqs(local.deployment(), "SendMessageBatch", QUEUE, entries).await;
    assert_eq!((status, answer["Successful"].as_array().map(Vec::len)), (200, Some(5)), "{answer}");
    alice.connect().await.send_group(&group, "in between").await;
    expect_all(&mut online, &group, &alice, "in between").await;
    wait_for(local.deployment(), DEAD_LETTERS, "5", "0").await;
    wait_for(local.deployment(), QUEUE, "0", "0").await;
    alice.connect().await.send_group(&group, "afterwards").await;
    expect_all(&mut online, &group, &alice, "afterwards").await;
    local.stop().await;
}

#[tokio::test]
async fn the_stack_runs_queued_jobs_before_it_stops() {
    if Deployment::is_elsewhere() {
        return;
    }
    let directory = Directory::new();
    // Without the last seconds of a connection, which are pulled again, a pull returns exactly what no job delivered.
    let variables = [("FANOUT_MEMBERS", "1"), ("REDELIVER_SECONDS", "0")];
    let options = || Options { data: Some(directory.path()), ..with(&variables) };
    let Some(local) = Local::start(options()).await else { return };
    let (alice, [bob, carol, dave], group) = group(&local).await;
    let (mut sender, mut online) = (alice.connect().await, bob.connect().await);
    let mut accepted = Vec::new();
    for number in 0..30 {
        accepted.push(sender.send_group(&group, number).await.id);
    }
    let stopping = tokio::spawn(local.stop());
    let mut taken = Vec::new();
    while let Some(frame) = online.next_or_end().await {
        taken.push(frame.id());
    }
    stopping.await.expect("the stack stops");
    let local = Local::start(options()).await.expect("the suite runs here");
    let missed = bob.moved_to(local.deployment()).pull().await.ids();
    // A message that was slow to be received is missed as well.
    let all: BTreeSet<String> = taken.into_iter().chain(missed).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), accepted);
    for user in [carol, dave] {
        assert_eq!(user.moved_to(local.deployment()).pull().await.ids(), accepted);
    }
    local.stop().await;
}

#[tokio::test]
async fn a_large_group_learns_of_a_recall_through_the_queue() {
    let Some(local) = Local::start(large_groups()).await else { return };
    let (alice, [bob, ..], group) = group(&local).await;
    let (mut sender, mut receiver) = (alice.connect_2().await, bob.connect_2().await);
    let id = sender.send_group(&group, "oops").await.id;
    receiver.expect_in_group(&group, &alice, "oops").await;
    let to = ("groupId", group.as_str());
    alice.recall(&id, to).await.empty();
    receiver.expect_recall(&id, &alice, to).await;
    sender.expect_recall(&id, &alice, to).await;
    local.stop().await;
}
