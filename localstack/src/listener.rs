//! A listener: it accepts connections up to a limit, and serves HTTP on each with timeouts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::message;

/// How long to wait after a connection could not be accepted, for example without a free file descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest time of an HTTP connection, for clients that no longer read. It does not apply to WebSockets.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long a running request may take after its connection must end: longer than a gateway waits for a function.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// How many connections beyond the limit are refused at the same time. Further ones wait to be accepted.
const REFUSALS: usize = 16;

/// How long a client that will be refused may take to send its request.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);

/// A permit for one open connection. It is free again when its last copy is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// The limits of a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many connections may be open, including WebSockets.
    pub(crate) connections: usize,
    /// How long the head of a request may take, and how long a connection may wait for its next request.
    pub(crate) request_timeout: Duration,
}

/// Serves until `stop` is cancelled, then waits for running requests.
pub(crate) async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let accepting = async {
        loop {
            let (stream, peer) = accept(&listener).await;
            let (router, timeout, place) = match places.clone().try_acquire_owned() {
                Ok(place) => (router.clone(), limits.request_timeout, place),
                Err(_full) => {
                    let Ok(place) = refusals.clone().acquire_owned().await else { return };
                    (refusing(), limits.request_timeout.min(REFUSAL_PATIENCE), place)
                }
            };
            tasks.spawn(converse(stream, peer, router, timeout, Place { _permit: Arc::new(place) }, stop.clone()));
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut has_failed = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                if !has_failed {
                    tracing::warn!(%error, "a connection could not be accepted");
                }
                has_failed = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends or becomes a WebSocket.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    request_timeout: Duration,
    place: Place,
    stop: CancellationToken,
) {
    // Small frames must not wait for each other (Nagle's algorithm).
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(place.clone());
        router.call(request)
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(request_timeout);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        // A broken connection is not an error of the stack.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}

/// Refuses requests beyond the limit of connections, as API Gateway does beyond its quotas.
fn refusing() -> Router {
    Router::new().fallback(async || {
        let mut response = message(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    })
}
