//! A large group: created by the API, and filled directly in the table.
//!
//! Inviting a hundred thousand users through the API would take most of an hour. So one user accepts, and that user's
//! item in the group is copied for all others. A copy differs in the user id and in the shard of the roster, as after a
//! real acceptance.

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::{Value, json};

use crate::api::{answer, bring, create_group};
use crate::server::{Server, user};
use crate::{Failure, progress};

/// The user who creates the group.
pub(crate) const MANAGER: usize = 0;

/// The user who is invited and accepts.
const ACCEPTED: usize = 1;

/// The local stack's only table.
pub(crate) const TABLE: &str = "chat";

/// The highest limit of group members that can be configured.
pub(crate) const MOST_MEMBERS: usize = 100_000;

/// The number of members beyond which a roster uses more partitions. This is the default, and the server gets it too.
pub(crate) const SHARD: usize = 2_000;

/// The most items of one call, and the most concurrent calls.
const BATCH: usize = 25;
const CALLS: usize = 4;

/// A large group.
pub(crate) struct Roster {
    /// The group id.
    pub(crate) group: String,
    /// The members without the manager, shard by shard.
    others: Vec<usize>,
}

impl Roster {
    /// Creates a group with this many members, including the manager.
    pub(crate) async fn make(server: &Server, members: usize) -> Result<Self, Failure> {
        // Dropped at the end, because its open connections take the place of clients.
        let http = Client::new();
        let group = create_group(&http, server, MANAGER).await?;
        bring(&http, server, &group, MANAGER, ACCEPTED).await?;
        let table = Table { http, url: server.dynamodb.clone() };
        let items = table.scan().await?;
        let find = |is: &dyn Fn(&Value) -> bool| items.iter().find(|item| is(item)).ok_or("an item is missing");
        let meta = find(&|item| item.get("managerId").is_some())?;
        let accepted = find(&|item| item["user"]["S"] == user(ACCEPTED).as_str())?;

        let mut others: Vec<(usize, usize)> = (ACCEPTED..members).map(|n| (shard_of(n), n)).collect();
        table.write(accepted, &others[1..]).await?;
        let last = others.iter().map(|(shard, _)| *shard).max().unwrap_or_default();
        table.grow(meta, members, last).await?;
        others.sort_unstable();
        Ok(Self { group, others: others.into_iter().map(|(_, n)| n).collect() })
    }

    /// Returns `count` members, from each shard in proportion to its size.
    pub(crate) fn some(&self, count: usize) -> Vec<usize> {
        (0..count).map(|n| self.others[n * self.others.len() / count]).collect()
    }
}

/// The shard of a member who joins when there are `members` others, if shards fill evenly: `shard_of_next` of the
/// table.
fn shard_of(members: usize) -> usize {
    let first = (members / SHARD).checked_ilog2().map_or(0, |doubled| 1 << doubled);
    if first == 0 { 0 } else { first + members % first }
}

/// The table, called as any AWS tool calls it.
struct Table {
    http: Client,
    url: String,
}

impl Table {
    /// All items. There are few, because there is one group of two members.
    async fn scan(&self) -> Result<Vec<Value>, Failure> {
        let found = self.call("Scan", &json!({ "TableName": TABLE })).await?;
        Ok(found["Items"].as_array().cloned().unwrap_or_default())
    }

    /// Writes the member's item again for others, each in the given shard.
    async fn write(&self, accepted: &Value, others: &[(usize, usize)]) -> Result<(), Failure> {
        let calls = others.chunks(BATCH).map(|batch| self.write_batch(accepted, batch));
        let mut written = 0;
        let mut calls = stream::iter(calls).buffer_unordered(CALLS);
        while let Some(count) = calls.try_next().await? {
            written += count;
            progress(&format!("{written} of {} members written", others.len()));
        }
        Ok(())
    }

    async fn write_batch(&self, accepted: &Value, batch: &[(usize, usize)]) -> Result<usize, Failure> {
        let copies = batch.iter().map(|(shard, n)| copy(accepted, *shard, *n));
        let puts: Vec<Value> = copies.map(|item| json!({ "PutRequest": { "Item": item } })).collect();
        let done = self.call("BatchWriteItem", &json!({ "RequestItems": { TABLE: puts } })).await?;
        match done["UnprocessedItems"].as_object().is_none_or(serde_json::Map::is_empty) {
            true => Ok(batch.len()),
            false => Err("members were not written".into()),
        }
    }

    /// Sets the member count and the last shard in META.
    async fn grow(&self, meta: &Value, members: usize, last: usize) -> Result<(), Failure> {
        let mut change = "SET memberCount = :members".to_owned();
        let mut values = json!({ ":members": { "N": members.to_string() } });
        if last > 0 {
            change.push_str(", lastShard = :last");
            values[":last"] = json!({ "N": last.to_string() });
        }
        let update = json!({
            "TableName": TABLE,
            "Key": { "pk": meta["pk"], "sk": meta["sk"] },
            "UpdateExpression": change,
            "ExpressionAttributeValues": values,
        });
        self.call("UpdateItem", &update).await.map(|_| ())
    }

    async fn call(&self, operation: &str, body: &Value) -> Result<Value, Failure> {
        let call = self
            .http
            .post(&self.url)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            // Required, but not verified.
            .header("x-amz-date", "20260101T000000Z")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=load, SignedHeaders=host, Signature=none")
            .body(body.to_string());
        Ok(serde_json::from_str(&answer(call).await?)?)
    }
}

/// Copies a member's item for another user in a shard. The prefix of the key stays.
fn copy(accepted: &Value, shard: usize, n: usize) -> Value {
    let mut item = accepted.clone();
    for name in ["sk", "user"] {
        item[name]["S"] = json!(text(accepted, name).replace(&user(ACCEPTED), &user(n)));
    }
    if shard > 0 {
        item["pk"]["S"] = json!(format!("{}#{shard}", text(accepted, "pk")));
    }
    item
}

fn text<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name]["S"].as_str().unwrap_or_default()
}
