//! A large group that the back end makes, job by job. The functions run in this process, and the test runs the jobs.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use functions::{fanout, manage_group};
use futures::future::maybe_done;
use serde_json::{Value, json};
use shared::aws::SharedHttpClient;

use crate::fragile::Fragile;
use crate::inside::{Inside, body, call};
use crate::jobs::event;
use crate::simulation::world::{Wire, World};
use crate::world::Deployment;

/// A configuration with a queue, large groups, and small shards.
const LARGE: [(&str, &str); 3] = [
    ("FANOUT_QUEUE_URL", "http://sqs.simulated/1/FanoutQueue"),
    ("MAX_GROUP_MEMBERS", "100000"),
    ("ROSTER_SHARD", "500"),
];

struct Scene(Inside);

impl Scene {
    fn new(more: &[(&str, &str)]) -> Option<Self> {
        let variables: Vec<_> = LARGE.iter().chain(more).copied().collect();
        (!Deployment::is_elsewhere()).then(|| Self(Inside::with(1, &variables)))
    }

    async fn invoke(&self, payload: Value) -> Value {
        let answer = self.0.invoke(&manage_group::FUNCTION, &payload.to_string()).await.expect("the call succeeds");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Asks for a group of the manager and so many others. Returns its id and the jobs.
    async fn ask(&self, others: usize) -> (String, Vec<String>) {
        let users: Vec<String> = (0..others).map(|n| format!("user-{n:05}")).collect();
        let payload = json!({
            "method": "POST", "name": "all", "managerId": "agent", "usersId": users, "requestId": "r",
        });
        let group = self.invoke(payload).await.as_str().expect("an id").to_owned();
        (group, self.0.world().take_jobs())
    }

    /// Asks for another group with the `requestId` of the first.
    async fn ask_for_another(&self, others: usize) {
        let users: Vec<String> = (0..others).map(|n| format!("user-{n:05}")).collect();
        let payload = json!({
            "method": "POST", "name": "others", "managerId": "agent", "usersId": users, "requestId": "r",
        });
        let refused = self.0.invoke(&manage_group::FUNCTION, &payload.to_string()).await;
        let refusal = format!("{:?}", refused.expect_err("a refusal"));
        assert!(refusal.contains("requestId"), "{refusal}");
        assert!(self.0.world().take_jobs().is_empty());
    }

    async fn get(&self, group: &str) -> Value {
        self.invoke(json!({ "method": "GET", "groupId": group })).await
    }

    async fn run(&self, jobs: &[String]) {
        let answer = self.0.invoke(&fanout::FUNCTION, &event(jobs)).await.expect("an answer");
        assert_eq!(answer, r#"{"batchItemFailures":[]}"#);
    }

    async fn groups_of(&self, user: &str) -> Value {
        let list = call("GET", user, "/api/group", None, "&detailed=false", None);
        body(&self.0.done(&functions::list_groups::FUNCTION, &list).await)
    }

    async fn pull(&self, user: &str) {
        let pull = call("GET", user, "/api/message", None, "", None);
        self.0.done(&functions::pull_messages::FUNCTION, &pull).await;
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_group_exists_once_all_its_members_are_written() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (group, jobs) = scene.ask(2_499).await;
    assert_eq!(jobs.len(), 3);
    assert_eq!(
        scene.get(&group).await,
        json!({ "id": group, "name": "all", "managerId": "agent", "members": 0, "making": true })
    );
    scene.run(&jobs[..1]).await;
    // Long afterwards, a pull of a member keeps the membership.
    pass(3_600).await;
    scene.pull("user-00007").await;
    assert_eq!(scene.groups_of("user-00007").await, json!([]));
    assert_eq!(scene.get(&group).await["members"], 1_000);
    scene.run(&jobs[1..2]).await;
    scene.run(&jobs[1..2]).await;
    assert!(scene.0.world().take_jobs().is_empty(), "one part is missing");
    scene.run(&jobs[2..]).await;
    let last = scene.0.world().take_jobs();
    assert_eq!(last.len(), 1);
    assert_eq!(scene.get(&group).await["making"], true);
    pass(20).await;
    scene.run(&last).await;
    let shown = scene.get(&group).await;
    assert_eq!((&shown["members"], shown.get("making")), (&json!(2_500), None));
    let users = shown["usersId"].as_array().expect("the members");
    assert_eq!((users.len(), &users[0]), (2_500, &json!("agent")));
    assert_eq!(scene.groups_of("user-02498").await, json!([group]));
    // Every member is where the roster is read, and may leave.
    for user in ["user-00007", "user-01500", "user-02498"] {
        scene.0.leave(user, &group).await;
    }
    assert_eq!(scene.get(&group).await["members"], 2_497);
    // Jobs that come late change nothing.
    scene.run(&jobs).await;
    scene.run(&last).await;
    let shown = scene.get(&group).await;
    assert_eq!((&shown["members"], shown["usersId"].as_array().map(Vec::len)), (&json!(2_497), Some(2_497)));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_the_call_goes_on_with_the_same_group() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (group, first) = scene.ask(1_500).await;
    scene.run(&first[..1]).await;
    for others in [3, 1_500] {
        scene.ask_for_another(others).await;
    }
    let (again, second) = scene.ask(1_500).await;
    assert_eq!(again, group);
    scene.run(&second).await;
    pass(20).await;
    for job in scene.0.world().take_jobs() {
        scene.run(&[job]).await;
    }
    assert_eq!(scene.get(&group).await["members"], 1_501);
    let (made, jobs) = scene.ask(1_500).await;
    assert_eq!((made, jobs.len()), (group, 0));
    for others in [3, 1_500] {
        scene.ask_for_another(others).await;
    }
}

#[tokio::test(start_paused = true)]
async fn users_at_their_limit_of_groups_are_left_out() {
    let Some(scene) = Scene::new(&[("MAX_GROUPS", "1")]) else { return };
    scene.0.create_group("user-00003").await;
    let (group, jobs) = scene.ask(1_200).await;
    // A part that is done in part, and then again, counts the same.
    for _ in 0..2 {
        scene.run(&jobs).await;
    }
    pass(20).await;
    scene.run(&scene.0.world().take_jobs()).await;
    let shown = scene.get(&group).await;
    assert_eq!((&shown["members"], shown["usersId"].as_array().map(Vec::len)), (&json!(1_200), Some(1_200)));
    assert!(!shown["usersId"].to_string().contains("user-00003"));
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_group_that_is_being_made_reaches_nobody() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (group, jobs) = scene.ask(1_200).await;
    scene.run(&jobs).await;
    let phone = scene.0.connect("user-00001").await;
    let frame = json!({ "type": "multicast", "groupId": group, "content": "early", "requestId": "r" });
    scene.0.send("user-00001", &phone, &frame).await;
    assert_eq!(scene.0.frames(&phone)[0]["type"], "ACK", "as for any group that does not exist");
    pass(20).await;
    scene.run(&scene.0.world().take_jobs()).await;
    let pull = call("GET", "user-00002", "/api/message", None, "", None);
    let pulled: Value = body(&scene.0.done(&functions::pull_messages::FUNCTION, &pull).await);
    assert_eq!(pulled, json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_dissolved_while_it_is_made_never_exists() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (group, jobs) = scene.ask(1_500).await;
    scene.run(&jobs[..1]).await;
    scene.invoke(json!({ "method": "DELETE", "groupId": group })).await;
    let clearing = scene.0.world().take_jobs();
    scene.run(&jobs).await;
    assert!(scene.0.world().take_jobs().is_empty());
    pass(20).await;
    scene.run(&clearing).await;
    let get = json!({ "method": "GET", "groupId": group }).to_string();
    let gone = scene.0.invoke(&manage_group::FUNCTION, &get).await.expect_err("no group");
    assert_eq!(gone.error_type, "NotFound");
    let left = scene.0.world().all_items().into_iter().filter(|item| item["sk"]["S"] != "DRAFT").count();
    assert_eq!(left, 0, "no membership is left");
    let repeat = json!({ "method": "POST", "name": "all", "managerId": "agent", "usersId": [], "requestId": "r" });
    let refused = scene.0.invoke(&manage_group::FUNCTION, &repeat.to_string()).await.expect_err("a refusal");
    assert_eq!(refused.error_type, "Conflict");
}

/// Two calls with one `requestId`, each of which stops at one of its calls to the services.
struct Race {
    scene: Scene,
    calls: [Fragile; 2],
    has_left: Cell<bool>,
}

/// Where the two calls of a race stop, and whether the first one goes on.
#[derive(Debug, Clone, Copy)]
struct Plan {
    stops: [usize; 2],
    is_killed: bool,
}

impl Race {
    fn new() -> Self {
        let world = World::new(1);
        let inside = Inside::over(world.clone(), SharedHttpClient::new(Wire(world.clone())), &LARGE);
        let calls = [(); 2].map(|()| Fragile::over(&world, &LARGE));
        Self { scene: Scene(inside), calls, has_left: Cell::new(false) }
    }

    /// Runs a race for a group of these members, and asserts that the group has those of one call, and that the other call was
    /// refused if it asked for others. Returns which calls stopped.
    async fn run(&self, asked: [&[&str]; 2], plan: Plan) -> [bool; 2] {
        let events = asked.map(|members| {
            let ask = json!({
                "method": "POST", "name": "few", "managerId": "agent", "usersId": members, "requestId": "r",
            });
            ask.to_string()
        });
        let call = |n: usize| self.calls[n].invoke_through(plan.stops[n], &manage_group::FUNCTION, &events[n]);
        let mut first = Box::pin(maybe_done(call(0)));
        let mut stopped = [false; 2];
        stopped[0] = tokio::select! { () = &mut first => false, () = self.calls[0].stopped() => true };
        let mut second = Box::pin(maybe_done(call(1)));
        stopped[1] = tokio::select! { () = &mut second => false, () = self.calls[1].stopped() => true };
        self.run_jobs().await;
        let mut outcomes = Vec::new();
        if plan.is_killed {
            outcomes.push((0, first.as_mut().take_output()));
        } else {
            self.calls[0].go_on();
            first.as_mut().await;
            outcomes.push((0, first.as_mut().take_output()));
        }
        self.leave_if_possible().await;
        self.calls[1].go_on();
        second.as_mut().await;
        outcomes.push((1, second.as_mut().take_output()));
        self.settle().await;
        self.leave_if_possible().await;
        let repeated = self.scene.0.invoke(&manage_group::FUNCTION, &events[0]).await;
        outcomes.push((0, Some(repeated)));
        self.settle().await;
        self.leave_if_possible().await;
        assert!(self.has_left.get(), "{plan:?}: a group was made");
        let roster = self.roster();
        for (asker, outcome) in outcomes {
            let wanted: BTreeSet<String> = asked[asker]
                .iter()
                .filter(|user| **user != "bob")
                .chain(&["agent"])
                .map(|user| (*user).to_owned())
                .collect();
            match outcome {
                Some(Ok(_)) => assert_eq!(roster, wanted, "{plan:?}: call {asker} was answered"),
                Some(Err(failure)) => {
                    let failure = format!("{failure:?}");
                    assert!(failure.contains("requestId"), "{plan:?}: call {asker}: {failure}");
                    assert_ne!(roster, wanted, "{plan:?}: call {asker} was refused");
                }
                None => {}
            }
        }
        stopped
    }

    async fn leave_if_possible(&self) {
        let Some(group) = self.scene.0.world().all_items().into_iter().find(|item| item["sk"]["S"] == "META") else {
            return;
        };
        if !self.has_left.replace(true) {
            let group = group["pk"]["S"].as_str().and_then(|pk| pk.strip_prefix("GROUP#")).expect("a group");
            self.scene.0.leave("bob", group).await;
        }
    }

    async fn run_jobs(&self) {
        for job in self.scene.0.world().take_jobs() {
            self.scene.run(&[job]).await;
        }
    }

    /// Runs the jobs, those of the last step after their delay.
    async fn settle(&self) {
        self.run_jobs().await;
        pass(20).await;
        self.run_jobs().await;
    }

    /// The members of the only group, on whom all items agree.
    fn roster(&self) -> BTreeSet<String> {
        let items = self.scene.0.world().all_items();
        let with = |prefix: &str, name: &str| -> BTreeSet<String> {
            let of = items.iter().filter(|item| item["sk"]["S"].as_str().is_some_and(|sk| sk.starts_with(prefix)));
            of.map(|item| item[name]["S"].as_str().expect("a name").trim_start_matches("USER#").to_owned()).collect()
        };
        let (members, joined) = (with("ROSTER#", "user"), with("VIEW#GROUP#", "pk"));
        assert_eq!(members, joined);
        let meta = items.iter().find(|item| item["sk"]["S"] == "META").expect("a group");
        assert_eq!(meta["memberCount"]["N"], members.len().to_string());
        members
    }
}

#[tokio::test(start_paused = true)]
async fn calls_with_one_request_id_make_one_group() {
    if Deployment::is_elsewhere() {
        return;
    }
    let few: [&[&str]; 2] = [&["bob", "carol"], &["bob", "carol"]];
    let others: [&[&str]; 2] = [&["bob", "carol"], &["bob", "dan"]];
    for (asked, is_killed) in [(few, false), (few, true), (others, false), (others, true)] {
        for first in 1.. {
            let mut has_stopped = false;
            for second in 1.. {
                let stopped = Race::new().run(asked, Plan { stops: [first, second], is_killed }).await;
                has_stopped |= stopped[0];
                if !stopped[1] {
                    break;
                }
            }
            if !has_stopped {
                assert!(first > 5, "the stops reach every call");
                break;
            }
        }
    }
}
