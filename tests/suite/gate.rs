//! What is seen by standing between the functions and the database: by holding a request up, frames of one connection run
//! side by side; by losing an answer, a drop that was written counts as written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::stack::{Local, with};
use crate::world::device::unicast;
use crate::world::scene::friends_at;

/// What holds this waits at the gate.
const HELD: &[u8] = b"hold-me";

/// The answer to the first request that holds this is lost, with the connection.
const LOST: &[u8] = b"dropMark";

/// A way to the database on which some requests wait until the gate is opened, and an answer may get lost.
struct Gate {
    address: SocketAddr,
    database: watch::Sender<Option<String>>,
    open: watch::Sender<bool>,
    loses: Arc<AtomicBool>,
}

impl Gate {
    async fn build() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let loses = Arc::new(AtomicBool::new(false));
        let gate = Self { address, database: watch::Sender::new(None), open: watch::Sender::new(false), loses };
        let (database, open, loses) = (gate.database.subscribe(), gate.open.subscribe(), gate.loses.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(lead_through(stream, database.clone(), open.clone(), loses.clone()));
            }
        });
        gate
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lead to the database at that URL.
    fn lead_to(&self, url: &str) {
        self.database.send_replace(url.strip_prefix("http://").map(|address| address.trim_end_matches('/').to_owned()));
    }

    /// Lose the answer to the next drop.
    fn lose_an_answer(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }

    /// Let everything through that waits, and all that comes.
    fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn lead_through(
    client: TcpStream,
    mut database: watch::Receiver<Option<String>>,
    open: watch::Receiver<bool>,
    loses: Arc<AtomicBool>,
) {
    let address = database.wait_for(Option::is_some).await.expect("the gate stands").clone().unwrap_or_default();
    let server = TcpStream::connect(address).await.expect("the database listens");
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_lost = AtomicBool::new(false);
    // When one side hangs up, or an answer is lost, both connections end.
    tokio::select! {
        () = there(from_client, to_server, open, &loses, &is_lost) => {}
        () = back(from_server, to_client, &is_lost) => {}
    }
}

/// Pass requests on: one that is to be held up waits, one whose answer is to be lost is noted.
async fn there(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
    loses: &AtomicBool,
    is_lost: &AtomicBool,
) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let holds = |word: &[u8]| chunk[..length].windows(word.len()).any(|window| window == word);
        if holds(HELD) {
            open.wait_for(|open| *open).await.expect("the gate stands");
        }
        if holds(LOST) && loses.swap(false, Ordering::SeqCst) {
            is_lost.store(true, Ordering::SeqCst);
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// Pass answers back, until one is lost.
async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_lost: &AtomicBool) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if is_lost.load(Ordering::SeqCst) || to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_frame_does_not_wait_for_the_one_before_it() {
    let gate = Gate::build().await;
    let Some(local) = Local::start(with(&[("AWS_ENDPOINT_URL_DYNAMODB", &gate.url())])).await else { return };
    gate.lead_to(local.dynamodb_url());
    let (alice, bob) = friends_at(local.deployment()).await;
    let (mut alice, mut bob) = (alice.connect().await, bob.connect().await);
    alice.send_text(&unicast(bob.id(), Some("slow"), r#""hold-me""#)).await;
    let fast = alice.send(&bob, "fast").await;
    bob.expect_private(&alice, "fast").await;
    gate.open();
    let slow = alice.expect_ack("slow").await;
    assert_ne!(slow.id, fast.id);
    bob.expect_private(&alice, "hold-me").await;
    local.stop().await;
}

#[tokio::test]
async fn a_drop_whose_answer_got_lost_on_the_way_still_returns_its_page() {
    let gate = Gate::build().await;
    let Some(local) = Local::start(with(&[("AWS_ENDPOINT_URL_DYNAMODB", &gate.url())])).await else { return };
    gate.lead_to(local.dynamodb_url());
    let (alice, bob) = friends_at(local.deployment()).await;
    let sent = alice.connect().await.send(&bob, "missed").await;
    gate.lose_an_answer();
    assert_eq!(bob.pull().await.ids(), [sent.id]);
    assert!(!gate.loses.load(Ordering::SeqCst), "an answer got lost");
    assert!(bob.pull().await.ids().is_empty(), "and it was dropped");
    local.stop().await;
}
