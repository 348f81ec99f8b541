//! A message to a large group, job by job. Jobs may be late, repeated or unreadable, and receivers may have come or
//! gone before a job runs. The functions run in this process, and the test runs the jobs of the queue.

use std::time::Duration;

use functions::fanout;
use serde_json::{Value, json};

use crate::inside::{Inside, body, call};
use crate::simulation::world::TABLE;
use crate::world::Deployment;

/// A configuration in which each message to a group goes through the queue.
pub(crate) const QUEUED: [(&str, &str); 2] =
    [("FANOUT_MEMBERS", "1"), ("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue")];

/// An SQS event with these jobs. The id of each record is its index.
pub(crate) fn event(jobs: &[String]) -> String {
    let genuine = include_str!("../events/sqs-fanout.json");
    let mut event: Value = serde_json::from_str(genuine).expect("a genuine event is JSON");
    let record = event["Records"][0].clone();
    let record = |(index, job): (usize, &String)| {
        let mut record = record.clone();
        (record["messageId"], record["body"]) = (json!(format!("record-{index}")), json!(job));
        record
    };
    event["Records"] = jobs.iter().enumerate().map(record).collect();
    event.to_string()
}

/// A group of alice, who is online, and others. Each message in it goes through the queue.
struct Scene {
    inside: Inside,
    group: String,
    alice: String,
}

impl Scene {
    async fn new(members: &[&str]) -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let inside = Inside::with(1, &QUEUED);
        let group = inside.create_group("alice").await;
        let alice = inside.connect("alice").await;
        let scene = Self { inside, group, alice };
        for member in members {
            scene.bring(member).await;
        }
        Some(scene)
    }

    async fn bring(&self, user: &str) {
        self.inside.bring("alice", &self.group, user).await;
    }

    async fn leave(&self, user: &str) {
        self.inside.leave(user, &self.group).await;
    }

    /// Alice sends with a request id. Returns the answer.
    async fn send(&self, content: &str) -> Value {
        let frame = json!({
            "type": "multicast", "groupId": self.group, "content": content, "requestId": content,
        });
        self.inside.send("alice", &self.alice, &frame).await;
        self.inside.frames(&self.alice).pop().expect("an answer")
    }

    /// Alice sends, and the message is acknowledged. Returns its jobs.
    async fn jobs_of(&self, content: &str) -> Vec<String> {
        let answer = self.send(content).await;
        assert_eq!(answer["type"], "ACK", "{answer}");
        self.inside.world().take_jobs()
    }

    /// Runs jobs, and returns the records that failed.
    async fn run(&self, jobs: &[String]) -> Vec<String> {
        let answer =
            self.inside.invoke(&fanout::FUNCTION, &event(jobs)).await.expect("an event of a queue is answered");
        let answer: Value = serde_json::from_str(&answer).expect("an answer is JSON");
        let failures = answer["batchItemFailures"].as_array().expect("what failed");
        failures.iter().map(|one| one["itemIdentifier"].as_str().expect("a record").to_owned()).collect()
    }

    async fn run_well(&self, jobs: &[String]) {
        assert!(!jobs.is_empty());
        assert_eq!(self.run(jobs).await, [] as [&str; 0]);
    }

    /// Pulls and drops the messages of a user.
    async fn pull(&self, user: &str) -> Vec<String> {
        let pull = call("GET", user, "/api/message", None, "", None);
        let senders: Value = body(&self.inside.done(&functions::pull_messages::FUNCTION, &pull).await);
        let senders = senders.as_array().expect("senders");
        let messages = senders.iter().flat_map(|sender| sender["messages"].as_array().expect("messages"));
        messages.map(|message| message["content"].as_str().expect("a text").to_owned()).collect()
    }

    /// The contents that a connection received.
    fn contents(&self, connection: &str) -> Vec<String> {
        let frames = self.inside.frames(connection);
        frames.iter().map(|frame| frame["content"].as_str().expect("a text").to_owned()).collect()
    }
}

const NOTHING: [&str; 0] = [];

/// Whether the pulled messages are none, or this one once.
fn is_at_most(pulled: &[String], content: &str) -> bool {
    pulled.len() <= 1 && pulled.iter().all(|one| one == content)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn jobs_deliver_a_message_to_a_large_group() {
    let Some(scene) = Scene::new(&["bob", "carol", "dave"]).await else { return };
    scene.inside.tie("dave", "blockedId", "alice").await;
    let (bob, dave) = (scene.inside.connect("bob").await, scene.inside.connect("dave").await);
    pass(1).await;
    let jobs = scene.jobs_of("hi").await;
    assert_eq!(scene.contents(&bob), NOTHING);
    scene.run_well(&jobs).await;
    assert_eq!(scene.contents(&bob), ["hi"]);
    assert_eq!(scene.pull("carol").await, ["hi"]);
    assert_eq!(scene.contents(&dave), NOTHING);
    for user in ["alice", "bob", "dave"] {
        assert_eq!(scene.pull(user).await, NOTHING, "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_at_the_limit_needs_no_jobs() {
    let Some(scene) = Scene::new(&["bob"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    assert!(scene.jobs_of("hi").await.is_empty());
    assert_eq!(scene.contents(&bob), ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn a_content_that_sqs_would_refuse_is_delivered() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    let odd = "\u{FFFF}\u{0}";
    let jobs = {
        let frame = json!({ "type": "multicast", "groupId": scene.group, "content": odd });
        scene.inside.send("alice", &scene.alice, &frame).await;
        scene.inside.world().take_jobs()
    };
    assert!(jobs.iter().all(|job| job.is_ascii() && !job.contains("content")), "{jobs:?}");
    scene.run_well(&jobs).await;
    assert_eq!(scene.contents(&bob), [odd]);
}

#[tokio::test(start_paused = true)]
async fn disconnecting_before_the_job_misses_the_message() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    for (seconds, content) in [(0, "at once"), (20, "soon"), (3_600, "late")] {
        let bob = scene.inside.connect("bob").await;
        pass(1).await;
        let jobs = scene.jobs_of(content).await;
        // Long enough that the client would have seen the message after a push.
        pass(20).await;
        scene.inside.disconnect("bob", &bob).await;
        // If the message is old enough, a pull before the job drops its time too.
        pass(seconds).await;
        assert_eq!(scene.pull("bob").await, NOTHING, "{content}");
        scene.run_well(&jobs).await;
        assert_eq!(scene.pull("bob").await, [content]);
        assert_eq!(scene.pull("bob").await, NOTHING);
    }
}

#[tokio::test(start_paused = true)]
async fn reconnecting_before_the_job_gets_no_duplicate_push() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let jobs = scene.jobs_of("hi").await;
    pass(5).await;
    let bob = scene.inside.connect("bob").await;
    assert_eq!(scene.pull("bob").await, ["hi"]);
    pass(1).await;
    scene.run_well(&jobs).await;
    assert_eq!(scene.contents(&bob), NOTHING);
    assert_eq!(scene.pull("bob").await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn changing_connections_before_the_job_gets_a_push() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let first = scene.inside.connect("bob").await;
    pass(1).await;
    let jobs = scene.jobs_of("hi").await;
    pass(20).await;
    scene.inside.disconnect("bob", &first).await;
    pass(1).await;
    let second = scene.inside.connect("bob").await;
    assert_eq!(scene.pull("bob").await, NOTHING);
    scene.run_well(&jobs).await;
    assert_eq!(scene.contents(&second), ["hi"]);
    // The first connection covers the message but did not receive it.
    assert_eq!(scene.pull("bob").await, ["hi"]);
    assert_eq!(scene.pull("bob").await, NOTHING);
}

/// A pull returns what only a job would push, if the connection ended just before. The job does not know of the pull,
/// so the message may come again.
#[tokio::test(start_paused = true)]
async fn a_pull_after_a_disconnect_finds_a_message_before_its_job_runs() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    pass(1).await;
    let jobs = scene.jobs_of("hi").await;
    scene.inside.disconnect("bob", &bob).await;
    assert_eq!(scene.pull("bob").await, ["hi"]);
    assert_eq!(scene.pull("bob").await, NOTHING);
    scene.run_well(&jobs).await;
    assert!(is_at_most(&scene.pull("bob").await, "hi"));
    assert_eq!(scene.pull("bob").await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_job_does_not_make_a_message_missed_twice() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    let carol = scene.inside.connect("carol").await;
    pass(1).await;
    let jobs = scene.jobs_of("hi").await;
    scene.inside.disconnect("carol", &carol).await;
    scene.run_well(&jobs).await;
    scene.run_well(&jobs).await;
    let ids: Vec<Value> = scene.inside.frames(&bob).iter().map(|frame| frame["id"].clone()).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
    assert_eq!(scene.pull("bob").await, NOTHING);
    assert_eq!(scene.pull("carol").await, ["hi"]);
    assert_eq!(scene.pull("carol").await, NOTHING);
    // A job does not read the latest drops, so the message may come once more.
    scene.run_well(&jobs).await;
    scene.run_well(&jobs).await;
    assert!(is_at_most(&scene.pull("carol").await, "hi"));
    assert_eq!(scene.pull("carol").await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn leaving_or_blocking_before_the_job_gets_nothing() {
    let Some(scene) = Scene::new(&["bob", "carol", "dave"]).await else { return };
    let (bob, carol) = (scene.inside.connect("bob").await, scene.inside.connect("carol").await);
    let dave = scene.inside.connect("dave").await;
    pass(1).await;
    let jobs = scene.jobs_of("hi").await;
    scene.leave("bob").await;
    scene.inside.tie("carol", "blockedId", "alice").await;
    // A member who rejoins is a new member.
    scene.leave("dave").await;
    scene.bring("dave").await;
    scene.run_well(&jobs).await;
    for (user, connection) in [("bob", &bob), ("carol", &carol), ("dave", &dave)] {
        assert_eq!(scene.contents(connection), NOTHING, "{user}");
        assert_eq!(scene.pull(user).await, NOTHING, "{user}");
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_dissolved_group_succeed_and_push_nothing() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    pass(1).await;
    let jobs = scene.jobs_of("hi").await;
    scene.leave("alice").await;
    scene.run_well(&jobs).await;
    assert_eq!(scene.contents(&bob), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_record_fails_alone() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    pass(1).await;
    let mut jobs = scene.jobs_of("one").await;
    jobs.extend(["poison", "{}", "[]", ""].map(str::to_owned));
    jobs.extend(scene.jobs_of("two").await);
    assert_eq!(scene.run(&jobs).await, ["record-1", "record-2", "record-3", "record-4"]);
    assert_eq!(scene.contents(&bob), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_succeeds_when_repeated() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    pass(1).await;
    let jobs = scene.jobs_of("hi").await;
    let state_of_bob = |change: Value| {
        let mut update = json!({ "TableName": TABLE, "Key": { "pk": { "S": "USER#bob" }, "sk": { "S": "STATE" } } });
        update.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        scene.inside.world().update(&update);
    };
    let spoilt = json!({ ":spoilt": { "N": "1" } });
    state_of_bob(json!({ "UpdateExpression": "SET missed = :spoilt", "ExpressionAttributeValues": spoilt }));
    assert_eq!(scene.run(&jobs).await, ["record-0"]);
    state_of_bob(json!({ "UpdateExpression": "REMOVE missed" }));
    scene.run_well(&jobs).await;
    assert_eq!(scene.contents(&bob), ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_jobs_are_refused_can_be_sent_again() {
    let Some(scene) = Scene::new(&["bob", "carol"]).await else { return };
    let bob = scene.inside.connect("bob").await;
    pass(1).await;
    scene.inside.world().refuse_jobs(true);
    let refused = scene.send("hi").await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("ERROR"), &json!("unavailable")));
    scene.inside.world().refuse_jobs(false);
    let jobs = scene.jobs_of("hi").await;
    scene.run_well(&jobs).await;
    assert_eq!(scene.contents(&bob), ["hi"]);
    // After the acknowledgement, a repeat is acknowledged and not sent.
    assert!(scene.jobs_of("hi").await.is_empty());
    assert_eq!(scene.pull("carol").await, ["hi"]);
}

#[tokio::test(start_paused = true)]
async fn malformed_queue_events_are_refused() {
    let Some(scene) = Scene::new(&[]).await else { return };
    for event in ["", "{}", r#"{"Records":[{"body":"secret"}]}"#, r#"{"Records":"secret"}"#] {
        let failure = scene.inside.invoke(&fanout::FUNCTION, event).await.expect_err(event);
        assert_eq!(failure.error_type, "MalformedEvent");
        assert!(!failure.error_message.contains("secret"), "{failure:?}");
    }
}
