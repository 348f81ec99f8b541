//! Finds the deployment under test: at the addresses in the environment, or in this process.

use std::future::pending;
use std::io::Write;
use std::sync::{LazyLock, mpsc};
use std::thread;

use localstack::{Options, Stack};

use super::engine;

/// The addresses of one deployment, and the secret that signs its tokens.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    /// Base address of `/api/*`.
    pub(crate) public: String,
    /// The WebSocket address with its path.
    pub(crate) ws: String,
    /// Base address of `/notification` and `/relationship`.
    pub(crate) internal: String,
    /// Base address of Lambda's Invoke API.
    pub(crate) lambda: String,
    /// The prefix of all function names.
    pub(crate) function_prefix: String,
    /// The HS256 secret.
    pub(crate) secret: String,
}

impl Deployment {
    /// The deployment that all tests share. Each test makes its own users, so tests do not affect each other.
    pub(crate) fn shared() -> Self {
        static SHARED: LazyLock<Deployment> = LazyLock::new(|| named_by_environment().unwrap_or_else(in_this_process));
        SHARED.clone()
    }

    /// A local stack that the test itself has started.
    pub(crate) fn of(stack: &Stack) -> Self {
        Self::local(stack.public_url(), stack.ws_url(), stack.internal_url())
    }

    /// A local stack at these addresses.
    pub(crate) fn local(public: &str, ws: &str, internal: &str) -> Self {
        Self {
            public: public.to_owned(),
            ws: ws.to_owned(),
            internal: internal.to_owned(),
            lambda: internal.to_owned(),
            function_prefix: String::new(),
            secret: shared::config::DEVELOPMENT_SECRET.to_owned(),
        }
    }

    /// Whether the suite runs against the addresses in the environment. A test that needs a stack of its own is then
    /// skipped.
    pub(crate) fn is_elsewhere() -> bool {
        let elsewhere = variable("CHAT_PUBLIC_URL").is_some();
        if elsewhere {
            let thread = std::thread::current();
            // `eprintln!` is shown for failed tests only, so this writes to stderr. A failure to write does not matter.
            let _ = writeln!(std::io::stderr(), "skipped: {}", thread.name().unwrap_or("a test"));
        }
        elsewhere
    }
}

/// How much a user may send in a minute, where a test does not set it: some send a thousand messages at once.
const MESSAGES_PER_MINUTE: &str = "6000";

/// Options for a local stack on free ports, in memory.
pub(crate) fn free_ports() -> Options {
    let environment = [("MESSAGES_PER_MINUTE".to_owned(), MESSAGES_PER_MINUTE.to_owned())].into();
    Options { public_port: 0, internal_port: 0, dynamodb_port: 0, environment, ..Options::default() }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn named_by_environment() -> Option<Deployment> {
    let public = variable("CHAT_PUBLIC_URL")?;
    let internal = required("CHAT_INTERNAL_URL");
    install_tls();
    Some(Deployment {
        public,
        ws: required("CHAT_WS_URL"),
        lambda: variable("CHAT_LAMBDA_URL").unwrap_or_else(|| internal.clone()),
        internal,
        function_prefix: variable("CHAT_FUNCTION_PREFIX").unwrap_or_default(),
        secret: required("JWT_SECRET"),
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim_end_matches('/').to_owned()).filter(|value| !value.is_empty())
}

fn required(name: &str) -> String {
    variable(name).unwrap_or_else(|| panic!("{name} must be set where CHAT_PUBLIC_URL is"))
}

/// Starts a stack on its own runtime and threads, because each test creates and drops a runtime.
fn in_this_process() -> Deployment {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
        runtime.block_on(async {
            let mut options = free_ports();
            if let Some(url) = engine::address() {
                options.environment.extend(engine::fresh(&url).await);
                // Small groups have several shards there, and their messages go through the queue.
                options.environment.extend([("ROSTER_SHARD", "3"), ("FANOUT_MEMBERS", "8")].map(owned));
            }
            let stack = Stack::start(options).await.expect("the local stack starts");
            tell.send(Deployment::of(&stack)).expect("the test that asked is waiting");
            pending::<()>().await;
        });
    });
    told.recv().expect("the local stack has started")
}

#[cfg(feature = "tls")]
fn install_tls() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(not(feature = "tls"))]
fn install_tls() {}
