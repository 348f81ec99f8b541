//! Tests that need a local stack of their own: limits, configuration, stop and restart. Skipped if the suite runs
//! against a deployment.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::{join, join_all};
use localstack::{Options, Stack};
use reqwest::Method;

use crate::world::deployment::free_ports;
use crate::world::device::{Closed, unicast};
use crate::world::scene::{friends_at, group_of};
use crate::world::{Deployment, Device, Handshake, User};

/// The WebSocket close code "going away".
const GOING_AWAY: Closed = Closed(Some(1001));

/// The WebSocket close code "message too big".
const TOO_LARGE: Closed = Closed(Some(1009));

/// A local stack of one test.
pub(crate) struct Local {
    stack: Stack,
    deployment: Deployment,
}

impl Local {
    /// Starts a stack, or returns nothing if the suite runs against a deployment.
    pub(crate) async fn start(options: Options) -> Option<Self> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let stack = Stack::start(options).await.expect("the local stack starts");
        Some(Self { deployment: Deployment::of(&stack), stack })
    }

    /// The addresses of the stack.
    pub(crate) fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The address of its database.
    pub(crate) fn dynamodb_url(&self) -> &str {
        self.stack.dynamodb_url()
    }

    /// The permissions that policies give and no function has used.
    pub(crate) fn unused_permissions(&self) -> BTreeSet<String> {
        self.stack.unused_permissions()
    }

    /// A new user of the stack.
    pub(crate) fn user(&self, name: &str) -> User {
        User::of(&self.deployment, name)
    }

    /// Stops the stack as Ctrl-C does.
    pub(crate) async fn stop(self) {
        self.stack.stop().await;
    }
}

/// Options with these environment variables for the functions.
pub(crate) fn with(variables: &[(&str, &str)]) -> Options {
    let mut options = free_ports();
    options.environment.extend(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
    options
}

/// A directory that is removed at the end.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// A path at which nothing exists yet.
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("chat-suite-{:016x}", rand::random::<u64>())))
    }

    /// The path.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The directory may never have been created.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asserts that, with these options, the server closes a connection and later messages are missed.
async fn ends_by_itself(options: Options) {
    let Some(local) = Local::start(options).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    assert_eq!(bob.connect().await.expect_close().await, GOING_AWAY);
    alice.connect().await.send(&bob, "are you there?").await;
    assert_eq!(bob.pull().await.contents(), ["are you there?"]);
    local.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_later_messages_are_missed() {
    ends_by_itself(Options { idle_timeout: Duration::from_secs(1), ..free_ports() }).await;
}

#[tokio::test]
async fn a_ping_keeps_an_idle_connection_open() {
    let options = Options { idle_timeout: Duration::from_secs(2), ..free_ports() };
    let Some(local) = Local::start(options).await else { return };
    let mut alice = local.user("alice").connect().await;
    let mut beat = tokio::time::interval(Duration::from_millis(250));
    for _ in 0..16 {
        beat.tick().await;
        alice.send_text(r#"{"type":"ping"}"#).await;
    }
    alice.expect_nothing().await;
    local.stop().await;
}

#[tokio::test]
async fn a_connection_is_closed_after_its_lifetime() {
    ends_by_itself(Options { max_lifetime: Duration::from_secs(1), ..free_ports() }).await;
}

#[tokio::test]
async fn a_single_frame_over_32_kib_closes_the_connection() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let mut device = alice.connect().await;
    device.send_text(&unicast(bob.id(), None, &format!("\"{}\"", "x".repeat(40 * 1024)))).await;
    assert_eq!(device.expect_close().await, TOO_LARGE);
    assert!(bob.pull().await.is_empty());
    local.stop().await;
}

#[tokio::test]
async fn a_message_over_128_kib_closes_the_connection() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let mut device = alice.connect().await;
    let text = unicast(bob.id(), None, &format!("\"{}\"", "x".repeat(129 * 1024)));
    let fragments: Vec<&str> = text.as_bytes().chunks(30_000).map(|c| std::str::from_utf8(c).unwrap()).collect();
    device.send_fragments(&fragments).await;
    assert_eq!(device.expect_close().await, TOO_LARGE);
    assert!(bob.pull().await.is_empty());
    local.stop().await;
}

#[tokio::test]
async fn a_graceful_stop_closes_every_socket() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let (alice, bob, tab) = (alice.connect().await, bob.connect().await, bob.connect().await);
    let leaving = [alice, bob, tab].map(Device::expect_close);
    let (closed, ()) = join(join_all(leaving), local.stop()).await;
    assert_eq!(closed, [GOING_AWAY, GOING_AWAY, GOING_AWAY]);
}

/// Starts a local stack that keeps its data in this directory.
async fn keeping(directory: &Directory) -> Option<Local> {
    Local::start(Options { data: Some(directory.path()), ..free_ports() }).await
}

#[tokio::test]
async fn groups_relationships_and_missed_messages_survive_a_restart() {
    let directory = Directory::new();
    let Some(local) = keeping(&directory).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let carol = local.user("carol");
    let group = group_of(&alice, &[&bob]).await;
    alice.invite(&carol, &group).await.empty();
    bob.block(&carol).await;
    let mut online = alice.connect().await;
    online.send(&bob, "private").await;
    online.send_group(&group, "to all").await;
    local.stop().await;

    let local = keeping(&directory).await.expect("it ran before");
    let [alice, bob, carol] = [&alice, &bob, &carol].map(|user| user.moved_to(local.deployment()));
    assert_eq!(bob.pull_with(&[("drop", "false")]).await.contents(), ["private", "to all"]);
    assert_eq!(alice.group(&group).await.users_id.len(), 2);
    let ties = bob.back_end().ties(bob.id()).await;
    assert_eq!((ties.friends, ties.blocks), (vec![alice.id().to_owned()], vec![carol.id().to_owned()]));
    carol.accept(&carol.invitation().await.id).await.empty();
    local.stop().await;
}

#[tokio::test]
async fn after_a_restart_users_who_were_online_miss_new_messages() {
    let directory = Directory::new();
    let Some(local) = keeping(&directory).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let (mut alice_online, mut bob_online) = (alice.connect().await, bob.connect().await);
    alice_online.send(&bob, "taken").await;
    bob_online.expect_private(&alice, "taken").await;
    local.stop().await;

    let local = keeping(&directory).await.expect("it ran before");
    let [alice, bob] = [&alice, &bob].map(|user| user.moved_to(local.deployment()));
    alice.connect().await.send(&bob, "missed").await;
    assert_eq!(bob.pull().await.contents_but(&["taken"]), ["missed"]);
    local.stop().await;
}

#[tokio::test]
async fn accepting_an_invitation_to_a_full_group_is_refused() {
    let Some(local) = Local::start(with(&[("MAX_GROUP_MEMBERS", "2")])).await else { return };
    let (alice, bob, carol) = (local.user("alice"), local.user("bob"), local.user("carol"));
    let group = alice.create_group("pair").await;
    alice.invite(&bob, &group).await.empty();
    alice.invite(&carol, &group).await.empty();
    let invitation = carol.invitation().await;
    bob.accept(&bob.invitation().await.id).await.empty();
    carol.accept(&invitation.id).await.refused(403, "");
    assert!(carol.invitations().await.is_empty());
    assert_eq!(alice.group(&group).await.users_id.len(), 2);
    bob.leave_group(&group).await.empty();
    alice.bring(&carol, &group).await;
    local.stop().await;
}

#[tokio::test]
async fn concurrent_acceptances_never_exceed_the_member_limit() {
    let Some(local) = Local::start(with(&[("MAX_GROUP_MEMBERS", "5")])).await else { return };
    let alice = local.user("alice");
    let group = alice.create_group("five").await;
    let users: Vec<User> = (0..10).map(|n| local.user(&format!("user-{n}"))).collect();
    for user in &users {
        alice.invite(user, &group).await.empty();
    }
    let answers = join_all(users.iter().map(async |user| user.accept(&user.invitation().await.id).await)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 4, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 403).count(), 6, "{answers:?}");
    assert_eq!(alice.group(&group).await.users_id.len(), 5);
    local.stop().await;
}

#[tokio::test]
async fn a_handshake_from_another_origin_is_refused() {
    let Some(local) = Local::start(with(&[("ALLOWED_ORIGINS", "https://chat.example,https://other.example")])).await
    else {
        return;
    };
    let alice = local.user("alice");
    for origin in ["https://chat.example", "https://other.example"] {
        Handshake::of(&alice).origin(origin).accepted().await.expect_nothing().await;
    }
    alice.connect().await.expect_nothing().await;
    for origin in ["https://evil.example", "http://chat.example", "https://chat.example.evil.example", "null"] {
        Handshake::of(&alice).origin(origin).refused().await;
    }
    local.stop().await;
}

#[tokio::test]
async fn with_the_development_secret_only_local_pages_are_allowed() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let own = local.deployment().public.clone();
    for (origin, is_allowed) in [
        (own.as_str(), true),
        ("http://localhost:5173", true),
        ("https://[::1]", true),
        ("https://evil.example", false),
        ("http://localhost.evil.example", false),
        ("null", false),
    ] {
        let call = alice.call(Method::GET, "/api/group").header("origin", origin).send().await;
        assert_eq!(call.header("access-control-allow-origin"), is_allowed.then_some(origin));
        match is_allowed {
            true => Handshake::of(&alice).origin(origin).accepted().await.expect_nothing().await,
            false => drop(Handshake::of(&alice).origin(origin).refused().await),
        }
    }
    local.stop().await;
}

#[tokio::test]
async fn allowed_origins_or_an_own_secret_allow_other_pages() {
    for variable in [("ALLOWED_ORIGINS", "*"), ("JWT_SECRET", "a secret of one's own, and long enough")] {
        let Some(local) = Local::start(with(&[variable])).await else { return };
        let call = local.user("alice").anonymous_call(Method::GET, "/api/group").header("origin", "https://a.example");
        assert_eq!(call.send().await.header("access-control-allow-origin"), Some("*"), "{variable:?}");
        local.stop().await;
    }
}

#[tokio::test]
async fn an_own_secret_replaces_the_development_secret() {
    let secret = "a secret of the deployment's own, long enough";
    let Some(local) = Local::start(with(&[("JWT_SECRET", secret)])).await else { return };
    let alice = local.user("alice");
    Handshake::of(&alice).refused().await;
    alice.get("/api/group", &[]).await.refused(401, "");
    let own = Deployment { secret: secret.to_owned(), ..local.deployment().clone() };
    User::of(&own, "alice").connect().await.expect_nothing().await;
    local.stop().await;
}

#[tokio::test]
async fn two_stacks_share_no_data() {
    let Some(one) = Local::start(free_ports()).await else { return };
    let other = Local::start(free_ports()).await.expect("the first ran too");
    let (alice, bob) = friends_at(one.deployment()).await;
    alice.connect().await.send(&bob, "here").await;
    assert!(bob.moved_to(other.deployment()).pull().await.is_empty());
    assert_eq!(bob.pull().await.contents(), ["here"]);
    one.stop().await;
    other.stop().await;
}

/// The members of a group with a thousand sockets, without the sender.
const MEMBERS: usize = 32;

/// The number of sockets of each member.
const SOCKETS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_open_connections_each_get_a_message() {
    // Both ends of each connection are in this process.
    rlimit::increase_nofile_limit(8192).expect("the limit of open files can be read");
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let members: Vec<User> = (0..MEMBERS).map(|n| local.user(&format!("member-{n}"))).collect();
    let group = group_of(&alice, &members.iter().collect::<Vec<&User>>()).await;
    let opening = members.iter().map(|member| Box::pin(sockets_of(member.clone())));
    let mut devices: Vec<Device> = join_all(opening).await.into_iter().flatten().collect();
    assert_eq!(devices.len(), MEMBERS * SOCKETS);
    alice.connect().await.send_group(&group, "to a thousand").await;
    join_all(devices.iter_mut().map(|device| device.expect_in_group(&group, &alice, "to a thousand"))).await;
    local.stop().await;
}

async fn sockets_of(member: User) -> Vec<Device> {
    let mut devices = Vec::new();
    for _ in 0..SOCKETS {
        devices.push(member.connect().await);
    }
    devices
}

/// A request of the page to create a friendship.
const BEFRIEND: &str = r#"{"method":"PUT","userId":"alice","friendId":"bob"}"#;

/// The status of a `POST /dev/…` from a page of this origin.
async fn dev_status(local: &Local, origin: Option<&str>, path: &str, payload: &str) -> u16 {
    let call =
        reqwest::Client::new().post(format!("{}/dev/{path}", local.deployment().public)).body(payload.to_owned());
    let call = origin.into_iter().fold(call, |call, origin| call.header("origin", origin));
    call.send().await.expect("it answers").status().as_u16()
}

#[tokio::test]
async fn only_the_own_page_may_call_dev_endpoints() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let own = local.deployment().public.clone();
    for origin in [None, Some(own.as_str())] {
        assert_eq!(dev_status(&local, origin, "relationship", BEFRIEND).await, 200);
    }
    let [alice, bob] = ["alice", "bob"].map(|name| User::with_id(local.deployment(), name));
    let mut online = bob.connect().await;
    alice.connect().await.send(&bob, "friends").await;
    online.expect_private(&alice, "friends").await;
    for (origin, path, payload, status) in [
        (Some("https://evil.example"), "relationship", BEFRIEND, 404),
        (Some("null"), "relationship", BEFRIEND, 404),
        (Some(own.as_str()), "message", BEFRIEND, 404),
        (Some(own.as_str()), "connect", BEFRIEND, 404),
        (Some(own.as_str()), "relationship", "{}", 400),
        (Some(own.as_str()), "notification", "[", 400),
        (Some("https://evil.example"), "unheard?sender=alice&receiver=bob", "", 404),
        (Some(own.as_str()), "unheard?sender=alice&receiver=bob", "", 204),
        (Some(own.as_str()), "unheard?sender=alice&receiver=%0A", "", 400),
    ] {
        assert_eq!(dev_status(&local, origin, path, payload).await, status, "{origin:?} {path} {payload}");
    }
    local.stop().await;
}

#[tokio::test]
async fn dev_tokens_are_not_served_to_other_sites() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let own = local.deployment().public.clone();
    let ask = |path: &str, headers: &[(&'static str, &str)]| {
        let call = reqwest::Client::new().get(format!("{own}/dev/{path}"));
        let call = headers.iter().fold(call, |call, (name, value)| call.header(*name, *value));
        async { call.send().await.expect("it answers") }
    };
    let token = "token?user=alice";
    for (path, headers, status) in [
        (token, &[][..], 200),
        (token, &[("origin", own.as_str())], 200),
        (token, &[("sec-fetch-site", "same-origin")], 200),
        (token, &[("sec-fetch-site", "none")], 200),
        (token, &[("sec-fetch-site", "cross-site")], 404),
        (token, &[("sec-fetch-site", "same-site")], 404),
        (token, &[("origin", &own), ("origin", &own)], 404),
        (token, &[("origin", &own), ("origin", "https://evil.example")], 404),
        ("token?user=", &[], 400),
        ("relationship", &[], 405),
    ] {
        let answer = ask(path, headers).await;
        assert_eq!(answer.status(), status, "{path} {headers:?}");
        assert_eq!(answer.headers().get("x-content-type-options").expect("it says so"), "nosniff");
    }
    local.stop().await;
}

#[tokio::test]
async fn with_an_own_secret_there_are_no_dev_endpoints() {
    let Some(local) = Local::start(with(&[("JWT_SECRET", "a secret of one's own, and long enough")])).await else {
        return;
    };
    let own = local.deployment().public.clone();
    assert_eq!(dev_status(&local, Some(&own), "relationship", BEFRIEND).await, 404);
    assert_eq!(dev_status(&local, Some(&own), "unheard?sender=alice&receiver=bob", "").await, 404);
    let token = reqwest::get(format!("{own}/dev/token?user=alice")).await.expect("it answers");
    assert_eq!(token.status(), 404);
    local.stop().await;
}
