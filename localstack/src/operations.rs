//! Runs the operations of DynamoDB by their names, in this process: JSON in, JSON out.
//!
//! Both `direct`, which serves the functions, and `dynamodb`, which serves other programs, call it.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use dynoxide::Database;
use dynoxide::errors::DynoxideError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::turns;

/// The prefixes by which the engine's decoder marks errors, and whether each means a `ValidationException`.
const MARKS: [(&str, bool); 5] = [
    ("SERIALIZATION_AS_READ:", false),
    ("SERIALIZATION:", false),
    ("VALIDATION_AS_READ:", true),
    ("VALIDATION_REQUEST:", true),
    ("VALIDATION:", true),
];

/// Parts of decoder errors without a prefix that DynamoDB reports as a `ValidationException`.
const VALIDATED: [&str; 4] = ["missing field", "unknown variant", "invalid type: null", "AttributeValue"];

/// How often a call looks whether the database is free before its thread sleeps until it is.
const MAX_LOOKS: usize = 200;

/// The operations of a database, which performs one call at a time.
#[derive(Clone)]
pub(crate) struct Operations {
    database: Database,
    /// Held by the thread that calls the database.
    busy: Arc<Mutex<()>>,
}

impl Operations {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, busy: Arc::default() }
    }

    /// Performs an operation and returns the status and the body of the answer. What it wrote need not be on the disk yet.
    pub(crate) async fn answer(&self, operation: &str, body: &[u8]) -> (u16, String) {
        match self.perform(operation, body).await {
            Ok(done) => (200, done),
            Err(error) => (error.status_code(), error.to_json()),
        }
    }

    async fn perform(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        match operation {
            "BatchGetItem" => self.call(body, Database::batch_get_item).await,
            "BatchWriteItem" => self.call(body, Database::batch_write_item).await,
            "DeleteItem" => self.call(body, Database::delete_item).await,
            "GetItem" => self.call(body, Database::get_item).await,
            "PutItem" => self.call(body, Database::put_item).await,
            "Query" => self.call(body, Database::query).await,
            "TransactWriteItems" => self.call(body, Database::transact_write_items).await,
            "UpdateItem" => self.call(body, Database::update_item).await,
            // Functions do not call the following operations. Tools for tables do.
            "BatchExecuteStatement" => self.call(body, Database::batch_execute_statement).await,
            "CreateTable" => self.call(body, Database::create_table).await,
            "DeleteTable" => self.call(body, Database::delete_table).await,
            "DescribeStream" => self.call(body, Database::describe_stream).await,
            "DescribeTable" => self.call(body, Database::describe_table).await,
            "DescribeTimeToLive" => self.call(body, Database::describe_time_to_live).await,
            "ExecuteStatement" => self.call(body, Database::execute_statement).await,
            "ExecuteTransaction" => self.call(body, Database::execute_transaction).await,
            "GetRecords" => self.call(body, Database::get_records).await,
            "GetShardIterator" => self.call(body, Database::get_shard_iterator).await,
            "ListStreams" => self.call(body, Database::list_streams).await,
            "ListTables" => self.call(body, Database::list_tables).await,
            "ListTagsOfResource" => self.call(body, Database::list_tags_of_resource).await,
            "Scan" => self.call(body, Database::scan).await,
            "TagResource" => self.call(body, Database::tag_resource).await,
            "TransactGetItems" => self.call(body, Database::transact_get_items).await,
            "UntagResource" => self.call(body, Database::untag_resource).await,
            "UpdateTable" => self.call(body, Database::update_table).await,
            "UpdateTimeToLive" => self.call(body, Database::update_time_to_live).await,
            _ => Err(DynoxideError::UnsupportedCapability(operation.to_owned())),
        }
    }

    async fn call<I: DeserializeOwned, O: Serialize>(
        &self,
        body: &[u8],
        call: fn(&Database, I) -> Result<O, DynoxideError>,
    ) -> Result<String, DynoxideError> {
        let input = serde_json::from_slice(body).map_err(|error| refusal(&error.to_string()))?;
        let output = self.when_free(|database| call(database, input)).await?;
        serde_json::to_string(&output).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
    }

    /// Calls the database when it is free. Until then, the thread runs other functions: to let it sleep and to wake it
    /// takes longer than most calls do.
    async fn when_free<T>(&self, call: impl FnOnce(&Database) -> T) -> T {
        for _ in 0..MAX_LOOKS {
            match self.busy.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                _held => return call(&self.database),
            }
            turns::let_others_pass().await;
        }
        self.wait_and(call)
    }

    /// Calls the database when it is free. Until then, the thread sleeps.
    pub(crate) fn wait_and<T>(&self, call: impl FnOnce(&Database) -> T) -> T {
        let _held = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        call(&self.database)
    }
}

/// Returns the exception for a decoder's message.
fn refusal(message: &str) -> DynoxideError {
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let marked = MARKS.iter().find_map(|(mark, validates)| Some((message.strip_prefix(mark)?, *validates)));
    let is_validated = || VALIDATED.iter().any(|validated| message.contains(validated));
    match marked.unwrap_or_else(|| (message, is_validated())) {
        (message, true) => DynoxideError::ValidationException(message.to_owned()),
        (message, false) => DynoxideError::SerializationException(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TABLE: &str = "table";

    async fn database() -> Operations {
        let database = Operations::new(Database::memory().unwrap());
        let made = call(
            &database,
            "CreateTable",
            &json!({
                "TableName": TABLE,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
            }),
        )
        .await;
        assert_eq!(made.0, 200, "{made:?}");
        database
    }

    async fn call(database: &Operations, operation: &str, input: &Value) -> (u16, Value) {
        let (status, body) = database.answer(operation, input.to_string().as_bytes()).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Returns the status and the name of the exception.
    async fn refused(operation: &str, body: &str) -> (u16, String) {
        let (status, body) = database().await.answer(operation, body.as_bytes()).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body["__type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_tool_reads_and_changes_a_table() {
        let database = database().await;
        let item = json!({ "pk": { "S": "a" } });
        let key = json!({ "TableName": TABLE, "Key": item });
        let call = async |operation: &str, input: Value| call(&database, operation, &input).await;
        assert_eq!(call("ListTables", json!({})).await.1["TableNames"], json!([TABLE]));
        assert_eq!(call("PutItem", json!({ "TableName": TABLE, "Item": item })).await.0, 200);
        assert_eq!(call("Scan", json!({ "TableName": TABLE })).await.1["Items"], json!([item]));
        let got = call("TransactGetItems", json!({ "TransactItems": [{ "Get": key }] })).await;
        assert_eq!(got.1["Responses"][0]["Item"], item);
        let ttl = json!({ "AttributeName": "expiresAt", "Enabled": true });
        let enabled = call("UpdateTimeToLive", json!({ "TableName": TABLE, "TimeToLiveSpecification": ttl })).await;
        assert_eq!(enabled.0, 200, "{enabled:?}");
        let described = call("DescribeTimeToLive", json!({ "TableName": TABLE })).await;
        assert_eq!(described.1["TimeToLiveDescription"]["AttributeName"], "expiresAt");
        assert_eq!(call("DescribeTable", json!({ "TableName": TABLE })).await.1["Table"]["TableName"], TABLE);
    }

    #[tokio::test]
    async fn undecodable_input_gets_the_exception_of_dynamodb() {
        for (operation, body, exception) in [
            ("PutItem", "{", "SerializationException"),
            ("PutItem", r#"{"TableName":7}"#, "SerializationException"),
            ("PutItem", r#"{"TableName":"table","Item":{"pk":{}}}"#, "ValidationException"),
            ("PutItem", r#"{"TableName":"table","Item":{"pk":{"S":"a","N":"1"}}}"#, "ValidationException"),
            ("PutItem", r#"{"TableName":"table","Item":{"pk":{"S":"a"},"x":{"N":"seven"}}}"#, "ValidationException"),
            ("GetItem", r#"{"TableName":"none","Key":{"pk":{"S":"a"}}}"#, "ResourceNotFoundException"),
        ] {
            assert_eq!(refused(operation, body).await, (400, exception.to_owned()), "{operation} {body}");
        }
        assert_eq!(refused("DropEverything", "{}").await.0, 501);
    }

    #[test]
    fn answers_have_no_prefix_of_the_decoder() {
        for (message, seen) in [
            ("VALIDATION:too long at line 1 column 2", "too long"),
            ("VALIDATION_REQUEST:too long", "too long"),
            ("VALIDATION_AS_READ:too long", "too long"),
            ("SERIALIZATION:no", "no"),
            ("SERIALIZATION_AS_READ:no", "no"),
        ] {
            assert_eq!(refusal(message).to_string(), seen);
        }
    }
}
