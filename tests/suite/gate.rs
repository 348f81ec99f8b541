//! Tests with a proxy between the functions and the database. Delaying a request shows that frames of one connection
//! run in parallel. Losing an answer shows that a written drop counts as written.

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

/// A request that contains this waits until the gate opens.
const HELD: &[u8] = b"hold-me";

/// If armed, the answer to the next request that contains this is lost, with the connection.
const LOST: &[u8] = b"dropMark";

/// A proxy to the database. Some requests wait until it opens, and an answer may be lost.
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
                tokio::spawn(proxy(stream, database.clone(), open.clone(), loses.clone()));
            }
        });
        gate
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the URL of the database.
    fn set_database(&self, url: &str) {
        self.database.send_replace(url.strip_prefix("http://").map(|address| address.trim_end_matches('/').to_owned()));
    }

    /// Loses the answer to the next drop.
    fn lose_an_answer(&self) {
        self.loses.store(true, Ordering::SeqCst);
    }

    /// Passes on all requests, waiting and new.
    fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn proxy(
    client: TcpStream,
    mut database: watch::Receiver<Option<String>>,
    open: watch::Receiver<bool>,
    loses: Arc<AtomicBool>,
) {
    let address = database.wait_for(Option::is_some).await.expect("the gate exists").clone().unwrap_or_default();
    let server = TcpStream::connect(address).await.expect("the database listens");
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_lost = AtomicBool::new(false);
    // If one side closes or an answer is lost, both connections end.
    tokio::select! {
        () = pass_requests(from_client, to_server, open, &loses, &is_lost) => {}
        () = pass_answers(from_server, to_client, &is_lost) => {}
    }
}

/// Passes requests on. Some wait, and the one whose answer is to be lost is marked.
async fn pass_requests(
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
            open.wait_for(|open| *open).await.expect("the gate exists");
        }
        if holds(LOST) && loses.swap(false, Ordering::SeqCst) {
            is_lost.store(true, Ordering::SeqCst);
        }
        if to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// Passes answers back until one is lost.
async fn pass_answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_lost: &AtomicBool) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if is_lost.load(Ordering::SeqCst) || to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn frames_of_one_connection_run_in_parallel() {
    let gate = Gate::build().await;
    let Some(local) = Local::start(with(&[("AWS_ENDPOINT_URL_DYNAMODB", &gate.url())])).await else { return };
    gate.set_database(local.dynamodb_url());
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
async fn a_drop_whose_answer_is_lost_still_returns_its_page() {
    let gate = Gate::build().await;
    let Some(local) = Local::start(with(&[("AWS_ENDPOINT_URL_DYNAMODB", &gate.url())])).await else { return };
    gate.set_database(local.dynamodb_url());
    let (alice, bob) = friends_at(local.deployment()).await;
    let sent = alice.connect().await.send(&bob, "missed").await;
    gate.lose_an_answer();
    assert_eq!(bob.pull().await.ids(), [sent.id]);
    assert!(!gate.loses.load(Ordering::SeqCst), "an answer was lost");
    assert!(bob.pull().await.ids().is_empty(), "the message was dropped");
    local.stop().await;
}
