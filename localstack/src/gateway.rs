//! The state that the listeners share: routes, functions and open connections. It also runs functions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use functions::{App, Failure, Function};
use shared::config::{Origins, TokenConfig};
use shared::metrics::Metric;
use tokio::sync::{AcquireError, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Bus;
use crate::connections::Connections;
use crate::policies::run_as;
use crate::queue::store::Queue;
use crate::routes::Routes;
use crate::template::{Cors, SocketApi, Template};
use crate::turns;

/// The largest result of a function, as in Lambda.
const MAX_RESULT_BYTES: usize = 6 * 1024 * 1024;

/// How long the gateway waits for a function.
pub(crate) const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(29);

/// How many functions run at the same time, including those that only wait. Lambda has such a limit too. One connection may
/// use a quarter of it.
const MAX_RUNNING: usize = 512;

/// How many functions are on the way to their first wait at the same time. See [`turns`].
const MAX_TURNS: usize = 32;

/// How many `$connect` and `$disconnect` calls run at the same time, so that messages are still handled meanwhile.
const MAX_HANDSHAKES: usize = 64;

/// The gateway, shared by its listeners and by every connection.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The WebSocket API.
    pub(crate) socket: SocketApi,
    /// The routes that clients call.
    pub(crate) public: Routes,
    /// The routes that other services call.
    pub(crate) internal: Routes,
    /// The CORS settings, if there are any.
    pub(crate) cors: Option<Cors>,
    /// The origins of web pages that may call.
    pub(crate) origins: Origins,
    /// The settings of tokens for the page, if the secret is the development secret.
    pub(crate) development_tokens: Option<TokenConfig>,
    /// The queues that functions take jobs from.
    pub(crate) queues: Vec<Arc<Queue>>,
    /// The bus on which functions put events.
    pub(crate) bus: Arc<Bus>,
    /// The open connections.
    pub(crate) connections: Connections,
    /// A connection is closed after this time without a frame.
    pub(crate) idle_timeout: Duration,
    /// A connection is closed when it has been open for this time.
    pub(crate) max_lifetime: Duration,
    /// How long a client may take to send the body of a request.
    pub(crate) request_timeout: Duration,
    /// Limits how many handshakes and disconnects run at the same time. Others wait.
    pub(crate) doorway: Semaphore,
    /// The tasks that the stack waits for when it stops.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the stack stops.
    pub(crate) stopping: CancellationToken,
    running: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    functions: HashMap<&'static str, &'static Function>,
    function_timeout: Duration,
    app: Arc<App>,
    /// Reports each invocation to tests: the function and its event.
    #[cfg(test)]
    pub(crate) invoked: tokio::sync::broadcast::Sender<(String, String)>,
}

/// The settings of a gateway that do not come from the template.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) origins: Origins,
    pub(crate) development_tokens: Option<TokenConfig>,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_lifetime: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) visibility_timeout: Option<Duration>,
    pub(crate) bus: Arc<Bus>,
}

impl Gateway {
    /// Creates a gateway with the routes of a template, or returns why routes and functions do not match.
    pub(crate) fn new(template: Template, app: Arc<App>, settings: Settings) -> Result<Self, String> {
        let functions: HashMap<_, _> = functions::ALL.iter().map(|function| (function.name, *function)).collect();
        let routed = template.functions();
        if let Some(unknown) = routed.iter().find(|name| !functions.contains_key(**name)) {
            return Err(format!("a route leads to {unknown}, which is no function"));
        }
        if let Some(unrouted) = functions.keys().find(|name| !routed.contains(**name)) {
            return Err(format!("no route leads to the function {unrouted}"));
        }
        Ok(Self {
            public: Routes::new(&template.public.routes)?,
            internal: Routes::new(&template.internal.routes)?,
            cors: template.public.cors,
            socket: template.socket,
            queues: template.queues.into_iter().map(|queue| Queue::new(queue, settings.visibility_timeout)).collect(),
            bus: settings.bus,
            origins: settings.origins,
            development_tokens: settings.development_tokens,
            connections: Connections::default(),
            idle_timeout: settings.idle_timeout,
            max_lifetime: settings.max_lifetime,
            request_timeout: settings.request_timeout,
            doorway: Semaphore::new(MAX_HANDSHAKES),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            turns: Arc::new(Semaphore::new(MAX_TURNS)),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            function_timeout: template.function_timeout,
            functions,
            app,
            #[cfg(test)]
            invoked: tokio::sync::broadcast::Sender::new(64),
        })
    }

    /// Returns the total of a metric over all functions.
    pub(crate) fn total(&self, metric: Metric) -> u64 {
        self.app.metrics().total(metric)
    }

    /// Returns whether a function has that name.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// Runs a function in a task of its own. It continues when the client is gone, and a panic ends only this task.
    pub(crate) async fn invoke(&self, name: &str, event: String) -> Result<String, Failure> {
        let Some(function) = self.functions.get(name).copied() else {
            return Err(failure("ResourceNotFoundException", "there is no such function"));
        };
        #[cfg(test)]
        let _ = self.invoked.send((name.to_owned(), event.clone()));
        let admission = async {
            let place = self.running.clone().acquire_owned().await?;
            Ok::<_, AcquireError>((place, self.turns.clone().acquire_owned().await?))
        };
        let admitted = tokio::time::timeout(INTEGRATION_TIMEOUT, admission).await;
        let Ok(Ok((place, turn))) = admitted else {
            return Err(failure("IntegrationTimeout", "too many functions run"));
        };
        let (app, patience) = (self.app.clone(), self.function_timeout);
        let run = self.tasks.spawn(async move {
            let _place = place;
            let started = Instant::now();
            let running = turns::run(turn, run_as(function.name, function.invoke(&app, &event)));
            let result = tokio::time::timeout(patience, running).await;
            let result = result.unwrap_or_else(|_| Err(failure("Sandbox.Timedout", "the function timed out")));
            let result = result.and_then(|json| match json.len() <= MAX_RESULT_BYTES {
                true => Ok(json),
                false => Err(failure("Function.ResponseSizeTooLarge", "the result is too large")),
            });
            tracing::debug!(
                function = function.name,
                duration_us = started.elapsed().as_micros(),
                ok = result.is_ok(),
                "invoked"
            );
            result
        });
        let outcome = match tokio::time::timeout(INTEGRATION_TIMEOUT, run).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(failure("Runtime.Panicked", "the function panicked")),
            Err(_late) => Err(failure("IntegrationTimeout", "the gateway waited no longer")),
        };
        if let Err(failure) = &outcome {
            // The authorizer denies access by this error, which is not a failure.
            if failure.error_type != "Unauthorized" {
                tracing::warn!(function = name, failure.error_type, "an invocation failed");
            }
        }
        outcome
    }
}

pub(crate) fn failure(error_type: &str, error_message: &str) -> Failure {
    Failure { error_type: error_type.to_owned(), error_message: error_message.to_owned() }
}
