//! Posts each event to an address, as a rule of EventBridge with an API destination would.
//!
//! The events go out in order, one at a time. An event without an answer is tried again until one comes. Meanwhile, the
//! bus keeps the events that follow, up to its limits. Nothing here delays a function.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_util::sync::CancellationToken;

use super::Bus;

/// How long the receiver may take for one event, as with API destinations.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait after a try without an answer.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the events that are left may take when the stack stops.
const LAST: Duration = Duration::from_secs(3);

/// The longest answer after which the connection is used again. Its content does not matter.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Parses the address, or returns what is wrong.
pub(crate) fn parse(text: &str) -> Result<Uri, String> {
    let address = text.parse::<Uri>().ok().filter(|address| address.scheme_str() == Some("http"));
    let address = address.filter(|address| address.host().is_some_and(|host| !host.is_empty()));
    address
        .ok_or_else(|| "must be an address that starts with http://, such as http://127.0.0.1:8080/events".to_owned())
}

/// Posts events until `stop` is cancelled, then tries to post those that are left.
pub(crate) async fn run(bus: Arc<Bus>, address: Uri, stop: CancellationToken) {
    let mut webhook = Webhook::new(address);
    while !stop.is_cancelled() {
        let Some((number, event)) = stop.run_until_cancelled(bus.next(webhook.next)).await else { break };
        if !webhook.deliver(number, &event).await {
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
        webhook.has_skipped &= bus.at_or_after(webhook.next).is_some();
    }
    let rest = async {
        while let Some((number, event)) = bus.at_or_after(webhook.next) {
            if !webhook.deliver(number, &event).await {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LAST, rest).await;
    if bus.at_or_after(webhook.next).is_some() {
        tracing::warn!("some events did not reach --events before the stop");
    }
}

struct Webhook {
    client: Client<HttpConnector, Body>,
    address: Uri,
    /// The number of the next event.
    next: u64,
    /// Whether the last event did not arrive. Only the first of them is logged.
    is_failing: bool,
    /// Whether events were skipped since all were delivered. Only the first gap is logged.
    has_skipped: bool,
}

impl Webhook {
    fn new(address: Uri) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, address, next: 0, is_failing: false, has_skipped: false }
    }

    /// Posts an event, and returns whether it is done with. Without an answer, it is not.
    async fn deliver(&mut self, number: u64, event: &str) -> bool {
        if number > self.next && !self.has_skipped {
            self.has_skipped = true;
            tracing::warn!("--events is slow or away: the oldest events are dropped");
        }
        self.next = number;
        let answer = tokio::time::timeout(PATIENCE, self.post(event)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let is_done = answer.as_ref().is_ok_and(|status| !is_temporary(*status));
        self.next += u64::from(is_done);
        let failure = match answer {
            Ok(status) if status.is_success() => None,
            Ok(status) => Some(format!("the answer is {status}")),
            Err(why) => Some(why),
        };
        match (&failure, self.is_failing) {
            (Some(why), false) => tracing::warn!(host = self.address.host(), why, "events do not reach --events"),
            (None, true) => tracing::info!("events reach --events again"),
            _ => {}
        }
        self.is_failing = failure.is_some();
        is_done
    }

    async fn post(&self, event: &str) -> Result<StatusCode, String> {
        let request = Request::post(self.address.clone()).header(CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(event.to_owned())).map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| chain(&error))?;
        let status = answer.status();
        // Reads the answer, so that the next event uses the same connection.
        let _ = to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES).await;
        Ok(status)
    }
}

/// Returns whether an answer says that the same event may succeed later.
fn is_temporary(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Returns an error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use axum::Router;
    use axum::routing::post;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::task::JoinHandle;

    use super::*;

    /// Longer than any step of these tests takes.
    const LIMIT: Duration = Duration::from_secs(30);

    /// Serves a receiver that answers with the event as a status, or 200 if it is no number. It tells what it got.
    pub(crate) fn receive(listener: TcpListener, told: UnboundedSender<String>) -> JoinHandle<()> {
        let answer = async move |body: String| {
            let status = body.parse().unwrap_or(200);
            told.send(body).expect("the test listens");
            StatusCode::from_u16(status).expect("a status")
        };
        let router = Router::new().route("/events", post(answer));
        let (stop, limits) =
            (CancellationToken::new(), crate::listener::Limits { connections: 9, request_timeout: LIMIT });
        tokio::spawn(crate::listener::serve(listener, router, limits, stop))
    }

    async fn listen() -> (TcpListener, Uri) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = parse(&format!("http://{}/events", listener.local_addr().unwrap())).unwrap();
        (listener, address)
    }

    async fn next(got: &mut UnboundedReceiver<String>) -> String {
        tokio::time::timeout(LIMIT, got.recv()).await.expect("it arrives").unwrap()
    }

    #[test]
    fn only_http_addresses_are_accepted() {
        for right in ["http://localhost", "http://127.0.0.1:80/a?b=c", "http://[::1]:8080/"] {
            assert_eq!(parse(right).map(|_| ()), Ok(()));
        }
        for wrong in ["", "localhost:8080", "https://example.com", "/events", "http://", "http:///x", "ws://h/"] {
            assert!(parse(wrong).unwrap_err().contains("http://"), "{wrong}");
        }
    }

    #[tokio::test]
    async fn events_arrive_in_order_and_refused_ones_once() {
        let (bus, (listener, address)) = (Arc::new(Bus::new(None)), listen().await);
        let (told, mut got) = unbounded_channel();
        receive(listener, told);
        let statuses = ["200", "400", "204", "500", "302", "201"];
        statuses.iter().for_each(|status| bus.add((*status).to_owned()));
        let stop = CancellationToken::new();
        let posting = tokio::spawn(run(bus.clone(), address, stop.clone()));
        for status in statuses {
            assert_eq!(next(&mut got).await, status);
        }
        bus.add("202".to_owned());
        assert_eq!(next(&mut got).await, "202");
        // What is left when the stack stops is posted too.
        stop.cancel();
        bus.add("203".to_owned());
        tokio::time::timeout(LIMIT, posting).await.expect("it ends").unwrap();
        assert_eq!(next(&mut got).await, "203");
        assert!(got.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_event_is_posted_again_until_an_answer_comes() {
        let (bus, (listener, address)) = (Arc::new(Bus::new(None)), listen().await);
        let local = listener.local_addr().unwrap();
        drop(listener);
        let mut webhook = Webhook::new(address.clone());
        bus.add("503".to_owned());
        assert!(!webhook.deliver(0, "503").await && webhook.is_failing);
        let (told, mut got) = unbounded_channel();
        receive(TcpListener::bind(local).await.unwrap(), told);
        let posting = tokio::spawn(run(bus.clone(), address, CancellationToken::new()));
        for _ in 0..2 {
            assert_eq!(next(&mut got).await, "503");
        }
        posting.abort();
        assert!(webhook.deliver(0, "200").await && !webhook.is_failing);
        assert_eq!(webhook.next, 1);
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_receiver_that_is_away() {
        let (bus, (listener, address)) = (Arc::new(Bus::new(None)), listen().await);
        drop(listener);
        bus.add("200".to_owned());
        let stop = CancellationToken::new();
        stop.cancel();
        tokio::time::timeout(LIMIT, run(bus, address, stop)).await.expect("it ends");
    }
}
