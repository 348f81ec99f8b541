//! Frames of one connection run side by side: seen by holding one of them up on its way to the database.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::stack::{Local, with};
use crate::world::device::unicast;
use crate::world::scene::friends_at;

/// What holds this waits at the gate.
const HELD: &[u8] = b"hold-me";

/// A way to the database on which some requests wait until the gate is opened.
struct Gate {
    address: SocketAddr,
    database: watch::Sender<Option<String>>,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn build() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let gate = Self { address, database: watch::Sender::new(None), open: watch::Sender::new(false) };
        let (database, open) = (gate.database.subscribe(), gate.open.subscribe());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(lead_through(stream, database.clone(), open.clone()));
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

    /// Let everything through that waits, and all that comes.
    fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn lead_through(client: TcpStream, mut database: watch::Receiver<Option<String>>, open: watch::Receiver<bool>) {
    let address = database.wait_for(Option::is_some).await.expect("the gate stands").clone().unwrap_or_default();
    let server = TcpStream::connect(address).await.expect("the database listens");
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    let there = hold_up(from_client, to_server, open);
    // Either side may hang up.
    let _ = futures::future::join(there, copy(&mut from_server, &mut to_client)).await;
}

/// Pass bytes on, unless they hold the word.
async fn hold_up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if chunk[..length].windows(HELD.len()).any(|window| window == HELD) {
            open.wait_for(|open| *open).await.expect("the gate stands");
        }
        if to.write_all(&chunk[..length]).await.is_err() {
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
