//! The local stack as a process of its own, and clients of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::{StreamExt, stream};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use shared::config::DEVELOPMENT_SECRET;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::{Failure, progress};

/// The local stack as a process of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) internal: String,
}

impl Server {
    pub(crate) async fn start(program: Option<&Path>) -> Result<Self, Failure> {
        let beside = || -> Option<PathBuf> { Some(std::env::current_exe().ok()?.parent()?.join("localstack")) };
        let program = program.map(Path::to_owned).or_else(beside).ok_or("this program has no path")?;
        let mut command = Command::new(&program);
        command.args(["--public-port", "0", "--internal-port", "0", "--dynamodb-port", "0"]);
        command.env_remove("JWT_SECRET").stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("the output is piped")?).lines();
        let mut line = String::new();
        // A wrapper, such as a profiler, may have something to say first.
        while !line.starts_with("ready ") {
            line = lines.next_line().await?.ok_or("the server did not start")?;
        }
        let address = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)).ok_or("no address");
        let (public, internal) = (address("public=http://")?.parse()?, address("internal=")?.to_owned());
        Ok(Self { child, public, internal })
    }

    /// The memory that the process has resident.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().ok_or("the server ended")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// The time that processors have spent on the process.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id().ok_or("the server ended")?))?;
        // Behind the name, which may hold anything: user and system time are the 12th and 13th field, in ticks of 10 ms.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
    }
}

/// A client's end of a connection.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Open connections, each of a user of its own, so many at once.
pub(crate) async fn open(server: &Server, connections: usize, at_once: usize) -> Result<Vec<Socket>, Failure> {
    let mut clients = Vec::with_capacity(connections);
    let opening = stream::iter(0..connections).map(|n| connect(server, n));
    let mut opening = opening.buffered(at_once.max(1));
    while let Some(client) = opening.next().await {
        clients.push(client.map_err(|error| format!("connection {}: {error}", clients.len()))?);
        if clients.len() % 100 == 0 {
            progress(&format!("{} of {} open", clients.len(), connections));
        }
    }
    progress("");
    Ok(clients)
}

async fn connect(server: &Server, n: usize) -> Result<Socket, Failure> {
    let socket = TcpSocket::new_v4()?;
    // An address has about 28,000 ports to call from.
    socket.bind(([127, 0, 0, 1 + u8::try_from(n / 20_000)?], 0).into())?;
    let stream = socket.connect(server.public).await?;
    let url = format!("ws://{}/ws?access_token={}", server.public, token(n)?);
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    Ok(client_async_with_config(url, stream, Some(config)).await?.0)
}

/// A token of that user.
pub(crate) fn token(n: usize) -> Result<String, Failure> {
    let claims = json!({ "sub": user(n), "exp": jsonwebtoken::get_current_timestamp() + 3600 });
    let key = EncodingKey::from_secret(DEVELOPMENT_SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

/// The user of a connection.
pub(crate) fn user(n: usize) -> String {
    format!("user-{n}")
}
