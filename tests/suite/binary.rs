//! The local stack as a program on the command line. Skipped if the suite runs against a deployment.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, ExitStatus, Output, Stdio};
use std::sync::LazyLock;

use futures::future::{join, join_all};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::stack::Directory;
use crate::world::device::Closed;
use crate::world::scene::{friends_at, group_of};
use crate::world::token::Claims;
use crate::world::{Deployment, Device, User, within};

/// The program, built with the same profile as this suite.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let suite = std::env::current_exe().expect("a running program has a path");
    let profile = suite.ancestors().nth(2).expect("the suite lies in {target}/{profile}/deps");
    build(profile);
    let program = profile.join("localstack").with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.is_file(), "{} is missing: run `cargo build` first", program.display());
    program
});

/// Builds the program, because `cargo test` builds no programs of other packages. This is quick if it is built already.
fn build(profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Blocking::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bin", "localstack", "--manifest-path"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    if profile.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    // Without cargo, an existing program beside the suite is used.
    let built = command.status().is_ok_and(|status| status.success());
    assert!(built || profile.join("localstack").is_file(), "the program `localstack` could not be built");
}

/// A command for the program, without the configuration of this process.
fn command(arguments: &[&str]) -> Command {
    command_under("true", arguments)
}

/// The same, after a line of shell that limits the program.
fn command_under(limit: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"{limit}; exec "$0" "$@""#)]).arg(&*PROGRAM);
    command.args(arguments).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["JWT_SECRET", "JWKS_URL", "RUST_LOG", "LOG_LEVEL"] {
        command.env_remove(name);
    }
    command
}

/// The running program.
pub(crate) struct Running {
    child: Child,
    pub(crate) deployment: Deployment,
    pub(crate) dynamodb: String,
    log: JoinHandle<String>,
}

impl Running {
    /// Starts the program on free ports, and waits for its ready line.
    async fn start(more: &[&str]) -> Self {
        Self::under("true", more).await
    }

    /// Starts the program after a line of shell that limits it.
    pub(crate) async fn under(limit: &str, more: &[&str]) -> Self {
        let free = ["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"];
        Self::of(&mut command_under(limit, &[&free[..], more].concat())).await
    }

    async fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program can be run");
        let mut log = child.stderr.take().expect("the log is piped");
        let log = tokio::spawn(async move {
            let mut text = String::new();
            log.read_to_string(&mut text).await.expect("the log is text");
            text
        });
        let mut lines = BufReader::new(child.stdout.as_mut().expect("the output is piped")).lines();
        let line = within("the ready line", lines.next_line()).await.expect("the output is text");
        let line = line.expect("the program says that it is ready");
        let (deployment, dynamodb) = addresses_of(&line);
        Self { child, deployment, dynamodb, log }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    /// Limits the size of each file that the program writes.
    #[cfg(target_os = "linux")]
    pub(crate) fn limit_files(&self, bytes: u64) {
        let id = i32::try_from(self.id()).expect("it is running");
        let limit = Some((bytes, rlimit::INFINITY));
        rlimit::prlimit(id, rlimit::Resource::FSIZE, limit, None).expect("a child can be limited");
    }

    /// Starts the program on a new directory that keeps its data, or returns nothing if the suite runs against a
    /// deployment.
    async fn keeping() -> Option<(Directory, Self)> {
        if Deployment::is_elsewhere() {
            return None;
        }
        let directory = Directory::new();
        let running = Self::start_on(&directory).await;
        Some((directory, running))
    }

    async fn start_on(directory: &Directory) -> Self {
        Self::start(&["--data", directory.path().to_str().expect("the directory has a plain name")]).await
    }

    /// Stops the program by SIGTERM.
    async fn terminate(self) -> ExitStatus {
        self.stop().await.0
    }

    /// Stops the program by SIGTERM, and returns its log.
    pub(crate) async fn stop(mut self) -> (ExitStatus, String) {
        let id = self.id().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "a signal can be sent");
        let status = within("the end of the program", self.child.wait()).await.expect("a child can be awaited");
        (status, within("the end of the log", self.log).await.expect("the log is read"))
    }

    /// Kills the program, as a power failure does.
    async fn kill(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}

/// Parses `ready public=http://… internal=http://… dynamodb=http://…`. Returns the deployment and the address of its
/// database.
fn addresses_of(line: &str) -> (Deployment, String) {
    let words: Vec<&str> = line.split(' ').collect();
    let ["ready", public, internal, dynamodb] = words[..] else { panic!("expected the ready line; got {line:?}") };
    let address = |word: &str, name: &str| {
        let url = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
        url.filter(|url| url.starts_with("http://127.0.0.1:")).unwrap_or_else(|| panic!("{name}: {line:?}")).to_owned()
    };
    let public = address(public, "public");
    let ws = format!("{}/ws", public.replacen("http", "ws", 1));
    (Deployment::local(&public, &ws, &address(internal, "internal")), address(dynamodb, "dynamodb"))
}

/// Runs the program to its end, which comes at once.
async fn run(arguments: &[&str]) -> Output {
    within("the end of the program", command(arguments).output()).await.expect("the program can be run")
}

/// Asserts that the program exited with code 2 and an error that contains `named`.
fn assert_refused(output: &Output, named: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(output.stdout, b"", "{said}");
    assert!(said.contains(named), "expected it to name {named:?}: {said}");
}

fn is_one_line(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).trim_end().lines().count() == 1
}

#[tokio::test]
async fn it_prints_its_addresses_when_it_is_ready() {
    if Deployment::is_elsewhere() {
        return;
    }
    let running = Running::start(&[]).await;
    let (alice, bob) = friends_at(&running.deployment).await;
    let mut online = bob.connect().await;
    alice.connect().await.send(&bob, "hi").await;
    online.expect_private(&alice, "hi").await;
    assert_eq!(running.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_used_port_is_a_one_line_error() {
    if Deployment::is_elsewhere() {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let free = ["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"];
    for option in ["--public-port", "--internal-port", "--dynamodb-port"] {
        let mut arguments = free;
        let index = free.iter().position(|argument| *argument == option).unwrap();
        arguments[index + 1] = &port;
        let output = run(&arguments).await;
        assert_refused(&output, &port);
        assert!(is_one_line(&output), "{output:?}");
    }
}

#[tokio::test]
async fn an_unreadable_template_is_a_one_line_error() {
    if Deployment::is_elsewhere() {
        return;
    }
    let output = run(&["--public-port", "0", "--template", "no-such-template.yaml"]).await;
    assert_refused(&output, "no-such-template.yaml");
    assert!(is_one_line(&output), "{output:?}");
}

#[tokio::test]
async fn a_wrong_option_is_refused() {
    if Deployment::is_elsewhere() {
        return;
    }
    assert_refused(&run(&["--no-such-option"]).await, "--no-such-option");
    assert_refused(&run(&["--public-port", "many"]).await, "--public-port");
    assert_refused(&run(&["--public-port", "65536"]).await, "--public-port");
}

/// Options for a program that other machines may reach, on free ports.
const FOR_THE_NETWORK: [&str; 8] =
    ["--host", "0.0.0.0", "--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"];

#[tokio::test]
async fn the_network_needs_a_secret_of_ones_own() {
    if Deployment::is_elsewhere() {
        return;
    }
    let output = run(&FOR_THE_NETWORK).await;
    assert_refused(&output, "--host 0.0.0.0");
    assert_refused(&output, "set JWT_SECRET");
    assert!(is_one_line(&output), "{output:?}");
    assert_refused(&run(&["--host", "everywhere"]).await, "--host");
}

/// 127.0.0.2 is this machine too. It reaches a listener on all addresses, but none on 127.0.0.1.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_network_reaches_the_public_port_alone() {
    if Deployment::is_elsewhere() {
        return;
    }
    let secret = "export JWT_SECRET=a-secret-of-this-test-and-of-no-other";
    let running = Running::under(secret, &FOR_THE_NETWORK[..2]).await;
    let reaches = async |url: &str| {
        let port = url.rsplit(':').next().expect("a port");
        tokio::net::TcpStream::connect(format!("127.0.0.2:{port}")).await.is_ok()
    };
    assert!(reaches(&running.deployment.public).await);
    assert!(!reaches(&running.deployment.internal).await);
    assert!(!reaches(&running.dynamodb).await);
    let (status, log) = running.stop().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("without encryption"), "{log}");
}

#[tokio::test]
async fn it_prints_help() {
    if Deployment::is_elsewhere() {
        return;
    }
    let output = run(&["--help"]).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for word in ["--public-port", "--internal-port", "--dynamodb-port", "--data", "token"] {
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn it_prints_a_valid_token() {
    if Deployment::is_elsewhere() {
        return;
    }
    let output = run(&["token", "alice"]).await;
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), token.lines().count()), (Some(0), 1), "{token}");
    let alice = User::with_id(&Deployment::shared(), "alice").with_token(token.trim_end().to_owned());
    let group = alice.create_group("walkers").await;
    assert_eq!(alice.group(&group).await.manager_id, "alice");
    let output = run(&["token", "alice", "--page", "http://192.0.2.1:3000/"]).await;
    let address = String::from_utf8(output.stdout).unwrap();
    assert!(address.starts_with("http://192.0.2.1:3000/#token=ey") && address.lines().count() == 1, "{address}");
    assert_refused(&run(&["token", "not an id"]).await, "not an id");
    assert_refused(&run(&["token", "alice", "--expires", "0"]).await, "--expires");
    assert_refused(&run(&["token", "alice", "--page", "192.0.2.1:3000"]).await, "starts with http://");
}

#[tokio::test]
async fn sigterm_is_a_graceful_stop() {
    let Some((directory, running)) = Running::keeping().await else { return };
    let (alice, bob) = friends_at(&running.deployment).await;
    let mut online = alice.connect().await;
    online.send(&bob, "missed").await;
    let (closed, status) = join(online.expect_close(), running.terminate()).await;
    assert_eq!((closed, status.code()), (Closed(Some(1001)), Some(0)));
    let running = Running::start_on(&directory).await;
    assert_eq!(bob.moved_to(&running.deployment).pull().await.contents(), ["missed"]);
    running.kill().await;
}

/// Sends until the server is gone. Returns the acknowledged ids.
async fn send_until_killed(mut device: Device, to: User) -> Vec<String> {
    let mut accepted = Vec::new();
    while let Some(message) = device.try_send(&to, accepted.len()).await {
        accepted.push(message.id);
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_message_survives_a_kill_during_traffic() {
    let Some((directory, running)) = Running::keeping().await else { return };
    let (alice, bob) = friends_at(&running.deployment).await;
    let mut traffic = Vec::new();
    for _ in 0..4 {
        traffic.push(tokio::spawn(send_until_killed(alice.connect().await, bob.clone())));
    }
    let mut probe = alice.connect().await;
    let mut accepted = Vec::new();
    for n in 0..50 {
        accepted.push(probe.send(&bob, n).await.id);
    }
    running.kill().await;
    accepted.extend(join_all(traffic).await.into_iter().flat_map(Result::unwrap));

    let running = Running::start_on(&directory).await;
    let kept = bob.moved_to(&running.deployment).pull().await.ids();
    let lost: Vec<&String> = accepted.iter().filter(|id| !kept.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), accepted.len());
    running.kill().await;
}

#[tokio::test]
async fn a_user_connected_at_a_kill_loses_no_message() {
    let Some((directory, running)) = Running::keeping().await else { return };
    let (alice, bob) = friends_at(&running.deployment).await;
    let group = group_of(&alice, &[&bob]).await;
    let online = bob.connect().await;
    running.kill().await;
    online.vanish();

    // The database does not know that bob's connection has ended.
    let running = Running::start_on(&directory).await;
    let [alice, bob] = [&alice, &bob].map(|user| user.moved_to(&running.deployment));
    let mut online = alice.connect().await;
    online.send(&bob, "private").await;
    online.send_group(&group, "to all").await;
    assert_eq!(bob.pull_with(&[("drop", "false")]).await.contents(), ["private", "to all"]);
    assert_eq!(bob.pull().await.contents(), ["private", "to all"]);
    assert!(bob.pull().await.is_empty());
    running.kill().await;
}

#[tokio::test]
async fn no_log_holds_a_token_a_secret_or_a_content() {
    if Deployment::is_elsewhere() {
        return;
    }
    let free = ["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"];
    let running = Running::of(command(&free).env("LOG_LEVEL", "trace")).await;
    let (alice, bob) = friends_at(&running.deployment).await;
    let mut online = alice.connect().await;
    online.send(&bob, "a-content-to-be-found").await;
    online.send_text(r#"{"type":"bogus","content":"a-content-to-be-found"}"#).await;
    online.expect_error("bad_request", "type").await;
    bob.pull().await;
    let (_, log) = running.stop().await;
    assert!(!log.is_empty(), "the log is read");
    for secret in [alice.token(), bob.token(), shared::config::DEVELOPMENT_SECRET, "a-content-to-be-found"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn the_log_says_why_a_token_is_refused_and_the_answer_does_not() {
    if Deployment::is_elsewhere() {
        return;
    }
    let running = Running::start(&[]).await;
    let secret = &running.deployment.secret;
    let of_alice = || Claims::of("alice");
    let reasons = [
        (of_alice().signed("another-secret-of-at-least-32-bytes"), "the token was signed with another secret or key"),
        (of_alice().with("exp", 1).signed(secret), "the token has expired (exp)"),
        (of_alice().with("nbf", 4_000_000_000_u64).signed(secret), "the token is not valid yet (nbf)"),
        (of_alice().without("sub").signed(secret), "the token cannot be read: JSON error: missing field `sub`"),
        ("nonsense".to_owned(), "the token cannot be read: InvalidToken"),
    ];
    for (token, _) in &reasons {
        let answer =
            reqwest::get(format!("{}/api/group?access_token={token}", running.deployment.public)).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(answer.text().await.unwrap().contains("a valid access_token is needed"));
    }
    let (_, log) = running.stop().await;
    for (_, reason) in reasons {
        assert!(log.contains(reason), "{reason} is not in {log}");
    }
}
