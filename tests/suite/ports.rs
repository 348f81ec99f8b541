//! The ports of the local stack: there are three, and none gives the data to a web page. Skipped if the suite runs
//! against a deployment.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::binary::Running;
use crate::stack::Local;
use crate::world::deployment::free_ports;
use crate::world::scene::friends_at;
use crate::world::{Deployment, within};

/// The header that names an operation.
const SCAN: &str = "x-amz-target: DynamoDB_20120810.Scan\r\n";

/// A word that is stored in the table.
const SECRET: &str = "a-word-that-was-said";

/// A connection on which requests are sent one after the other.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(url: &str) -> Self {
        let address = url.strip_prefix("http://").expect("the local stack speaks HTTP");
        Self(BufReader::new(TcpStream::connect(address).await.expect("it listens")))
    }

    /// Requests everything in the table. Returns the status, and head and body of the answer. Status 0 means that the
    /// connection ended.
    async fn scan(&mut self, headers: &str) -> (u16, String) {
        self.ask("POST", headers, r#"{"TableName":"chat"}"#).await
    }

    async fn ask(&mut self, method: &str, headers: &str, body: &str) -> (u16, String) {
        let request = format!("{method} / HTTP/1.1\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        if self.0.write_all(request.as_bytes()).await.is_err() {
            return (0, String::new());
        }
        within("an answer", self.answer()).await
    }

    async fn answer(&mut self) -> (u16, String) {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut text).await.unwrap_or(0) == 0 {
                return (0, text);
            }
        }
        let head = text.to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
        self.0.read_exact(&mut body).await.expect("the whole body");
        (status, text + &String::from_utf8_lossy(&body))
    }
}

/// Headers of requests that a web page can cause, or that no local program sends.
const REFUSED: [(&str, &str); 6] = [
    ("no operation", "host: 127.0.0.1\r\n"),
    ("an operation that is no header", "host: 127.0.0.1\r\ncontent-type: text/plain\r\n"),
    ("a page", "host: 127.0.0.1\r\norigin: https://evil.example\r\nx-amz-target: DynamoDB_20120810.Scan\r\n"),
    ("a page without an origin", "host: 127.0.0.1\r\norigin: null\r\nx-amz-target: DynamoDB_20120810.Scan\r\n"),
    (
        "a page of this machine",
        "host: 127.0.0.1\r\norigin: http://127.0.0.1\r\nx-amz-target: DynamoDB_20120810.Scan\r\n",
    ),
    ("a name that leads here", "host: evil.example\r\nx-amz-target: DynamoDB_20120810.Scan\r\n"),
];

fn assert_no_data((status, answer): (u16, String), what: &str) {
    assert!(matches!(status, 0 | 400..), "{what}: {answer}");
    assert!(!answer.contains(SECRET) && !answer.contains("Items"), "{what}: {answer}");
}

#[tokio::test]
async fn each_request_on_a_connection_is_checked() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let (alice, bob) = friends_at(local.deployment()).await;
    alice.connect().await.send(&bob, SECRET).await;
    let good = format!("host: localhost\r\n{SCAN}");
    for (what, headers) in REFUSED {
        let mut connection = Connection::open(local.dynamodb_url()).await;
        let (status, answer) = connection.scan(&good).await;
        assert!(status == 200 && answer.contains(SECRET), "{answer}");
        let answer = connection.scan(headers).await;
        assert_eq!(answer.0, 403, "{what} after a valid request: {answer:?}");
        assert!(!answer.1.to_ascii_lowercase().contains("access-control"), "{what}: {answer:?}");
        assert_no_data(answer, what);
        assert_no_data(Connection::open(local.dynamodb_url()).await.scan(headers).await, what);
    }
    let preflight = format!("{good}origin: https://evil.example\r\naccess-control-request-headers: x-amz-target\r\n");
    let (status, answer) = Connection::open(local.dynamodb_url()).await.ask("OPTIONS", &preflight, "").await;
    assert!(status == 403 && !answer.to_ascii_lowercase().contains("access-control"), "{answer}");
    local.stop().await;
}

#[tokio::test]
async fn a_request_beyond_dynamodbs_limit_is_refused() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let mut connection = Connection::open(local.dynamodb_url()).await;
    let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\n{SCAN}content-length: {}\r\n\r\n", (16 << 20) + 1);
    connection.0.write_all(head.as_bytes()).await.expect("it reads");
    // The server may answer and close before it has read everything.
    let _ = connection.0.write_all(&vec![b' '; (16 << 20) + 1]).await;
    let (status, _) = within("an answer", connection.answer()).await;
    assert!(matches!(status, 0 | 413), "{status}");
    local.stop().await;
}

/// The ports on which a process listens.
#[cfg(target_os = "linux")]
fn listening(process: u32) -> std::collections::BTreeSet<u16> {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).expect("a child's files can be listed");
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let read = |table: &str| std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
    let tables = ["tcp", "tcp6"].map(read);
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // State 0A means listening. The tenth field is the socket.
            let is_ours =
                fields.get(3) == Some(&"0A") && sockets.iter().any(|socket| fields.get(9) == Some(&socket.as_str()));
            is_ours.then(|| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok()).flatten()
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_port_gives_the_table_to_a_web_page() {
    if Deployment::is_elsewhere() {
        return;
    }
    let running = Running::under("true", &[]).await;
    let (alice, bob) = friends_at(&running.deployment).await;
    alice.connect().await.send(&bob, SECRET).await;
    let urls = [&running.deployment.public, &running.deployment.internal, &running.dynamodb];
    let port = |url: &String| url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let ports = listening(running.id());
    assert_eq!(ports, urls.map(port).into());
    for port in ports {
        for (what, headers) in REFUSED {
            let mut connection = Connection::open(&format!("http://127.0.0.1:{port}")).await;
            assert_no_data(connection.scan(headers).await, what);
        }
    }
    running.stop().await;
}
