//! The context that every handler is given: everything that it can reach.

use std::sync::Arc;
use std::time::Duration;

use shared::aws::SharedHttpClient;
use shared::clock::{Clock, Ms, SystemClock};
use shared::config::{Config, Origins};
use shared::id::Ids;
use shared::metrics::{Metric, Metrics};
use shared::push::Pusher;
use shared::queue::Queue;
use shared::rules::timing::STAMP_MS;
use shared::table::Table;
use shared::token::Verifier;
use shared::{Error, Result, aws};

/// How far apart the ticks are by which answers are given that must not tell by their time what became of something:
/// forty times what such answers were measured to differ by.
const TICK_MS: Ms = 4;

/// How far apart the coarse ones are, by which a message is acknowledged whose receivers have connections open: longer
/// than a post has its slot, the receivers' states are read and what they did not take is written down.
const COARSE_TICK_MS: Ms = 40;

/// Clients, clock and chance of one function instance.
#[derive(Debug)]
pub struct App {
    /// The DynamoDB table.
    pub(crate) table: Table,
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// New ids, and jitter.
    pub(crate) ids: Arc<Ids>,
    /// Who may open a WebSocket from a browser.
    pub(crate) allowed_origins: Origins,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Under which name CloudWatch keeps it.
    pub(crate) metrics_namespace: String,
    /// How many members a group may have.
    pub(crate) max_group_members: u32,
    /// Beyond how many receivers a message to a group goes through the queue.
    pub(crate) fanout_members: usize,
    /// The queue of the fan-out. Without it, a message to a group is delivered in place.
    pub(crate) queue: Option<Queue>,
    /// How many missed messages one call returns.
    pub(crate) max_page_messages: usize,
    /// How many groups a user may be in.
    pub(crate) max_groups: usize,
    /// How many invitations may wait for a user.
    pub(crate) max_invitations: usize,
    /// How many connections a user may have open.
    pub(crate) max_connections: usize,
    /// How much of what a connection took last comes again if its client did not close it.
    pub(crate) redeliver_ms: Ms,
    pusher: Option<Pusher>,
    verifier: Option<Verifier>,
}

impl App {
    /// The context of a process that is configured so. Nothing is connected to yet.
    pub fn new(config: &Config) -> Self {
        Self::over(aws::http_client(), config, Arc::new(SystemClock), Arc::new(Ids::unpredictable()))
    }

    /// The same over an HTTP client, with a clock and chance, of the caller's choice.
    pub fn over(http: SharedHttpClient, config: &Config, clock: Arc<dyn Clock>, ids: Arc<Ids>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let dynamodb = aws::dynamodb(config, http.clone(), &metrics);
        let queue = |url: &String| Queue::new(aws::sqs(config, http.clone(), &metrics), url.clone());
        Self {
            table: Table::new(dynamodb, config, clock.clone(), ids.clone()),
            clock,
            ids,
            allowed_origins: config.allowed_origins.clone(),
            max_group_members: config.max_group_members,
            fanout_members: config.fanout_members,
            queue: config.fanout_queue.as_ref().map(queue),
            max_page_messages: config.max_page_messages,
            max_groups: config.max_groups,
            max_invitations: config.max_invitations,
            max_connections: config.max_connections,
            redeliver_ms: config.redeliver_ms,
            pusher: aws::management(config, http.clone(), &metrics).map(Pusher::new),
            verifier: config.tokens.as_ref().map(Verifier::new),
            metrics,
            metrics_namespace: config.metrics_namespace.clone(),
        }
    }

    /// What this process has counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Write a failure to the log, loudly and counted if it is ours, and in any case no more than once.
    pub(crate) fn report(&self, error: &Error) {
        if error.is_ours() {
            self.metrics.count(Metric::Unavailable);
            tracing::error!(error = %error.chain(), "failed");
        } else {
            tracing::debug!(error = %error.chain(), "refused");
        }
    }

    /// Resolves when the clock shows that time.
    pub(crate) async fn wait_until(&self, time: Ms) {
        while let Some(left) = time.checked_sub(self.clock.now_ms()).filter(|left| *left > 0) {
            self.clock.sleep(Duration::from_millis(left)).await;
        }
    }

    /// Resolves when every machine's clock is past a time that this one has shown, or shows soon.
    pub(crate) async fn wait_past(&self, time: Ms) {
        self.wait_until(time + STAMP_MS).await;
    }

    /// Resolves at the next tick of a coarse clock. What is answered then takes as long as another answer that took a
    /// little less or more: who measures cannot tell what made the difference.
    pub(crate) async fn wait_for_tick(&self) {
        self.clock.sleep(self.clock.until_tick(TICK_MS)).await;
    }

    /// Resolves a whole number of coarse ticks after that time.
    pub(crate) async fn wait_for_coarse_tick(&self, since: Ms) {
        let passed = self.clock.now_ms().saturating_sub(since);
        self.wait_until(since + (passed / COARSE_TICK_MS + 1) * COARSE_TICK_MS).await;
    }

    /// What pushes. [`crate::serve`] makes sure that a function that pushes has it.
    pub(crate) fn pusher(&self) -> Result<&Pusher> {
        self.pusher.as_ref().ok_or_else(|| Error::unavailable("pushing", "MANAGEMENT_ENDPOINT is not set"))
    }

    /// What verifies tokens. [`crate::serve`] makes sure that a function that verifies has it.
    pub(crate) fn verifier(&self) -> Result<&Verifier> {
        let unset = || Error::unavailable("verifying a token", "neither JWT_SECRET nor JWKS_URL is set");
        self.verifier.as_ref().ok_or_else(unset)
    }
}
