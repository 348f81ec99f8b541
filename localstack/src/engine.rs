//! DynamoDB in this process, which any AWS tool can open through `door`.
//!
//! It listens on a thread of its own, since the engine blocks the thread that calls it. The functions reach it by `direct`.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Duration;

use dynoxide::Database;
use dynoxide::errors::DynoxideError;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::template::TableDefinition;

/// How often items whose time has come are deleted.
const SWEEP: Duration = Duration::from_secs(60);

/// How long a stop waits for requests under way, such as one of which only a part has come.
const PATIENCE: Duration = Duration::from_secs(2);

/// The file within the data directory.
const FILE: &str = "dynamodb.sqlite";

/// The running engine.
pub(crate) struct Engine {
    /// Where it is. Anybody who knows may read and write, so this is not where callers are sent: see `door`.
    pub(crate) address: SocketAddr,
    /// The engine itself, for the functions.
    pub(crate) database: Database,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), String>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Engine {
    /// Start the engine on a listener, in memory or in a directory, with the table made if it is not there.
    pub(crate) fn start(
        listener: TcpListener,
        data: Option<&Path>,
        name: &str,
        table: &TableDefinition,
    ) -> Result<Self, String> {
        let database = open(data)?;
        create(&database, name, table)?;
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let served = database.clone();
        let run = move || {
            // Nobody may be waiting for it any more.
            let _ = end.send(serve(listener, served, stopped));
        };
        thread::Builder::new().name("dynamodb".to_owned()).spawn(run).map_err(|error| error.to_string())?;
        Ok(Self { address, database, stop, ended })
    }

    /// Stop it. Everything that was acknowledged is on disk.
    pub(crate) async fn stop(self) {
        // If it has ended already, nobody listens.
        let _ = self.stop.send(());
        match tokio::time::timeout(PATIENCE, self.ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(error, "the database ended badly"),
            Ok(Err(_panic)) => tracing::error!("the database ended badly"),
            Err(_late) => tracing::warn!("somebody holds the database open"),
        }
    }
}

fn open(data: Option<&Path>) -> Result<Database, String> {
    let Some(directory) = data else { return Database::memory().map_err(|error| error.to_string()) };
    std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let file = directory.join(FILE);
    let path = file.to_str().ok_or_else(|| format!("{}: the name is not UTF-8", file.display()))?;
    Database::new(path).map_err(|error| format!("{path}: {error}"))
}

fn serve(listener: TcpListener, database: Database, stopped: oneshot::Receiver<()>) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
        let swept = database.clone();
        let sweeps = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                if let Err(error) = swept.sweep_ttl() {
                    tracing::warn!(%error, "expired items could not be deleted");
                }
            }
        });
        let stop = async { stopped.await.unwrap_or_default() };
        let served = dynoxide::server::serve_with_shutdown(listener, database, stop).await;
        sweeps.abort();
        served
    })
}

fn create(database: &Database, name: &str, table: &TableDefinition) -> Result<(), String> {
    let pairs = |pairs: &[(String, String)], value: &str| -> Vec<Value> {
        pairs.iter().map(|(attribute, of)| json!({ "AttributeName": attribute, value: of })).collect()
    };
    let definition = request(json!({
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": pairs(&table.attributes, "AttributeType"),
        "KeySchema": pairs(&table.keys, "KeyType"),
    }))?;
    match database.create_table(definition) {
        Ok(_) => {}
        Err(DynoxideError::ResourceInUseException(_)) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    }
    let Some(attribute) = &table.ttl else { return Ok(()) };
    let ttl = request(json!({
        "TableName": name,
        "TimeToLiveSpecification": { "AttributeName": attribute, "Enabled": true },
    }))?;
    database.update_time_to_live(ttl).map(|_| ()).map_err(|error| error.to_string())
}

fn request<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}
