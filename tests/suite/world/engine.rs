//! Another engine in place of the embedded one, such as DynamoDB Local, for the local stack that tests share.

use serde_json::{Value, json};

/// The name of the table.
pub(crate) const TABLE: &str = "chat";

/// Returns the address of the engine, if the environment has one.
pub(crate) fn address() -> Option<String> {
    std::env::var("DYNAMODB_URL").ok().filter(|url| !url.is_empty())
}

/// Creates the table at the engine, in a database of its own. Returns the variables with which functions use it.
pub(crate) async fn fresh(url: &str) -> [(String, String); 2] {
    // DynamoDB Local has a database for each access key, and does not check signatures.
    let key = format!("suite{:016x}", rand::random::<u64>());
    let signed = format!("AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/dynamodb/aws4_request, Signature=none");
    let created = reqwest::Client::new()
        .post(url)
        .header("x-amz-target", "DynamoDB_20120810.CreateTable")
        .header("content-type", "application/x-amz-json-1.0")
        .header("authorization", signed)
        .body(creation().to_string());
    let created = created.send().await.expect("the engine at DYNAMODB_URL answers");
    assert!(created.status().is_success(), "{}", created.text().await.unwrap_or_default());
    variables(url, &key)
}

/// Returns the variables with which functions use an engine.
pub(crate) fn variables(url: &str, key: &str) -> [(String, String); 2] {
    [("AWS_ENDPOINT_URL_DYNAMODB", url), ("AWS_ACCESS_KEY_ID", key)].map(|(name, value)| (name.into(), value.into()))
}

/// Returns the call that creates the table.
pub(crate) fn creation() -> Value {
    json!({
        "TableName": TABLE,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            { "AttributeName": "pk", "AttributeType": "S" }, { "AttributeName": "sk", "AttributeType": "S" },
            { "AttributeName": "conversation", "AttributeType": "S" }, { "AttributeName": "id", "AttributeType": "S" },
        ],
        "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }, { "AttributeName": "sk", "KeyType": "RANGE" }],
        "GlobalSecondaryIndexes": [{
            "IndexName": "conversation",
            "KeySchema": [
                { "AttributeName": "conversation", "KeyType": "HASH" }, { "AttributeName": "id", "KeyType": "RANGE" },
            ],
            "Projection": { "ProjectionType": "ALL" },
        }],
    })
}
