//! Clients that take too much, read too slowly or never finish, and a machine that runs out of a resource. They get a
//! bounded answer, and other users are still served. Skipped if the suite runs against a deployment.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use localstack::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{MaybeTlsStream, client_async};

use crate::binary::Running;
use crate::metrics::failed_pushes;
#[cfg(target_os = "linux")]
use crate::stack::Directory;
use crate::stack::Local;
use crate::world::deployment::free_ports;
use crate::world::device::{new_request_id, unicast};
use crate::world::scene::friends_at;
use crate::world::{Deployment, Device, Handshake, User, within};

/// A text that fills most of a frame.
fn bulk() -> String {
    "x".repeat(30 * 1024)
}

async fn open(deployment: &Deployment) -> TcpStream {
    TcpStream::connect(address(deployment)).await.expect("the local stack listens")
}

fn address(deployment: &Deployment) -> &str {
    deployment.public.strip_prefix("http://").expect("the local stack speaks HTTP")
}

/// A socket with a small receive buffer.
pub(crate) async fn narrow(user: &User) -> Device {
    let open = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(address(user.deployment()).parse().map_err(std::io::Error::other)?).await
    };
    let stream = open.await.expect("the local stack listens");
    let url = format!("{}?access_token={}", user.deployment().ws, user.token());
    let (stream, _) = client_async(url, MaybeTlsStream::Plain(stream)).await.expect("an open socket");
    Device::new(user.clone(), stream, None, 1)
}

/// Opens a socket, and retries until there is room for it.
async fn connect_eventually(user: &User) -> Device {
    let trying = async {
        let mut again = tokio::time::interval(Duration::from_millis(50));
        loop {
            again.tick().await;
            match Handshake::of(user).attempt().await {
                Ok(device) => return device,
                Err(status) => assert_eq!(status, 429),
            }
        }
    };
    within("room for a connection", trying).await
}

/// The ids of all missed messages of a user, page by page.
async fn all_missed(user: &User) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = user.pull().await;
        ids.extend(page.ids());
        if !page.has_more {
            return ids;
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody_and_loses_nothing() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let (carol, dave) = friends_at(local.deployment()).await;
    let (mut alice, mut slow) = (alice.connect().await, narrow(&bob).await);
    let (mut carol, mut dave) = (carol.connect().await, dave.connect().await);

    // Each message is acknowledged, even if its push fails. After a while there is no room for another frame. A message
    // whose push was slow is missed as well, and arrives later.
    let (mut accepted, mut got) = (BTreeSet::new(), BTreeSet::new());
    while failed_pushes(local.deployment()).await == 0 {
        assert!(accepted.len() < 1_000, "30 MB wait for a client that does not read");
        // In parallel, because each may wait for room.
        let request_ids = [(); 16].map(|()| new_request_id());
        for request_id in &request_ids {
            alice.send_text(&unicast(bob.id(), Some(request_id), &format!("{:?}", bulk()))).await;
        }
        for request_id in &request_ids {
            accepted.insert(alice.expect_ack(request_id).await.id);
        }
        carol.send(&dave, "hi").await;
        dave.expect_private(&carol, "hi").await;
        got.extend(all_missed(&bob).await);
    }
    assert!(!got.is_empty(), "messages that were not received are missed");
    while !got.is_superset(&accepted) {
        got.insert(slow.next("what was waiting").await.id());
    }
    assert_eq!(got, accepted);
    local.stop().await;
}

#[tokio::test]
async fn beyond_the_connection_limit_new_connections_get_429() {
    let Some(local) = Local::start(Options { max_connections: 2, ..free_ports() }).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let (mut alice_online, mut bob_online) = (alice.connect().await, bob.connect().await);
    let carol = local.user("carol");
    let attempts = join_all((0..100).map(|_| Handshake::of(&carol).attempt())).await;
    assert!(attempts.iter().all(|attempt| attempt.as_ref().is_err_and(|status| *status == 429)), "{attempts:?}");
    let refused = carol.get("/api/group", &[]).await;
    assert_eq!((refused.status, refused.body.as_str()), (429, r#"{"message":"Too Many Requests"}"#));
    assert_eq!(refused.header("connection"), Some("close"));
    alice_online.send(&bob, "still here").await;
    bob_online.expect_private(&alice, "still here").await;
    bob_online.leave().await;
    connect_eventually(&carol).await.expect_nothing().await;
    local.stop().await;
}

#[tokio::test]
async fn a_vanished_connection_frees_its_place() {
    let options = Options { max_connections: 1, idle_timeout: Duration::from_secs(1), ..free_ports() };
    let Some(local) = Local::start(options).await else { return };
    let vanished = local.user("alice").connect().await;
    // This client does not answer the close.
    connect_eventually(&local.user("bob")).await.leave().await;
    drop(vanished);
    local.stop().await;
}

#[tokio::test]
async fn an_unfinished_request_times_out() {
    let options = Options { request_timeout: Duration::from_millis(500), ..free_ports() };
    let Some(local) = Local::start(options).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    let mut online = bob.connect().await;
    for begun in [
        "",
        "GET",
        "GET /ws?access_token=x HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n",
        "POST /api/request HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        "POST /api/request HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{",
        "POST /api/request HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        let mut stream = open(local.deployment()).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("the end of the connection", stream.read_to_string(&mut answer)).await.unwrap();
        let is_late = answer.starts_with("HTTP/1.1 408 ");
        assert!(is_late || (answer.is_empty() && !begun.contains("\r\n\r\n")), "{begun:?}: {answer:?}");
    }
    // The request time-out does not apply to an idle socket.
    alice.connect().await.send(&bob, "hi").await;
    online.expect_private(&alice, "hi").await;
    local.stop().await;
}

#[tokio::test]
async fn out_of_files_open_connections_still_work() {
    if Deployment::is_elsewhere() {
        return;
    }
    let running = Running::under("ulimit -n 256", &[]).await;
    let (alice, bob) = friends_at(&running.deployment).await;
    let (mut alice_online, mut bob_online) = (alice.connect().await, bob.connect().await);
    let flood = join_all((0..300).map(|_| open(&running.deployment))).await;
    alice_online.send(&bob, "still here").await;
    bob_online.expect_private(&alice, "still here").await;
    drop(flood);
    connect_eventually(&alice).await.send(&bob, "back again").await;
    bob_online.expect_private(&alice, "back again").await;
    let (status, log) = running.stop().await;
    assert!(status.success() && !log.contains("panicked"), "{status}: {log}");
}

/// Sends until a message is refused. Returns the ids that were accepted before.
#[cfg(target_os = "linux")]
async fn send_until_refused(device: &mut Device, to: &User) -> Vec<String> {
    let mut accepted = Vec::new();
    loop {
        assert!(accepted.len() < 1_000, "30 MB were stored beyond the limit");
        let request_id = new_request_id();
        device.send_text(&unicast(to.id(), Some(&request_id), &format!("{:?}", bulk()))).await;
        let answer = device.next("an ACK or an ERROR").await;
        assert_eq!(answer.text("requestId"), request_id);
        if answer.says("type", "ERROR") {
            assert!(answer.says("code", "unavailable"), "{answer:?}");
            return accepted;
        }
        accepted.push(answer.id());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn on_a_full_disk_sends_are_refused_and_accepted_messages_kept() {
    if Deployment::is_elsewhere() {
        return;
    }
    let directory = Directory::new();
    let path = directory.path();
    // The disk is full when a file reaches the limit. Without the trap, the signal would end the process.
    let running = Running::under("trap '' XFSZ", &["--data", path.to_str().unwrap()]).await;
    let (alice, bob) = friends_at(&running.deployment).await;
    let mut online = alice.connect().await;
    let mut accepted = vec![online.send(&bob, "before").await.id];
    running.limit_files(2 << 20);
    accepted.extend(send_until_refused(&mut online, &bob).await);
    // Another attempt is refused in the same way.
    accepted.extend(send_until_refused(&mut online, &bob).await);
    running.limit_files(u64::MAX);
    accepted.push(online.send(&bob, "after").await.id);

    let (status, log) = running.stop().await;
    assert!(status.success() && !log.contains("panicked"), "{status}: {log}");
    let running = Running::under("true", &["--data", path.to_str().unwrap()]).await;
    let kept = all_missed(&bob.moved_to(&running.deployment)).await;
    let lost: Vec<&String> = accepted.iter().filter(|id| !kept.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), accepted.len());
    running.stop().await;
}
