//! The open connections of the WebSocket API.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shared::clock::{Clock, Ms, SystemClock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// How many bytes may wait for a client that reads slowly. The limit of API Gateway is not documented. Its answer to a
/// push beyond the limit is the same as ours.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Added to the bytes of each waiting frame, so that many tiny frames reach the limit too.
const FRAME_COST: usize = 256;

/// How long a push waits for room, and then again to be written.
const PATIENCE: Duration = Duration::from_millis(250);

/// A frame or a close for a client.
#[derive(Debug)]
pub(crate) enum Outbound {
    /// A text frame.
    Frame(Queued),
    /// The end of the connection.
    Close(Close),
}

/// A frame that waits to be written. If it is dropped before that, its push reports that the connection is gone.
#[derive(Debug)]
pub(crate) struct Queued {
    /// The frame.
    pub(crate) frame: Utf8Bytes,
    written: oneshot::Sender<()>,
    _room: OwnedSemaphorePermit,
}

impl Queued {
    /// Reports that the frame was written.
    pub(crate) fn confirm(self) {
        // The push may have stopped waiting.
        let _ = self.written.send(());
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Close {
    /// The WebSocket status code.
    pub(crate) code: u16,
    /// The reason in words.
    pub(crate) reason: String,
}

impl Close {
    pub(crate) fn new(code: u16, reason: &str) -> Self {
        Self { code, reason: reason.to_owned() }
    }

    /// The end of a connection without a close frame.
    pub(crate) fn abnormal() -> Self {
        Self::new(1006, "Connection Closed Abnormally")
    }

    /// The end of a connection whose close frame has no code, with the reason of API Gateway:
    /// <https://github.com/aws/aws-lambda-rust-runtime/pull/816>.
    pub(crate) fn without_code() -> Self {
        Self::new(1005, "Client-side close frame status not set")
    }

    /// The end of a connection by the gateway.
    pub(crate) fn going_away() -> Self {
        Self::new(1001, "Going away")
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// When it was opened.
    pub(crate) connected_at: Ms,
    /// The address of the client.
    pub(crate) source_ip: String,
    /// The client's User-Agent.
    pub(crate) user_agent: String,
    last_active: AtomicU64,
    outbound: mpsc::UnboundedSender<Outbound>,
    room: Arc<Semaphore>,
    closing: watch::Sender<Option<Close>>,
}

/// The outcome of a push.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The frame was written, or is still queued.
    Taken,
    /// There is no such connection.
    Gone,
    /// The client reads too slowly.
    Full,
}

impl Connection {
    /// Creates a connection, and the queue of what is to be written to its client.
    pub(crate) fn new(source_ip: String, user_agent: String) -> (Self, mpsc::UnboundedReceiver<Outbound>) {
        let (outbound, receiver) = mpsc::unbounded_channel();
        let now = SystemClock.now_ms();
        let room = Arc::new(Semaphore::new(BUFFER_BYTES));
        let (last_active, closing) = (AtomicU64::new(now), watch::Sender::new(None));
        (Self { connected_at: now, source_ip, user_agent, last_active, outbound, room, closing }, receiver)
    }

    /// Records that a text frame was sent or received now.
    pub(crate) fn touch(&self) {
        self.last_active.store(SystemClock.now_ms(), Ordering::Relaxed);
    }

    /// Returns when the last text frame was sent or received.
    pub(crate) fn last_active(&self) -> Ms {
        self.last_active.load(Ordering::Relaxed)
    }

    /// Ends the connection after the frames that were pushed before.
    pub(crate) fn close(&self, close: Close) {
        self.closing.send_replace(Some(close.clone()));
        // Without a receiver the connection has ended already.
        let _ = self.outbound.send(Outbound::Close(close));
    }

    /// Resolves when `close` is called.
    pub(crate) async fn closing(&self) -> Close {
        let mut closing = self.closing.subscribe();
        let told = closing.wait_for(Option::is_some).await.ok().and_then(|close| close.clone());
        told.unwrap_or_else(Close::abnormal)
    }

    /// Pushes a frame.
    pub(crate) async fn push(&self, frame: Utf8Bytes) -> Pushed {
        let cost = u32::try_from(frame.len() + FRAME_COST).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(cost);
        let Ok(Ok(permit)) = tokio::time::timeout(PATIENCE, room).await else { return Pushed::Full };
        self.touch();
        let (written, is_written) = oneshot::channel();
        let queued = Queued { frame, written, _room: permit };
        if self.outbound.send(Outbound::Frame(queued)).is_err() {
            return Pushed::Gone;
        }
        match tokio::time::timeout(PATIENCE, is_written).await {
            Ok(Err(_dropped)) => Pushed::Gone,
            // After the timeout the frame is still in the buffer of a slow client.
            Ok(Ok(())) | Err(_) => Pushed::Taken,
        }
    }
}

/// All open connections, by id.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<String, Arc<Connection>>>);

impl Connections {
    /// Returns a new id like those of API Gateway: base64 with padding, which must be encoded in a URL.
    pub(crate) fn new_id() -> String {
        let mut bytes: [u8; 11] = rand::random();
        bytes[10] &= 0xf0;
        STANDARD.encode(bytes)
    }

    pub(crate) fn insert(&self, id: &str, connection: Arc<Connection>) {
        self.lock().insert(id.to_owned(), connection);
    }

    pub(crate) fn remove(&self, id: &str) -> bool {
        self.lock().remove(id).is_some()
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.lock().get(id).cloned()
    }

    /// Returns the number of connections.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends all connections.
    pub(crate) fn close_all(&self, close: &Close) {
        for connection in self.lock().values() {
            connection.close(close.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;

    #[test]
    fn ids_need_url_encoding() {
        assert!((0..100).map(|_| Connections::new_id()).all(|id| id.len() == 16 && id.ends_with('=')));
    }

    #[tokio::test]
    async fn pushing_a_frame_that_is_never_written_reports_gone() {
        let (connection, outbound) = Connection::new(String::new(), String::new());
        let (pushed, ()) = tokio::join!(connection.push(Utf8Bytes::from_static("x")), async { drop(outbound) });
        assert_eq!(pushed, Pushed::Gone);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_gets_full() {
        let (connection, mut outbound) = Connection::new(String::new(), String::new());
        let frame = Utf8Bytes::from("x".repeat(128 * 1024));
        let pushed = join_all((0..9).map(|_| connection.push(frame.clone()))).await;
        assert_eq!(pushed.iter().filter(|pushed| **pushed == Pushed::Taken).count(), 7);
        assert_eq!(pushed.iter().filter(|pushed| **pushed == Pushed::Full).count(), 2);
        drop(outbound.recv().await);
        assert_eq!(connection.push(frame).await, Pushed::Taken);
    }
}
