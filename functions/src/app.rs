//! The context of every handler: everything that it can reach.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use shared::aws::{Clients, SharedHttpClient};
use shared::bus::Bus;
use shared::clock::{Clock, Ms, SystemClock};
use shared::config::{Config, Origins};
use shared::id::{Ids, UserId};
use shared::metrics::{Metric, Metrics};
use shared::push::Pusher;
use shared::queue::Queue;
use shared::rules::timing::STAMP_MS;
use shared::table::Table;
use shared::token::Verifier;
use shared::{Error, Result, aws};

/// The time between two ticks. Answers whose time must not show an outcome wait for a tick. It is forty times the
/// largest measured difference of such answers.
const TICK_MS: Ms = 4;

/// The time between two coarse ticks, for the acknowledgement of a message whose receivers have connections open. It is
/// longer than a post's slot, the reads of the receivers' states and the records of missed messages together.
const COARSE_TICK_MS: Ms = 40;

/// How long a process opens connections before it asks for its first event.
const MAX_WARM_UP: Duration = Duration::from_secs(1);

/// How many users who have sent too much a process remembers.
const MAX_LIMITED: usize = 1_000;

/// Clients, clock and random numbers of one function instance.
#[derive(Debug)]
pub struct App {
    /// The DynamoDB table.
    pub(crate) table: Table,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// The source of new ids and of jitter.
    pub(crate) ids: Arc<Ids>,
    /// The origins of web pages that may open a WebSocket.
    pub(crate) allowed_origins: Origins,
    /// The counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The name under which CloudWatch keeps the counters.
    pub(crate) metrics_namespace: String,
    /// The highest number of members of a group.
    pub(crate) max_group_members: u32,
    /// A message to a group with more receivers than this goes through the queue.
    pub(crate) fanout_members: usize,
    /// The queue of the fan-out. Without it, a message to a group is delivered in place.
    pub(crate) queue: Option<Queue>,
    /// The bus on which the back end learns what happens. Without it, there are no events.
    pub(crate) bus: Option<Bus>,
    /// Whether events have the content of messages.
    pub(crate) event_content: bool,
    /// How much a user may send in a minute; 0 is no limit.
    pub(crate) messages_per_minute: u32,
    /// The highest number of missed messages that one call returns.
    pub(crate) max_page_messages: usize,
    /// The highest number of groups that a user may be in.
    pub(crate) max_groups: usize,
    /// The highest number of invitations that may wait for a user.
    pub(crate) max_invitations: usize,
    /// The highest number of connections that a user may have open.
    pub(crate) max_connections: usize,
    /// For how long a sender may recall a message.
    pub(crate) recall_ms: Ms,
    /// Messages of this last part of a connection are delivered again if its client did not close it.
    pub(crate) redeliver_ms: Ms,
    limited: Mutex<HashMap<UserId, Ms>>,
    pusher: Option<Pusher>,
    verifier: Option<Verifier>,
}

/// What a function needs besides the table. All code of a part is behind function pointers, so that the binary of a function has
/// only the clients that the function uses.
#[derive(Debug)]
pub(crate) struct Needs {
    /// What verifies tokens.
    pub(crate) verifier: Option<Part<Verifier>>,
    /// The management API of the WebSocket gateway.
    pub(crate) pusher: Option<Part<Pusher>>,
    /// The queue.
    pub(crate) queue: Option<Part<Queue>>,
    /// The bus.
    pub(crate) bus: Option<Part<Bus>>,
}

/// A part of the context.
#[derive(Debug)]
pub(crate) struct Part<T> {
    /// Builds the part, if the configuration has it.
    build: fn(&Clients<'_>) -> Option<T>,
    /// Does what can be done before the first event.
    warm_up: for<'a> fn(&'a T, Ms) -> BoxFuture<'a, ()>,
}

impl Part<Verifier> {
    pub(crate) const VERIFIER: Self =
        Self { build: Verifier::configured, warm_up: |verifier, now| Box::pin(verifier.load(now)) };
}

impl Part<Pusher> {
    pub(crate) const PUSHER: Self =
        Self { build: Pusher::configured, warm_up: |pusher, _| Box::pin(pusher.open_connections()) };
}

impl Part<Queue> {
    pub(crate) const QUEUE: Self =
        Self { build: Queue::configured, warm_up: |queue, _| Box::pin(queue.open_connection()) };
}

impl Part<Bus> {
    pub(crate) const BUS: Self = Self { build: Bus::configured, warm_up: |bus, _| Box::pin(bus.open_connection()) };
}

impl Needs {
    /// Only the table.
    pub(crate) const TABLE: Self = Self { verifier: None, pusher: None, queue: None, bus: None };

    /// Everything.
    const ALL: Self = Self {
        verifier: Some(Part::VERIFIER),
        pusher: Some(Part::PUSHER),
        queue: Some(Part::QUEUE),
        bus: Some(Part::BUS),
    };
}

fn build<T>(part: Option<&Part<T>>, clients: &Clients<'_>) -> Option<T> {
    part.and_then(|part| (part.build)(clients))
}

async fn warm_up<T>(part: Option<&Part<T>>, built: Option<&T>, now: Ms) {
    if let Some((part, built)) = part.zip(built) {
        (part.warm_up)(built, now).await;
    }
}

impl App {
    /// Creates the context of a process with what its function needs. It connects to nothing yet.
    pub(crate) fn of(needs: &Needs, config: &Config) -> Self {
        Self::with(needs, aws::http_client(), config, Arc::new(SystemClock), Arc::new(Ids::unpredictable()))
    }

    /// Creates the context of all functions, with the caller's HTTP client, clock and source of ids.
    pub fn over(http: SharedHttpClient, config: &Config, clock: Arc<dyn Clock>, ids: Arc<Ids>) -> Self {
        Self::with(&Needs::ALL, http, config, clock, ids)
    }

    fn with(needs: &Needs, http: SharedHttpClient, config: &Config, clock: Arc<dyn Clock>, ids: Arc<Ids>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let clients = Clients { config, http, metrics: &metrics };
        Self {
            table: Table::new(clients.dynamodb(), config, clock.clone(), ids.clone()),
            clock,
            ids,
            allowed_origins: config.allowed_origins.clone(),
            max_group_members: config.max_group_members,
            fanout_members: config.fanout_members,
            queue: build(needs.queue.as_ref(), &clients),
            bus: build(needs.bus.as_ref(), &clients),
            event_content: config.event_content,
            messages_per_minute: config.messages_per_minute,
            max_page_messages: config.max_page_messages,
            max_groups: config.max_groups,
            max_invitations: config.max_invitations,
            max_connections: config.max_connections,
            limited: Mutex::default(),
            recall_ms: config.recall_ms,
            redeliver_ms: config.redeliver_ms,
            pusher: build(needs.pusher.as_ref(), &clients),
            verifier: build(needs.verifier.as_ref(), &clients),
            metrics,
            metrics_namespace: config.metrics_namespace.clone(),
        }
    }

    /// Opens the connections that the function will use, side by side, and fetches the keys that verify tokens. What fails or
    /// takes too long is done when it is needed.
    pub(crate) async fn warm_up(&self, needs: &Needs, uses_table: bool) {
        let now = self.clock.now_ms();
        let table = async {
            if uses_table {
                self.table.open_connections().await;
            }
        };
        let warming = futures::future::join5(
            table,
            warm_up(needs.verifier.as_ref(), self.verifier.as_ref(), now),
            warm_up(needs.pusher.as_ref(), self.pusher.as_ref(), now),
            warm_up(needs.queue.as_ref(), self.queue.as_ref(), now),
            warm_up(needs.bus.as_ref(), self.bus.as_ref(), now),
        );
        if tokio::time::timeout(MAX_WARM_UP, warming).await.is_err() {
            tracing::warn!("opening connections took too long");
        }
    }

    /// Returns the counters of this process.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Remembers that a user has sent too much, so that this process refuses the next frames without a read. A process
    /// remembers few of those users.
    pub(crate) fn remember_limit(&self, user: &UserId, until: Ms) {
        let now = self.clock.now_ms();
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        limited.retain(|_, until| *until > now);
        if limited.len() < MAX_LIMITED {
            limited.insert(user.clone(), until);
        }
    }

    /// Returns until when a user has sent too much, as far as this process remembers.
    pub(crate) fn remembered_limit(&self, user: &UserId) -> Option<Ms> {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner).get(user).copied()
    }

    /// Logs an error once. A failure of the service is logged as an error and counted.
    pub(crate) fn report(&self, error: &Error) {
        if error.is_ours() {
            self.metrics.count(Metric::Unavailable);
            tracing::error!(error = %error.chain(), "failed");
        } else if let Error::Unauthorized(why) = error {
            // With a target of its own, so that the local stack can show why. In the cloud, strangers would fill the log.
            tracing::debug!(target: "refused_token", "answered 401: {why}");
        } else {
            tracing::debug!(error = %error.chain(), "refused");
        }
    }

    /// Resolves when the clock shows `time`.
    pub(crate) async fn wait_until(&self, time: Ms) {
        while let Some(left) = time.checked_sub(self.clock.now_ms()).filter(|left| *left > 0) {
            self.clock.sleep(Duration::from_millis(left)).await;
        }
    }

    /// Resolves when every machine's clock is past `time`.
    pub(crate) async fn wait_past(&self, time: Ms) {
        self.wait_until(time + STAMP_MS).await;
    }

    /// Resolves at the next tick. Answers that differ by much less than a tick are mostly sent at the same tick, so
    /// their time tells less.
    pub(crate) async fn wait_for_tick(&self) {
        self.clock.sleep(self.clock.until_tick(TICK_MS)).await;
    }

    /// Resolves a whole number of coarse ticks after `since`.
    pub(crate) async fn wait_for_coarse_tick(&self, since: Ms) {
        let passed = self.clock.now_ms().saturating_sub(since);
        self.wait_until(since + (passed / COARSE_TICK_MS + 1) * COARSE_TICK_MS).await;
    }

    /// Returns the pusher. [`crate::serve`] makes sure that a function that pushes has one.
    pub(crate) fn pusher(&self) -> Result<&Pusher> {
        self.pusher.as_ref().ok_or_else(|| Error::unavailable("pushing", "MANAGEMENT_ENDPOINT is not set"))
    }

    /// Returns the verifier of tokens. [`crate::serve`] makes sure that a function that verifies has one.
    pub(crate) fn verifier(&self) -> Result<&Verifier> {
        let unset =
            || Error::unavailable("verifying a token", "none of JWT_SECRET_ARN, JWT_SECRET and JWKS_URL is set");
        self.verifier.as_ref().ok_or_else(unset)
    }
}
