//! The local stack as a process of its own, and clients for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt, stream};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use shared::config::DEVELOPMENT_SECRET;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::{Failure, process, progress};

/// Without it, no user could send as much as these measurements do.
pub(crate) const NO_LIMIT: (&str, &str) = ("MESSAGES_PER_MINUTE", "0");

/// The local stack as a process of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) internal: String,
    pub(crate) dynamodb: String,
}

impl Server {
    pub(crate) async fn start(program: Option<&Path>) -> Result<Self, Failure> {
        Self::start_with(program, &[], &[NO_LIMIT]).await
    }

    /// Starts the server with these arguments and variables in addition to the usual ones.
    pub(crate) async fn start_with(
        program: Option<&Path>,
        arguments: &[String],
        variables: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let program = program.map_or_else(|| beside("localstack"), |program| Ok(program.to_owned()))?;
        let mut command = Command::new(&program);
        command.args(arguments).envs(variables.iter().copied());
        command.args(["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]);
        command.env_remove("JWT_SECRET").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("the output is piped")?).lines();
        let mut line = String::new();
        // A wrapper such as a profiler may print something first.
        while !line.starts_with("ready ") {
            line = lines.next_line().await?.ok_or("the server did not start")?;
        }
        let address = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).ok_or("no address");
        let (public, internal) = (address("public=http://")?.parse()?, address("internal=")?.to_owned());
        let dynamodb = address("dynamodb=")?.to_owned();
        Ok(Self { child, public, internal, dynamodb })
    }

    /// The resident memory of the process.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        process::resident_bytes(self.id()?)
    }

    /// The processor time of the process.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        process::processor_time(self.id()?)
    }

    /// The number of threads of the process.
    pub(crate) fn threads(&self) -> Result<u64, Failure> {
        process::threads(self.id()?)
    }

    /// The number of times that the process has waited for a page from the disk.
    pub(crate) fn major_faults(&self) -> Result<u64, Failure> {
        process::major_faults(self.id()?)
    }

    /// The id of the process.
    pub(crate) fn id(&self) -> Result<u32, Failure> {
        Ok(self.child.id().ok_or("the server ended")?)
    }
}

/// The program of that name beside this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// The server's default limit of connections: three quarters of the files that a process may open.
pub(crate) fn places() -> Result<usize, Failure> {
    let (files, _) = rlimit::getrlimit(rlimit::Resource::NOFILE)?;
    Ok(usize::try_from(files / 4 * 3).unwrap_or(usize::MAX))
}

/// A client's end of a connection.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Opens connections, each of its own user, `at_once` at a time.
pub(crate) async fn open(server: &Server, connections: usize, at_once: usize) -> Result<Vec<Socket>, Failure> {
    open_each(server, &(0..connections).collect::<Vec<_>>(), at_once).await
}

/// Opens a connection for each of these users, `at_once` at a time.
pub(crate) async fn open_each(server: &Server, users: &[usize], at_once: usize) -> Result<Vec<Socket>, Failure> {
    let mut clients = Vec::with_capacity(users.len());
    let opening = stream::iter(users).map(|n| connect(server, *n));
    let mut opening = opening.buffered(at_once.max(1));
    while let Some(client) = opening.next().await {
        clients.push(client.map_err(|error| format!("connection {}: {error}", clients.len()))?);
        if clients.len() % 100 == 0 {
            progress(&format!("{} of {} open", clients.len(), users.len()));
        }
    }
    progress("");
    Ok(clients)
}

/// Opens a connection for a user.
pub(crate) async fn connect(server: &Server, n: usize) -> Result<Socket, Failure> {
    let socket = TcpSocket::new_v4()?;
    // A client address has about 28,000 ports.
    socket.bind(([127, 0, 0, 1 + u8::try_from(n / 20_000)?], 0).into())?;
    let stream = socket.connect(server.public).await?;
    let url = format!("ws://{}/ws?access_token={}", server.public, token(n)?);
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    Ok(client_async_with_config(url, stream, Some(config)).await?.0)
}

/// Sends all frames until the connection ends.
pub(crate) async fn send_all(mut sink: SplitSink<Socket, Message>, mut frames: UnboundedReceiver<String>) {
    while let Some(frame) = frames.recv().await {
        if sink.send(Message::text(frame)).await.is_err() {
            return;
        }
    }
}

/// A token for that user.
pub(crate) fn token(n: usize) -> Result<String, Failure> {
    let claims = json!({ "sub": user(n), "exp": jsonwebtoken::get_current_timestamp() + 3600 });
    let key = EncodingKey::from_secret(DEVELOPMENT_SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

/// The user of a connection.
pub(crate) fn user(n: usize) -> String {
    format!("user-{n}")
}
