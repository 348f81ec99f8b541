//! The way in to the database: for programs of this machine, and for no web page.
//!
//! The engine lets every page of every site read and write, as DynamoDB Local does by default. Here it is behind this
//! door, on a port that nobody is told but the functions. The first request of a connection tells who calls: a program
//! that speaks DynamoDB names the operation in `X-Amz-Target`, which a page cannot do without an `Origin` or a question
//! asked before (a preflight). So a connection that a browser opens ends with its first request, and one that begins
//! well is passed on as it is.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::rest::is_loopback;

/// The most that the head of a request may have.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long the head of the first request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait when connections cannot be taken, as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Let callers in to the engine until told to stop.
pub(crate) async fn keep(listener: TcpListener, engine: SocketAddr, stop: CancellationToken) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((caller, _)) => {
                    tokio::spawn(stop.clone().run_until_cancelled_owned(let_in(caller, engine)));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// A connection that breaks is the caller's to notice.
async fn let_in(mut caller: TcpStream, engine: SocketAddr) -> std::io::Result<()> {
    // Whatever arrived with the head is passed on with it.
    let Ok(begun) = tokio::time::timeout(PATIENCE, first_head(&mut caller)).await else { return Ok(()) };
    let begun = begun?;
    if !is_a_program(&begun) {
        return caller.write_all(FORBIDDEN).await;
    }
    let mut engine = TcpStream::connect(engine).await?;
    caller.set_nodelay(true)?;
    engine.set_nodelay(true)?;
    engine.write_all(&begun).await?;
    copy_bidirectional(&mut caller, &mut engine).await.map(|_| ())
}

/// What has come when the head of the first request is complete, or too long, or the caller is gone.
async fn first_head(caller: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut begun = Vec::with_capacity(4 * 1024);
    while head(&begun).is_none() && begun.len() < MAX_HEAD_BYTES {
        if caller.read_buf(&mut begun).await? == 0 {
            break;
        }
    }
    Ok(begun)
}

fn head(begun: &[u8]) -> Option<&str> {
    let end = begun.windows(4).position(|window| window == b"\r\n\r\n")?;
    std::str::from_utf8(&begun[..end]).ok()
}

/// Whether the first request is one that only a program of this machine can make.
fn is_a_program(begun: &[u8]) -> bool {
    let Some(head) = head(begun) else { return false };
    let headers = || head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    let header = |name: &str| headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    header("x-amz-target").is_some() && header("origin").is_none() && header("host").is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_a_page() {
        let is_a_program = |headers: &str| is_a_program(format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n{{}}").as_bytes());
        let target = "X-Amz-Target: DynamoDB_20120810.GetItem";
        assert!(is_a_program(&format!("Host: 127.0.0.1:8000\r\n{target}")));
        assert!(is_a_program(&format!("host: localhost\r\n{}", target.to_lowercase())));
        assert!(!is_a_program("Host: 127.0.0.1:8000"));
        assert!(!is_a_program(&format!("Host: 127.0.0.1:8000\r\nOrigin: null\r\n{target}")));
        assert!(!is_a_program(&format!("Host: evil.example:8000\r\n{target}")));
        assert!(!is_a_program(target));
        assert!(!super::is_a_program(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{target}\r\n").as_bytes()));
    }
}
