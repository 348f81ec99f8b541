//! A large group: made by the API, and filled in the table.
//!
//! To invite a hundred thousand users and let each accept would take the better part of an hour. So one accepts, and the
//! item by which the group knows him is copied for all others, as their acceptances would leave it: a copy differs in the
//! user's id and in the shard of the roster.

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::{Value, json};

use crate::api::{answer, bring, create_group};
use crate::server::{Server, user};
use crate::{Failure, progress};

/// The user who makes the group.
pub(crate) const MANAGER: usize = 0;

/// The user who is invited and accepts.
const ACCEPTED: usize = 1;

/// The local stack's only table.
pub(crate) const TABLE: &str = "chat";

/// How many members a group can have at most, if the server is told so.
pub(crate) const MOST_MEMBERS: usize = 100_000;

/// Beyond how many members a roster is spread over more partitions: the default, which the server is given too.
pub(crate) const SHARD: usize = 2_000;

/// How many items one call writes at most, and how many calls are under way at once.
const BATCH: usize = 25;
const CALLS: usize = 4;

/// A large group.
pub(crate) struct Roster {
    /// Its id.
    pub(crate) group: String,
    /// Its members without the manager, shard by shard.
    others: Vec<usize>,
}

impl Roster {
    /// Make a group of so many members, the manager among them.
    pub(crate) async fn make(server: &Server, members: usize) -> Result<Self, Failure> {
        // Dropped when it is done: what it holds open takes the place of a client.
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

    /// So many of its members, as many of each shard as its size makes it.
    pub(crate) fn some(&self, count: usize) -> Vec<usize> {
        (0..count).map(|n| self.others[n * self.others.len() / count]).collect()
    }
}

/// The shard of a member who finds so many others, if chance spreads them evenly: `shard_of_next` of the table.
fn shard_of(members: usize) -> usize {
    let first = (members / SHARD).checked_ilog2().map_or(0, |doubled| 1 << doubled);
    if first == 0 { 0 } else { first + members % first }
}

/// The table, as any AWS tool reaches it.
struct Table {
    http: Client,
    url: String,
}

impl Table {
    /// All that is in it: little, as long as there is one group of two.
    async fn scan(&self) -> Result<Vec<Value>, Failure> {
        let found = self.call("Scan", &json!({ "TableName": TABLE })).await?;
        Ok(found["Items"].as_array().cloned().unwrap_or_default())
    }

    /// Write the member's item again for others, each in that shard.
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

    /// Let META say how many members there are, and which is the last shard of their roster.
    async fn grow(&self, meta: &Value, members: usize, last: usize) -> Result<(), Failure> {
        let mut change = "SET memberCount = :members".to_owned();
        let mut values = json!({ ":members": { "N": members.to_string() } });
        if last > 0 {
            change.push_str(", shards = :last");
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
            // Asked for, and not verified.
            .header("x-amz-date", "20260101T000000Z")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=load, SignedHeaders=host, Signature=none")
            .body(body.to_string());
        Ok(serde_json::from_str(&answer(call).await?)?)
    }
}

/// A member's item, as that of another in a shard. How its key begins is the table's affair.
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
