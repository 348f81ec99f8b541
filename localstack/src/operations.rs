//! Runs the operations of DynamoDB by their names, in this process: JSON in, JSON out.
//!
//! Both `direct`, which serves the functions, and `dynamodb`, which serves other programs, call it.

use dynoxide::Database;
use dynoxide::errors::DynoxideError;
use serde::Serialize;
use serde::de::DeserializeOwned;

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

/// Performs an operation and returns the status and the body of the answer. A database on disk blocks until it is
/// written.
pub(crate) fn answer(database: &Database, operation: &str, body: &[u8]) -> (u16, String) {
    match perform(database, operation, body) {
        Ok(done) => (200, done),
        Err(error) => (error.status_code(), error.to_json()),
    }
}

fn perform(database: &Database, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
    match operation {
        "BatchGetItem" => with(body, |input| database.batch_get_item(input)),
        "BatchWriteItem" => with(body, |input| database.batch_write_item(input)),
        "DeleteItem" => with(body, |input| database.delete_item(input)),
        "GetItem" => with(body, |input| database.get_item(input)),
        "PutItem" => with(body, |input| database.put_item(input)),
        "Query" => with(body, |input| database.query(input)),
        "TransactWriteItems" => with(body, |input| database.transact_write_items(input)),
        "UpdateItem" => with(body, |input| database.update_item(input)),
        // Functions do not call the following operations. Tools for tables do.
        "BatchExecuteStatement" => with(body, |input| database.batch_execute_statement(input)),
        "CreateTable" => with(body, |input| database.create_table(input)),
        "DeleteTable" => with(body, |input| database.delete_table(input)),
        "DescribeStream" => with(body, |input| database.describe_stream(input)),
        "DescribeTable" => with(body, |input| database.describe_table(input)),
        "DescribeTimeToLive" => with(body, |input| database.describe_time_to_live(input)),
        "ExecuteStatement" => with(body, |input| database.execute_statement(input)),
        "ExecuteTransaction" => with(body, |input| database.execute_transaction(input)),
        "GetRecords" => with(body, |input| database.get_records(input)),
        "GetShardIterator" => with(body, |input| database.get_shard_iterator(input)),
        "ListStreams" => with(body, |input| database.list_streams(input)),
        "ListTables" => with(body, |input| database.list_tables(input)),
        "ListTagsOfResource" => with(body, |input| database.list_tags_of_resource(input)),
        "Scan" => with(body, |input| database.scan(input)),
        "TagResource" => with(body, |input| database.tag_resource(input)),
        "TransactGetItems" => with(body, |input| database.transact_get_items(input)),
        "UntagResource" => with(body, |input| database.untag_resource(input)),
        "UpdateTable" => with(body, |input| database.update_table(input)),
        "UpdateTimeToLive" => with(body, |input| database.update_time_to_live(input)),
        _ => Err(DynoxideError::UnsupportedCapability(operation.to_owned())),
    }
}

fn with<I: DeserializeOwned, O: Serialize>(
    body: &[u8],
    call: impl FnOnce(I) -> Result<O, DynoxideError>,
) -> Result<String, DynoxideError> {
    let output = call(serde_json::from_slice(body).map_err(|error| refusal(&error.to_string()))?)?;
    serde_json::to_string(&output).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
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

    fn database() -> Database {
        let database = Database::memory().unwrap();
        let made = call(
            &database,
            "CreateTable",
            &json!({
                "TableName": TABLE,
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
            }),
        );
        assert_eq!(made.0, 200, "{made:?}");
        database
    }

    fn call(database: &Database, operation: &str, input: &Value) -> (u16, Value) {
        let (status, body) = answer(database, operation, input.to_string().as_bytes());
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Returns the status and the name of the exception.
    fn refused(operation: &str, body: &str) -> (u16, String) {
        let (status, body) = answer(&database(), operation, body.as_bytes());
        let body: Value = serde_json::from_str(&body).unwrap();
        (status, body["__type"].as_str().unwrap().rsplit('#').next().unwrap().to_owned())
    }

    #[test]
    fn a_tool_reads_and_changes_a_table() {
        let database = database();
        let item = json!({ "pk": { "S": "a" } });
        let key = json!({ "TableName": TABLE, "Key": item });
        assert_eq!(call(&database, "ListTables", &json!({})).1["TableNames"], json!([TABLE]));
        assert_eq!(call(&database, "PutItem", &json!({ "TableName": TABLE, "Item": item })).0, 200);
        assert_eq!(call(&database, "Scan", &json!({ "TableName": TABLE })).1["Items"], json!([item]));
        let got = call(&database, "TransactGetItems", &json!({ "TransactItems": [{ "Get": key }] }));
        assert_eq!(got.1["Responses"][0]["Item"], item);
        let ttl = json!({ "AttributeName": "expiresAt", "Enabled": true });
        let enabled =
            call(&database, "UpdateTimeToLive", &json!({ "TableName": TABLE, "TimeToLiveSpecification": ttl }));
        assert_eq!(enabled.0, 200, "{enabled:?}");
        let described = call(&database, "DescribeTimeToLive", &json!({ "TableName": TABLE }));
        assert_eq!(described.1["TimeToLiveDescription"]["AttributeName"], "expiresAt");
        assert_eq!(call(&database, "DescribeTable", &json!({ "TableName": TABLE })).1["Table"]["TableName"], TABLE);
    }

    #[test]
    fn undecodable_input_gets_the_exception_of_dynamodb() {
        for (operation, body, exception) in [
            ("PutItem", "{", "SerializationException"),
            ("PutItem", r#"{"TableName":7}"#, "SerializationException"),
            ("PutItem", r#"{"TableName":"table","Item":{"pk":{}}}"#, "ValidationException"),
            ("PutItem", r#"{"TableName":"table","Item":{"pk":{"S":"a","N":"1"}}}"#, "ValidationException"),
            ("PutItem", r#"{"TableName":"table","Item":{"pk":{"S":"a"},"x":{"N":"seven"}}}"#, "ValidationException"),
            ("GetItem", r#"{"TableName":"none","Key":{"pk":{"S":"a"}}}"#, "ResourceNotFoundException"),
        ] {
            assert_eq!(refused(operation, body), (400, exception.to_owned()), "{operation} {body}");
        }
        assert_eq!(refused("DropEverything", "{}").0, 501);
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
