//! Functions that stop at one of their calls: for good, as if they were killed, or until they may go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use functions::{Failure, Function};
use shared::aws::SharedHttpClient;
use tokio::sync::{Notify, Semaphore};

use crate::inside::Inside;
use crate::simulation::world::{Wire, World};

/// The functions in this process, which can be stopped.
pub(crate) struct Fragile {
    inside: Inside,
    stop: Stop,
}

/// Where the functions stop.
#[derive(Debug, Clone)]
struct Stop {
    wire: Wire,
    left: Arc<AtomicUsize>,
    reached: Arc<Notify>,
    over: Arc<Semaphore>,
}

impl Fragile {
    /// Functions in the given world.
    pub(crate) fn over(world: &Arc<World>, variables: &[(&str, &str)]) -> Self {
        let stop = Stop {
            wire: Wire(world.clone()),
            left: Arc::new(AtomicUsize::new(usize::MAX)),
            reached: Arc::default(),
            over: Arc::new(Semaphore::new(0)),
        };
        let inside = Inside::over(world.clone(), SharedHttpClient::new(stop.clone()), variables);
        Self { inside, stop }
    }

    /// Invokes a function until its call number `calls`. That call takes effect, but its answer and all later calls wait.
    /// Returns the result of a function that makes fewer calls.
    pub(crate) async fn invoke_until(
        &self,
        calls: usize,
        function: &Function,
        event: &str,
    ) -> Option<Result<String, Failure>> {
        self.stop.left.store(calls, SeqCst);
        tokio::select! {
            result = self.inside.invoke(function, event) => Some(result),
            () = self.stop.reached.notified() => None,
        }
    }

    /// Invokes a function that stops at its call number `calls`. Resolves when it is over, which it is only after `go_on`.
    pub(crate) async fn invoke_through(
        &self,
        calls: usize,
        function: &Function,
        event: &str,
    ) -> Result<String, Failure> {
        self.stop.left.store(calls, SeqCst);
        self.inside.invoke(function, event).await
    }

    /// Resolves when the function has stopped.
    pub(crate) async fn stopped(&self) {
        self.stop.reached.notified().await;
    }

    /// Lets the function go on. It does not stop again.
    pub(crate) fn go_on(&self) {
        self.stop.left.store(usize::MAX, SeqCst);
        self.stop.over.close();
    }
}

impl HttpConnector for Stop {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let counted = self.left.fetch_update(SeqCst, SeqCst, |left| Some(left.saturating_sub(1)));
        let left = counted.expect("there is always a next value");
        if left > 1 {
            return self.wire.call(request);
        }
        let stop = self.clone();
        HttpConnectorFuture::new(async move {
            // The call at which the function stops takes effect, but nobody learns of it yet.
            let answer = match left {
                1 => Ok(stop.wire.call(request).await),
                _ => Err(request),
            };
            stop.reached.notify_one();
            // Closed once the function may go on.
            let _ = stop.over.acquire().await;
            match answer {
                Ok(answer) => answer,
                Err(request) => stop.wire.call(request).await,
            }
        })
    }
}

impl HttpClient for Stop {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
