//! DynamoDB in this process: the table, on disk or in memory, and the deletion of expired items.
//!
//! It has no listener. Functions reach it through `direct`, other programs through `dynamodb`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dynoxide::errors::DynoxideError;
use dynoxide::{Database, Item};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::clock::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::log::Log;
use crate::operations::Operations;
use crate::template::{IndexDefinition, TableDefinition};
use crate::turns;

/// The pause between two passes over the table that delete expired items.
const SWEEP: Duration = Duration::from_secs(60);

/// How many items a pass reads at once, and how long it then pauses: this many times as long as the read took, but at
/// least `PAUSE`. So it takes one fiftieth of a core, however large the table is.
const SWEEP_ITEMS: usize = 25;
const SWEEP_PAUSES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// The file in the data directory.
const FILE: &str = "dynamodb.sqlite";

/// The operations after which nothing has to reach the disk.
const READS: [&str; 4] = ["BatchGetItem", "GetItem", "Query", "Scan"];

/// The database, and the log of one on disk.
#[derive(Clone)]
pub(crate) struct Engine {
    operations: Operations,
    log: Option<Arc<Log>>,
}

impl Engine {
    /// Opens the database, in memory or in a directory. Creates the table if it does not exist.
    pub(crate) fn start(data: Option<&Path>, name: &str, table: &TableDefinition) -> Result<Self, String> {
        let (database, file) = match data {
            Some(directory) => {
                let (database, file) = open(directory)?;
                (database, Some(file))
            }
            None => (Database::memory().map_err(|error| error.to_string())?, None),
        };
        create(&database, name, table)?;
        let log = file.map(|file| Log::open(&file).map(Arc::new)).transpose();
        let log = log.map_err(|error| format!("the log of the database: {error}"))?;
        Ok(Self { operations: Operations::new(database), log })
    }

    /// Performs an operation and returns the status and the body of the answer. What it wrote is not kept yet.
    pub(crate) async fn perform(&self, operation: &str, body: &[u8]) -> (u16, String) {
        self.operations.answer(operation, body).await
    }

    /// Waits until the writes of an operation are on the disk, if the database is there. Returns its answer.
    pub(crate) async fn keep(&self, operation: &str, answer: (u16, String)) -> (u16, String) {
        let Some(log) = self.log.as_ref().filter(|_| answer.0 == 200 && !READS.contains(&operation)) else {
            return answer;
        };
        match turns::kept(log.flush()).await {
            Ok(()) => answer,
            Err(error) => {
                let error = DynoxideError::InternalServerError(error.to_string());
                (error.status_code(), error.to_json())
            }
        }
    }
}

/// Deletes expired items.
///
/// The engine has such a sweep too. But it reads the whole table without a pause, which takes seconds for a large table,
/// and calls of functions wait meanwhile. Readers check `expiresAt` again, so late deletions do no harm.
#[derive(Clone)]
pub(crate) struct Sweeper {
    operations: Operations,
    table: String,
    attribute: String,
    keys: Vec<String>,
}

impl Sweeper {
    /// Creates a sweeper, if the items of the table expire.
    pub(crate) fn new(engine: &Engine, name: &str, table: &TableDefinition) -> Option<Self> {
        let keys = table.keys.iter().map(|(key, _)| key.clone()).collect();
        let (operations, attribute) = (engine.operations.clone(), table.ttl.clone()?);
        Some(Self { operations, table: name.to_owned(), attribute, keys })
    }

    /// Passes over the table again and again until `stop` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let _ = stop
            .run_until_cancelled(async {
                loop {
                    tokio::time::sleep(SWEEP).await;
                    match self.pass().await {
                        Ok(()) => {}
                        Err(error) => tracing::warn!(error, "expired items could not be deleted"),
                    }
                }
            })
            .await;
    }

    /// Reads the whole table once, and deletes what has expired.
    async fn pass(&self) -> Result<(), String> {
        let mut start = None;
        loop {
            let (sweeper, began) = (self.clone(), Instant::now());
            let read = tokio::task::spawn_blocking(move || sweeper.page(start)).await;
            start = read.map_err(|panic| panic.to_string())?.map_err(|error| error.to_string())?;
            if start.is_none() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE.max(began.elapsed() * SWEEP_PAUSES)).await;
        }
    }

    /// Deletes what has expired of the items after `start`. Returns where the next page starts.
    fn page(&self, start: Option<Item>) -> Result<Option<Item>, DynoxideError> {
        let internal = DynoxideError::InternalServerError;
        let now = (SystemClock.now_ms() / 1000).to_string();
        let (ttl, values) = (json!({ "#ttl": self.attribute }), json!({ ":now": { "N": now } }));
        let mut scan = json!({
            "TableName": self.table,
            "Limit": SWEEP_ITEMS,
            "FilterExpression": "#ttl < :now",
            "ExpressionAttributeNames": ttl,
            "ExpressionAttributeValues": values,
        });
        if let Some(start) = start {
            scan["ExclusiveStartKey"] = json!(start);
        }
        let scan = request(scan).map_err(internal)?;
        let scanned = self.operations.wait_and(|database| database.scan(scan))?;
        for mut expired in scanned.items.unwrap_or_default() {
            expired.retain(|attribute, _| self.keys.contains(attribute));
            let delete = json!({
                "TableName": self.table,
                "Key": expired,
                "ConditionExpression": "#ttl < :now",
                "ExpressionAttributeNames": ttl,
                "ExpressionAttributeValues": values,
            });
            let delete = request(delete).map_err(internal)?;
            match self.operations.wait_and(|database| database.delete_item(delete)) {
                // A function has just replaced it.
                Err(DynoxideError::ConditionalCheckFailedException(..)) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(scanned.last_evaluated_key)
    }
}

/// Opens the database in a directory. Returns its file too.
fn open(directory: &Path) -> Result<(Database, PathBuf), String> {
    std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let file = directory.join(FILE);
    let path = file.to_str().ok_or_else(|| format!("{}: the name is not UTF-8", file.display()))?;
    let database = Database::new(path).map_err(|error| format!("{path}: {error}"))?;
    // Despite its name, this only makes the engine wait for the disk at checkpoints (`synchronous = NORMAL`). The log
    // is flushed after each write.
    database.disable_bulk_loading().map_err(|error| format!("{path}: {error}"))?;
    Ok((database, file))
}

fn create(database: &Database, name: &str, table: &TableDefinition) -> Result<(), String> {
    let pairs = |pairs: &[(String, String)], value: &str| -> Vec<Value> {
        pairs.iter().map(|(attribute, of)| json!({ "AttributeName": attribute, value: of })).collect()
    };
    let index = |index: &IndexDefinition| {
        json!({
            "IndexName": index.name,
            "KeySchema": pairs(&index.keys, "KeyType"),
            "Projection": { "ProjectionType": index.projection },
        })
    };
    let mut definition = json!({
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": pairs(&table.attributes, "AttributeType"),
        "KeySchema": pairs(&table.keys, "KeyType"),
    });
    if !table.indexes.is_empty() {
        definition["GlobalSecondaryIndexes"] = table.indexes.iter().map(index).collect();
    }
    match database.create_table(request(definition)?) {
        Ok(_) => {}
        Err(DynoxideError::ResourceInUseException(_)) => return check(database, name, table),
        Err(error) => return Err(error.to_string()),
    }
    let Some(attribute) = &table.ttl else { return Ok(()) };
    let ttl = request(json!({
        "TableName": name,
        "TimeToLiveSpecification": { "AttributeName": attribute, "Enabled": true },
    }))?;
    database.update_time_to_live(ttl).map(|_| ()).map_err(|error| error.to_string())
}

/// Refuses a table of an older version, which lacks an index.
fn check(database: &Database, name: &str, table: &TableDefinition) -> Result<(), String> {
    let description = database.describe_table(request(json!({ "TableName": name }))?);
    let description = description.map_err(|error| error.to_string())?;
    let description = serde_json::to_value(description).map_err(|error| error.to_string())?;
    let indexes = description["Table"]["GlobalSecondaryIndexes"].as_array().cloned().unwrap_or_default();
    let is_missing = |index: &&IndexDefinition| !indexes.iter().any(|found| found["IndexName"] == index.name.as_str());
    match table.indexes.iter().find(is_missing) {
        None => Ok(()),
        Some(index) => Err(format!(
            "the data is of an older version: its table lacks the index {}. Begin with an empty --data directory",
            index.name
        )),
    }
}

fn request<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{TEMPLATE, Template};

    #[tokio::test]
    async fn expired_items_are_deleted() {
        let table = Template::parse(TEMPLATE).unwrap().table;
        let engine = Engine::start(None, "chat", &table).unwrap();
        let database = &engine.operations;
        let now = SystemClock.now_ms() / 1000;
        for n in 0..3 * SWEEP_ITEMS {
            let expires_at = if n % 2 == 0 { now - 1 } else { now + 1000 }.to_string();
            let item = json!({ "pk": { "S": n.to_string() }, "sk": { "S": "x" }, "expiresAt": { "N": expires_at } });
            let put = request(json!({ "TableName": "chat", "Item": item })).unwrap();
            database.wait_and(|database| database.put_item(put)).unwrap();
        }
        Sweeper::new(&engine, "chat", &table).unwrap().pass().await.unwrap();
        let scan = request(json!({ "TableName": "chat" })).unwrap();
        let left = database.wait_and(|database| database.scan(scan)).unwrap().items.unwrap();
        assert_eq!(left.len(), 3 * SWEEP_ITEMS / 2);
        let parity = |item: &Item| serde_json::to_value(&item["pk"]).unwrap()["S"].as_str().unwrap().parse::<u32>();
        assert!(left.iter().all(|item| parity(item).unwrap() % 2 == 1));
    }
}
