//! The calls to DynamoDB that all other files use, with their retries, errors and limits.
//!
//! The future of an SDK call has some 8 KB. It is boxed, so that it does not enlarge the futures of those who call, and its
//! memory is free again as soon as the call has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::builders::DeleteItemFluentBuilder;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, DeleteRequest, KeysAndAttributes, Put, PutRequest, TransactWriteItem,
    Update, WriteRequest,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::expression::Expression;
use super::item::{self, Item};
use super::keys::{Key, Range};
use crate::aws::open_connection;
use crate::clock::{Clock, Ms};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::Ids;

/// The most attempts of a write that conflicts with a transaction, and of a batch that DynamoDB processed only in part.
pub(super) const MAX_ATTEMPTS: u32 = 10;

/// The most keys of one BatchGetItem.
const MAX_BATCH_GET: usize = 100;

/// The most items of one BatchWriteItem.
const MAX_BATCH_WRITE: usize = 25;

/// The most calls of one operation that are in flight at once.
pub(super) const MAX_IN_FLIGHT: usize = 8;

/// The table.
#[derive(Debug, Clone)]
pub struct Table {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) retention: Duration,
    pub(super) max_missed_names: usize,
    pub(super) roster_shard: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<Ids>,
}

/// The result of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Transaction {
    Done,
    /// For each part, in order, whether its condition was false.
    Refused(Vec<bool>),
}

/// The condition of a put that replaces only an item that has expired.
const IS_FREE: &str = "attribute_not_exists(pk) OR expiresAt <= :now";

impl Table {
    /// Returns the configured table.
    pub fn new(client: Client, config: &Config, clock: Arc<dyn Clock>, ids: Arc<Ids>) -> Self {
        let Config { table, retention, max_missed_names, roster_shard, .. } = config;
        let (retention, max_missed_names, roster_shard) = (*retention, *max_missed_names, *roster_shard);
        Self { client, name: table.clone(), retention, max_missed_names, roster_shard, clock, ids }
    }

    /// Returns the time before which all messages have expired.
    pub fn oldest(&self) -> Ms {
        self.clock.now_ms().saturating_sub(self.retention_ms())
    }

    pub(super) fn retention_ms(&self) -> Ms {
        Ms::try_from(self.retention.as_millis()).unwrap_or(Ms::MAX)
    }

    /// Opens connections to DynamoDB, before the first calls need them: some are made side by side.
    pub async fn open_connections(&self) {
        let open = async || open_connection!(aws_sdk_dynamodb, self.client.get_item().table_name(&self.name));
        futures::join!(open(), open());
    }

    /// Returns the `expiresAt` of an item with that lifetime, in seconds, as TTL needs it.
    pub(super) fn expires_at(from: Ms, lifetime_ms: Ms) -> AttributeValue {
        item::number(from.saturating_add(lifetime_ms).div_ceil(1000))
    }

    /// Returns whether an item has not expired. TTL deletes items late, so every reader checks this.
    pub(super) fn is_live(&self, item: &Item) -> Result<bool> {
        let expires_at = item::read_optional_number(item, "expiresAt")?;
        Ok(expires_at.is_none_or(|seconds| self.clock.now_ms() < seconds.saturating_mul(1000)))
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Item>> {
        let request =
            self.client.get_item().table_name(&self.name).set_key(Some(key.attributes())).consistent_read(true);
        let answer = Box::pin(request.send()).await.map_err(|error| Error::unavailable("GetItem", error))?;
        Ok(answer.item)
    }

    /// Returns the items that exist, in no order.
    pub(super) async fn get_all(&self, keys: Vec<Key>) -> Result<Vec<Item>> {
        let chunks: Vec<Vec<Key>> = keys.chunks(MAX_BATCH_GET).map(<[Key]>::to_vec).collect();
        let batches = stream::iter(chunks).map(|chunk| self.get_batch(chunk)).buffer_unordered(MAX_IN_FLIGHT);
        let items: Vec<Vec<Item>> = batches.try_collect().await?;
        Ok(items.into_iter().flatten().collect())
    }

    pub(super) async fn get_batch(&self, keys: Vec<Key>) -> Result<Vec<Item>> {
        match self.get_part_of_batch(keys).await? {
            (items, left) if left.is_empty() => Ok(items),
            _ => Err(Error::unavailable("BatchGetItem", "keys stay unprocessed")),
        }
    }

    /// Returns the items of a batch, and the keys that stayed unprocessed.
    pub(super) async fn get_part_of_batch(
        &self,
        keys: Vec<Key>,
    ) -> Result<(Vec<Item>, Vec<HashMap<String, AttributeValue>>)> {
        let mut found = Vec::with_capacity(keys.len());
        let mut left: Vec<HashMap<String, AttributeValue>> = keys.iter().map(Key::attributes).collect();
        for attempt in 0..MAX_ATTEMPTS {
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let wanted = wanted.map_err(|error| Error::unavailable("BatchGetItem", error))?;
            let answer = Box::pin(self.client.batch_get_item().request_items(&self.name, wanted).send()).await;
            let answer = answer.map_err(|error| Error::unavailable("BatchGetItem", error))?;
            found.extend(answer.responses.unwrap_or_default().into_values().flatten());
            left = answer.unprocessed_keys.unwrap_or_default().into_values().flat_map(|rest| rest.keys).collect();
            if left.is_empty() {
                break;
            }
            self.pause(attempt).await;
        }
        Ok((found, left))
    }

    /// Returns the items of one batch that could be read, and the keys of the others.
    pub(super) async fn get_what_can_be_read(&self, keys: Vec<Key>) -> (Vec<Item>, Vec<Key>) {
        match self.get_part_of_batch(keys.clone()).await {
            Ok((items, left)) => {
                let is_left = |key: &Key| left.iter().any(|left| key.is_of(left));
                (items, keys.into_iter().filter(is_left).collect())
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "a batch could not be read");
                (Vec::new(), keys)
            }
        }
    }

    /// Returns one page of a range, and the start of the next one.
    pub(super) async fn query(
        &self,
        range: &Range,
        limit: Option<i32>,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>)> {
        let request = self.query_of(range).consistent_read(true).set_limit(limit).set_exclusive_start_key(start);
        answer_of_query(request).await
    }

    /// Returns one page of a range in either order, and the start of the next one. The read is eventually consistent.
    pub(super) async fn query_eventually(
        &self,
        range: &Range,
        descending: bool,
        limit: i32,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>)> {
        let request = self.query_of(range).scan_index_forward(!descending).limit(limit);
        answer_of_query(request.set_exclusive_start_key(start)).await
    }

    /// Returns the end of a range, the last item first, and the start of what is before it.
    pub(super) async fn query_backwards(&self, range: &Range, limit: i32) -> Result<(Vec<Item>, Option<Item>)> {
        answer_of_query(self.query_of(range).consistent_read(true).scan_index_forward(false).limit(limit)).await
    }

    fn query_of(&self, range: &Range) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", item::text(&range.pk))
            .expression_attribute_values(":from", item::text(&range.from))
            .expression_attribute_values(":to", item::text(&range.to))
    }

    /// Returns every item of a range.
    pub(super) async fn query_all(&self, range: &Range) -> Result<Vec<Item>> {
        let (mut items, mut next) = self.query(range, None, None).await?;
        while next.is_some() {
            let (more, after) = self.query(range, None, next).await?;
            items.extend(more);
            next = after;
        }
        Ok(items)
    }

    /// Puts an item unless there is one that has not expired. Returns whether it was put.
    pub(super) async fn put_if_free(&self, item: Item) -> Result<bool> {
        let put =
            self.put(item).condition_expression(IS_FREE).expression_attribute_values(":now", self.now_in_seconds());
        Ok(self.conditionally("PutItem", || put.clone().send()).await?.is_some())
    }

    fn now_in_seconds(&self) -> AttributeValue {
        item::number(self.clock.now_ms() / 1000)
    }

    pub(super) fn put(&self, item: Item) -> PutItemFluentBuilder {
        self.client.put_item().table_name(&self.name).set_item(Some(item))
    }

    pub(super) fn update(&self, key: &Key) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.name).set_key(Some(key.attributes()))
    }

    pub(super) fn delete(&self, key: &Key) -> DeleteItemFluentBuilder {
        self.client.delete_item().table_name(&self.name).set_key(Some(key.attributes()))
    }

    /// Deletes items, whether they exist or not.
    pub(super) async fn delete_all(&self, keys: Vec<Key>) -> Result<()> {
        let chunks: Vec<Vec<Key>> = keys.chunks(MAX_BATCH_WRITE).map(<[Key]>::to_vec).collect();
        let batches = stream::iter(chunks).map(|chunk| self.delete_batch(chunk)).buffer_unordered(MAX_IN_FLIGHT);
        batches.try_collect().await
    }

    pub(super) async fn delete_batch(&self, keys: Vec<Key>) -> Result<()> {
        let request = |key: &Key| {
            let request = DeleteRequest::builder().set_key(Some(key.attributes())).build();
            let request = request.map_err(|error| Error::unavailable("BatchWriteItem", error))?;
            Ok(WriteRequest::builder().delete_request(request).build())
        };
        self.write_batch(keys.iter().map(request).collect::<Result<_>>()?).await
    }

    /// Puts items, over any others.
    pub(super) async fn put_all(&self, items: Vec<Item>) -> Result<()> {
        let chunks: Vec<Vec<Item>> = items.chunks(MAX_BATCH_WRITE).map(<[Item]>::to_vec).collect();
        let batches = stream::iter(chunks).map(|chunk| self.put_batch(chunk)).buffer_unordered(MAX_IN_FLIGHT);
        batches.try_collect().await
    }

    async fn put_batch(&self, items: Vec<Item>) -> Result<()> {
        let request = |item: Item| {
            let request = PutRequest::builder().set_item(Some(item)).build();
            let request = request.map_err(|error| Error::unavailable("BatchWriteItem", error))?;
            Ok(WriteRequest::builder().put_request(request).build())
        };
        self.write_batch(items.into_iter().map(request).collect::<Result<_>>()?).await
    }

    async fn write_batch(&self, mut left: Vec<WriteRequest>) -> Result<()> {
        for attempt in 0..MAX_ATTEMPTS {
            let answer = Box::pin(self.client.batch_write_item().request_items(&self.name, left).send()).await;
            let answer = answer.map_err(|error| Error::unavailable("BatchWriteItem", error))?;
            left = answer.unprocessed_items.unwrap_or_default().into_values().flatten().collect();
            if left.is_empty() {
                return Ok(());
            }
            self.pause(attempt).await;
        }
        Err(Error::unavailable("BatchWriteItem", "items stay unprocessed"))
    }

    /// Makes all of these writes, or none. Retries conflicts with other transactions, since the SDK does not.
    pub(super) async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<Transaction> {
        for attempt in 0..MAX_ATTEMPTS {
            let sent = self.client.transact_write_items().set_transact_items(Some(writes.clone())).send().await;
            let Err(error) = sent else { return Ok(Transaction::Done) };
            match cancelled(&error) {
                Some(reasons) if reasons.iter().any(|reason| reason == "ConditionalCheckFailed") => {
                    return Ok(Transaction::Refused(reasons.iter().map(|r| r == "ConditionalCheckFailed").collect()));
                }
                Some(reasons) if reasons.iter().any(|reason| is_passing(reason)) => self.pause(attempt).await,
                _ => return Err(Error::unavailable("TransactWriteItems", error)),
            }
        }
        Err(Error::unavailable("TransactWriteItems", "other transactions stay in the way"))
    }

    pub(super) fn put_part(&self, item: Item, condition: Option<&str>) -> Result<TransactWriteItem> {
        let put = Put::builder().table_name(&self.name).set_item(Some(item));
        built(put.set_condition_expression(condition.map(str::to_owned)))
    }

    /// Returns the part of a transaction that puts an item unless there is one that has not expired.
    pub(super) fn put_part_if_free(&self, item: Item) -> Result<TransactWriteItem> {
        let put = Put::builder().table_name(&self.name).set_item(Some(item)).condition_expression(IS_FREE);
        built(put.expression_attribute_values(":now", self.now_in_seconds()))
    }

    pub(super) fn delete_part(
        &self,
        key: &Key,
        condition: Option<&str>,
        values: HashMap<String, AttributeValue>,
    ) -> Result<TransactWriteItem> {
        let delete = Delete::builder().table_name(&self.name).set_key(Some(key.attributes()));
        let delete = delete.set_condition_expression(condition.map(str::to_owned));
        let values = (!values.is_empty()).then_some(values);
        let delete = delete.set_expression_attribute_values(values).build();
        let delete = delete.map_err(|error| Error::unavailable("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    /// Returns the part of a transaction that checks a condition on an item.
    pub(super) fn check_part(
        &self,
        key: &Key,
        condition: &str,
        values: HashMap<String, AttributeValue>,
    ) -> Result<TransactWriteItem> {
        let check = ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(key.attributes()))
            .condition_expression(condition)
            .set_expression_attribute_values((!values.is_empty()).then_some(values))
            .build();
        let check = check.map_err(|error| Error::unavailable("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    pub(super) fn update_part(&self, key: &Key, change: Expression) -> Result<TransactWriteItem> {
        let update = Update::builder().table_name(&self.name).set_key(Some(key.attributes()));
        Ok(TransactWriteItem::builder().update(change.part(update)?).build())
    }

    /// Updates an item if its conditions hold. Returns whether they did.
    pub(super) async fn change(&self, key: &Key, change: Expression) -> Result<bool> {
        let update = change.request(self.update(key));
        Ok(self.conditionally("UpdateItem", || update.clone().send()).await?.is_some())
    }

    /// Waits before another attempt: up to twice as long each time, at random, so that attempts of others do not coincide.
    pub async fn pause(&self, attempt: u32) {
        let most_ms = (10 << attempt.min(6)).min(400);
        self.clock.sleep(Duration::from_millis(1 + self.ids.below(most_ms))).await;
    }

    /// Makes a conditional write of one item. Returns the answer, or nothing if the condition was false.
    pub(super) async fn conditionally<T, E, F>(
        &self,
        operation: &'static str,
        send: impl Fn() -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        for attempt in 0..MAX_ATTEMPTS {
            match Box::pin(send()).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => match error.code() {
                    Some("ConditionalCheckFailedException") => return Ok(None),
                    Some("TransactionConflictException") => self.pause(attempt).await,
                    _ => return Err(Error::unavailable(operation, error)),
                },
            }
        }
        Err(Error::unavailable(operation, "other transactions stay in the way"))
    }
}

pub(super) async fn answer_of_query(request: QueryFluentBuilder) -> Result<(Vec<Item>, Option<Item>)> {
    let answer = Box::pin(request.send()).await.map_err(|error| Error::unavailable("Query", error))?;
    Ok((answer.items.unwrap_or_default(), answer.last_evaluated_key))
}

/// Returns a put as a part of a transaction.
fn built(put: PutBuilder) -> Result<TransactWriteItem> {
    let put = put.build().map_err(|error| Error::unavailable("TransactWriteItems", error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// Returns the reasons of a cancelled transaction.
fn cancelled(error: &SdkError<TransactWriteItemsError>) -> Option<Vec<String>> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            Some(cancelled.cancellation_reasons().iter().map(|r| r.code().unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    }
}

/// Returns whether the same transaction may succeed a moment later.
fn is_passing(reason: &str) -> bool {
    matches!(reason, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
}
