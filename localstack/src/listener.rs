//! A listener: it takes connections as long as there are places, and serves HTTP on each within limits of time.

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

/// How long to wait when connections cannot be taken, as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an HTTP connection may last: one whose client no longer reads ends then. WebSockets are not concerned.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long what is under way may take when a connection is to end: longer than a gateway waits for a function.
const LAST_ANSWER: Duration = Duration::from_secs(30);

/// How many connections beyond the limit are told so at once. Yet more wait to be accepted.
const REFUSALS: usize = 16;

/// How long a client that is to be refused may take to say what it wants.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);

/// A connection's place among those that may be open, free again when the last copy is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// What a listener allows its clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many connections may be open, those that became WebSockets included.
    pub(crate) connections: usize,
    /// How long the head of a request may take, and a connection wait for its next request.
    pub(crate) request_timeout: Duration,
}

/// Serve until told to stop, and then until what is under way has ended.
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
                    tracing::warn!(%error, "a connection could not be taken");
                }
                has_failed = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serve one connection, until it ends or becomes a WebSocket.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    request_timeout: Duration,
    place: Place,
    stop: CancellationToken,
) {
    // Frames are small and must not wait for one another.
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
        // A connection that breaks is the client's to notice.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = tokio::time::sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}

/// What answers when all places are taken, as API Gateway does beyond its quotas.
fn refusing() -> Router {
    Router::new().fallback(async || {
        let mut response = message(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    })
}
