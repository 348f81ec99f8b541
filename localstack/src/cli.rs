//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use localstack::Options;
use shared::id::UserId;

/// The whole chat module on this machine: gateway, functions and database in one process.
///
/// When everything is ready, one line on standard output gives the addresses:
/// `ready public=http://127.0.0.1:3000 internal=http://127.0.0.1:3001 dynamodb=http://127.0.0.1:8000`.
/// Open the public address in two browser tabs to see two users talk. Ctrl-C stops.
#[derive(Debug, Parser)]
#[command(name = "localstack", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

const EXAMPLES: &str = "\
Examples:
  cargo run                                 start, everything in memory
  cargo run -- --data ./data                start, and keep the data
  cargo run -- --events http://127.0.0.1:8080/events
  JWT_SECRET=… cargo run -- --host 0.0.0.0  start, also for a phone on the same network
  cargo run -- --public-port 0 --internal-port 0 --dynamodb-port 0
  cargo run -- token alice                  print a token of the user alice

Environment (all optional):
  JWT_SECRET        secret of HS256 tokens, at least 32 bytes; without it, the public development secret
  JWKS_URL          key set of RS256, ES256 and EdDSA tokens
  JWT_ISSUER, JWT_AUDIENCE, JWT_LEEWAY_SECONDS
  ALLOWED_ORIGINS   origins of the web pages that may call, separated by commas; * for any. The default is * with
                    JWT_SECRET or JWKS_URL, and pages of this machine without them
  RETENTION_DAYS, MAX_GROUP_MEMBERS, MAX_GROUPS, MAX_INVITATIONS, MAX_PAGE_MESSAGES, MESSAGES_PER_MINUTE,
  RECALL_MINUTES
  MAX_CONNECTIONS   the most open connections of one user
  REDELIVER_SECONDS messages of the last seconds of a broken connection are delivered again, 0 to 15
  EVENT_BUS_NAME    name of the bus of events; the default is local; set but empty, there are no events
  EVENT_CONTENT     true: events have the content of messages
  FANOUT_MEMBERS    a message to a group with more receivers than this goes through the queue
  ROSTER_SHARD      a group with more members than this is stored in several partitions
  LOG_LEVEL         error, warn, info, debug or trace";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print an access token for a user, signed with JWT_SECRET or the development secret
    Token(Token),
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// Id of the user
    pub(crate) user: UserId,
    /// How many seconds the token is valid
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) expires: u64,
    /// Print the address of the page at this address that signs in with the token, such as http://192.168.1.2:3000. On a
    /// terminal, draw it for the camera of a phone too
    #[arg(long, value_name = "URL", value_parser = page)]
    pub(crate) page: Option<String>,
}

fn page(text: &str) -> Result<String, String> {
    match ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(text.to_owned()),
        false => Err("must be an address that starts with http:// or https://".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address on which the public gateway listens; 0.0.0.0 for all of this machine. Any other than 127.0.0.1 needs a
    /// JWT_SECRET of your own, or a JWKS_URL. The internal API and DynamoDB stay on 127.0.0.1
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port of the public gateway: WebSocket at /ws, REST API at /api, a page at /; 0 for a free port
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    public_port: u16,
    /// Port of the internal API, of direct invocation, /@connections and /dev/events; 0 for a free port
    #[arg(long, value_name = "PORT", default_value_t = 3001)]
    internal_port: u16,
    /// Port of DynamoDB, for any AWS tool; 0 for a free port
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    dynamodb_port: u16,
    /// Directory for the data; without it, everything is in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Template to read routes and table from, instead of the built-in one
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Address that starts with http://, to which each event is posted as JSON, such as http://127.0.0.1:8080/events
    #[arg(long, value_name = "URL")]
    events: Option<String>,
    /// Close a connection after this many seconds without a frame
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
    /// Close a connection after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 7_200, value_parser = clap::value_parser!(u64).range(1..))]
    max_lifetime: u64,
    /// The most connections that clients may have open; fewer if the limit of open files (ulimit -n) is low
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
}

/// Returns the parser's error as one line, without the usage text that follows it.
pub(crate) fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    format!("{}; try --help", first.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl From<Serve> for Options {
    fn from(serve: Serve) -> Self {
        Self {
            host: serve.host,
            public_port: serve.public_port,
            internal_port: serve.internal_port,
            dynamodb_port: serve.dynamodb_port,
            data: serve.data,
            template: serve.template,
            events: serve.events,
            idle_timeout: Duration::from_secs(serve.idle_timeout),
            max_lifetime: Duration::from_secs(serve.max_lifetime),
            max_connections: serve.max_connections as usize,
            ..Self::default()
        }
    }
}
