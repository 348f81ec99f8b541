//! The online members of a group, and the messages that reach each of them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

use crate::server::{Socket, send_all};
use crate::{Failure, progress};

/// The longest time until the next receiver has a message.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long no frame may come until the rest is assumed to be over.
const QUIET: Duration = Duration::from_secs(1);

/// A manager who sends, and the receivers.
pub(crate) struct Audience {
    group: String,
    frames: UnboundedSender<String>,
    arrivals: UnboundedReceiver<(Instant, Arrival)>,
    online: usize,
    /// By message, how often each receiver got it.
    got: Vec<Vec<u32>>,
}

/// An event on one of the connections.
enum Arrival {
    /// To the manager: the acknowledgement of a message.
    Acknowledged(usize),
    /// To the manager: any other frame.
    Refused(String),
    /// To a receiver: a message, by their numbers.
    Message(usize, usize),
    /// A connection has ended.
    Ended,
}

/// The times from sending until the acknowledgement, if it can come, and until the receivers have the message.
pub(crate) struct Times {
    pub(crate) acknowledged: Option<Duration>,
    pub(crate) first: Duration,
    pub(crate) half: Duration,
    pub(crate) last: Duration,
}

/// The fields of a frame that matter here. The content of a message is its number.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    content: Option<usize>,
    request_id: Option<String>,
}

impl Audience {
    pub(crate) fn new(group: &str, manager: Socket, receivers: Vec<Socket>) -> Self {
        let (frames, to_send) = unbounded_channel();
        let (arrived, arrivals) = unbounded_channel();
        let online = receivers.len();
        for (n, socket) in receivers.into_iter().enumerate() {
            tokio::spawn(listen(socket, n, arrived.clone()));
        }
        tokio::spawn(manage(manager, to_send, arrived));
        Self { group: group.to_owned(), frames, arrivals, online, got: Vec::new() }
    }

    /// The frame of the next message, to be sent now.
    pub(crate) fn next_frame(&mut self) -> Value {
        let number = self.got.len();
        self.got.push(vec![0; self.online]);
        json!({ "type": "multicast", "groupId": self.group, "content": number, "requestId": number.to_string() })
    }

    /// The manager sends a message. Returns when it is acknowledged and all online members have it.
    pub(crate) async fn send(&mut self) -> Result<Times, Failure> {
        let frame = self.next_frame().to_string();
        let sent = Instant::now();
        self.frames.send(frame)?;
        self.follow(sent, true).await
    }

    /// Waits until all online members have the last message, which was sent at `sent`, and until it is acknowledged if
    /// `is_acknowledged`.
    pub(crate) async fn follow(&mut self, sent: Instant, is_acknowledged: bool) -> Result<Times, Failure> {
        let (mut acknowledged, mut times) = (None, Vec::with_capacity(self.online));
        let number = self.got.len().saturating_sub(1);
        while times.len() < self.online || (is_acknowledged && acknowledged.is_none()) {
            if times.len() % 100 == 0 {
                progress(&self.so_far(number, times.len()));
            }
            let arrival = tokio::time::timeout(PATIENCE, self.arrivals.recv()).await;
            let Ok(Some((at, arrival))) = arrival else { return Err(self.so_far(number, times.len()).into()) };
            match arrival {
                Arrival::Acknowledged(n) if n == number => acknowledged = Some(at - sent),
                Arrival::Acknowledged(_) => {}
                Arrival::Message(receiver, n) => {
                    if self.note(receiver, n)? && n == number {
                        times.push(at - sent);
                    }
                }
                Arrival::Refused(frame) => return Err(format!("the manager got {frame}").into()),
                Arrival::Ended => return Err("a connection ended".into()),
            }
        }
        times.sort_unstable();
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        Ok(Times { acknowledged, first: at(0), half: at(times.len() / 2), last: at(times.len().saturating_sub(1)) })
    }

    fn so_far(&self, number: usize, receivers: usize) -> String {
        format!("message {number}: {receivers} of the {} online have it", self.online)
    }

    /// Records that a receiver got a message. Returns whether it is the first time.
    fn note(&mut self, receiver: usize, number: usize) -> Result<bool, Failure> {
        let got = self.got.get_mut(number).ok_or("a message arrived that was never sent")?;
        got[receiver] += 1;
        Ok(got[receiver] == 1)
    }

    /// Waits until nothing more arrives. Returns how often a receiver got a message again.
    pub(crate) async fn repeats(&mut self) -> Result<u64, Failure> {
        while let Ok(Some((_, arrival))) = tokio::time::timeout(QUIET, self.arrivals.recv()).await {
            if let Arrival::Message(receiver, number) = arrival {
                self.note(receiver, number)?;
            }
        }
        Ok(self.got.iter().flatten().map(|count| u64::from(count.saturating_sub(1))).sum())
    }
}

/// Reports what comes to a receiver.
async fn listen(mut socket: Socket, receiver: usize, arrived: UnboundedSender<(Instant, Arrival)>) {
    while let Some(Ok(message)) = socket.next().await {
        let now = Instant::now();
        if let Some(number) = read(message).ok().and_then(|frame| frame.content) {
            // The audience may be gone.
            let _ = arrived.send((now, Arrival::Message(receiver, number)));
        }
    }
    let _ = arrived.send((Instant::now(), Arrival::Ended));
}

/// Sends the manager's frames, and reports what comes back.
async fn manage(socket: Socket, frames: UnboundedReceiver<String>, arrived: UnboundedSender<(Instant, Arrival)>) {
    let (sink, mut stream) = socket.split();
    let sending = send_all(sink, frames);
    let receiving = async {
        while let Some(Ok(message)) = stream.next().await {
            let (now, text) = (Instant::now(), message.to_string());
            let number = read(message).ok().filter(|frame| frame.kind == "ACK").and_then(|frame| frame.request_id);
            let number = number.and_then(|id| id.parse().ok());
            let _ = arrived.send((now, number.map_or(Arrival::Refused(text), Arrival::Acknowledged)));
        }
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
    let _ = arrived.send((Instant::now(), Arrival::Ended));
}

fn read(message: Message) -> serde_json::Result<Frame> {
    serde_json::from_slice(&message.into_data())
}
