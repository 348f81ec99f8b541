//! DynamoDB in this process: the table, on disk or in memory, and the deletion of expired items.
//!
//! It has no listener. Functions reach it through `direct`, other programs through `dynamodb`.

use std::path::Path;
use std::time::Duration;

use dynoxide::Database;
use dynoxide::errors::DynoxideError;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::template::{IndexDefinition, TableDefinition};

/// How often expired items are deleted.
const SWEEP: Duration = Duration::from_secs(60);

/// The file in the data directory.
const FILE: &str = "dynamodb.sqlite";

/// Opens the database, in memory or in a directory. Creates the table if it does not exist.
pub(crate) fn start(data: Option<&Path>, name: &str, table: &TableDefinition) -> Result<Database, String> {
    let database = open(data)?;
    create(&database, name, table)?;
    Ok(database)
}

/// Deletes expired items at intervals until `stop` is cancelled.
pub(crate) async fn sweep(database: Database, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
        let swept = database.clone();
        match tokio::task::spawn_blocking(move || swept.sweep_ttl()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "expired items could not be deleted"),
            Err(_panic) => tracing::error!("the deletion of expired items panicked"),
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
