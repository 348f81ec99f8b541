//! Checks the calls of each function by its policies in `template.yaml`. A call that no policy allows is refused with
//! `AccessDeniedException`, as in AWS.
//!
//! Permissions that were used are recorded, so that a test can find those that no function needs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use serde::Deserialize;

use crate::bus::put_events;
use crate::queue::sqs;
use crate::template::{ANY, BUS, QueueDefinition, Statement, TEMPLATE, Template};

tokio::task_local! {
    static FUNCTION: &'static str;
}

/// Runs the code of a function. The policies of that function apply to the calls of this code.
pub async fn run_as<F: Future>(function: &'static str, code: F) -> F::Output {
    FUNCTION.scope(function, code).await
}

/// Returns the function whose code runs in this task.
pub fn running() -> Option<&'static str> {
    FUNCTION.try_with(|function| *function).ok()
}

/// The actions on a queue for which Lambda uses the role of the consuming function.
const OF_CONSUMERS: [&str; 3] = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];

/// The action of every call to the `@connections` API.
const CONNECTIONS: &str = "execute-api:ManageConnections";

/// The policies of all functions, and the permissions that were used.
#[derive(Debug)]
pub struct Policies {
    of: BTreeMap<String, Vec<Statement>>,
    /// The objects, by function and action.
    used: Mutex<BTreeMap<String, BTreeMap<String, BTreeSet<String>>>>,
}

/// An action and its objects: kinds of partition, an index, a method, a queue, or a bus.
type Need<'a> = (String, BTreeSet<Cow<'a, str>>);

/// Why a call is refused.
#[derive(Debug)]
pub struct Refusal {
    function: &'static str,
    action: String,
    on: BTreeSet<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, action, on } = self;
        write!(f, "no policy of the function {function} in template.yaml allows {action} on {on:?}")
    }
}

impl Refusal {
    /// Returns the status of the answer: API Gateway refuses with 403, the others with 400.
    pub(crate) fn status(&self) -> u16 {
        if self.action == CONNECTIONS { 403 } else { 400 }
    }
}

impl Policies {
    /// Creates policies from the statements of each function.
    pub(crate) fn new(of: BTreeMap<String, Vec<Statement>>) -> Self {
        Self { of, used: Mutex::default() }
    }

    /// Returns the policies of the built-in template.
    ///
    /// # Panics
    /// If that template cannot be parsed.
    pub fn of_project() -> Self {
        let template = Template::parse(TEMPLATE).expect("the project's template can be read");
        Self::new(template.policies)
    }

    /// Checks a call to AWS by the function of this task.
    ///
    /// # Errors
    /// Returns a permission that the call needs and no policy of the function allows.
    pub fn check(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let body = request.body().bytes().unwrap_or_default();
        let target = request.headers().get("x-amz-target").and_then(|target| target.split_once('.'));
        self.check_all(match target {
            Some((sqs::SERVICE, operation)) => vec![queue_need(operation, body)],
            Some((put_events::SERVICE, operation)) => vec![bus_need(operation, body)],
            Some((_, operation)) => database_needs(operation, body),
            None => vec![need(CONNECTIONS, request.method())],
        })
    }

    /// Returns a permission that the consumer of a queue lacks, if any.
    pub(crate) fn lacks(&self, queue: &QueueDefinition) -> Option<String> {
        let needs = OF_CONSUMERS.map(|action| need(action, &queue.name));
        let lack = needs.iter().find(|need| !self.allows(&queue.function, need));
        lack.map(|(action, _)| format!("{} needs {action} on {}", queue.function, queue.name))
    }

    fn check_all(&self, needs: Vec<Need<'_>>) -> Result<(), Refusal> {
        // All calls are made in the task of a function. A call outside of one has no policy and is refused.
        let function = running().unwrap_or("(none)");
        let Some((action, on)) = needs.into_iter().find(|need| !self.allows(function, need)) else { return Ok(()) };
        let refusal = Refusal { function, action, on: on.into_iter().map(Cow::into_owned).collect() };
        tracing::error!("{refusal}");
        Err(refusal)
    }

    /// Returns whether one statement allows a need completely, and records the permission as used.
    fn allows(&self, function: &str, (action, on): &Need<'_>) -> bool {
        let statements = self.of.get(function).map(Vec::as_slice).unwrap_or_default();
        let is_allowed = statements.iter().any(|statement| {
            statement.actions.contains(action)
                && on.iter().all(|on| statement.on.iter().any(|of| of == on || of == ANY && !is_index(on)))
        });
        if is_allowed {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let known = used.get(function).and_then(|used| used.get(action));
            if !known.is_some_and(|known| on.iter().all(|on| known.contains(on.as_ref()))) {
                let of_action = used.entry(function.to_owned()).or_default().entry(action.clone()).or_default();
                of_action.extend(on.iter().map(|on| on.clone().into_owned()));
            }
        }
        is_allowed
    }

    /// Returns the permissions that no call has used: function, action, and kind of partition, method, queue or bus.
    pub(crate) fn unused(&self) -> BTreeSet<String> {
        let statements = self.of.iter().flat_map(|(function, all)| all.iter().map(move |one| (function, one)));
        let granted = statements.flat_map(|(function, Statement { actions, on })| {
            actions.iter().flat_map(move |action| on.iter().map(move |on| (function, action, on.as_str())))
        });
        let granted: Vec<_> = granted.collect();
        // A permission on any partition counts as one permission for each kind that a policy names.
        let partitions =
            granted.iter().filter(|(_, action, on)| action.starts_with("dynamodb:") && *on != ANY && !is_index(on));
        let partitions: BTreeSet<&str> = partitions.map(|(.., on)| *on).collect();
        let each = granted.iter().flat_map(|(function, action, on)| {
            let on = if *on == ANY { partitions.clone() } else { [*on].into() };
            on.into_iter().map(move |on| (*function, *action, on))
        });
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_used = |function: &str, action: &str, on: &str| {
            used.get(function).and_then(|used| used.get(action)).is_some_and(|used| used.contains(on))
        };
        let unused = each.filter(|(function, action, on)| !is_used(function, action, on));
        unused.map(|(function, action, on)| format!("{function} {action} {on}")).collect()
    }
}

/// Returns whether an object is an index. A permission on the table does not hold for its indexes.
fn is_index(on: &str) -> bool {
    on.starts_with("index/")
}

/// Returns the kind of a partition as part of its request.
fn kind_of(partition: Cow<'_, str>) -> Cow<'_, str> {
    match partition {
        Cow::Borrowed(partition) => kind(partition).into(),
        Cow::Owned(partition) => kind(&partition).to_owned().into(),
    }
}

fn need<'a>(action: &str, on: &'a str) -> Need<'a> {
    (action.to_owned(), [on.into()].into())
}

/// Returns the kind of a partition: `USER#` for `USER#alice`.
fn kind(partition: &str) -> &str {
    partition.split_inclusive('#').next().unwrap_or_default()
}

/// Returns what a call of SQS needs. A batch has no action of its own.
fn queue_need(operation: &str, body: &[u8]) -> Need<'static> {
    let url = serde_json::from_slice::<QueueRequest>(body).map(|request| request.queue_url).unwrap_or_default();
    let queue = url.rsplit('/').next().unwrap_or_default().to_owned();
    (format!("sqs:{}", operation.strip_suffix("Batch").unwrap_or(operation)), [queue.into()].into())
}

/// Returns what a call of EventBridge needs. The functions know one bus by name. Entries without a name are for the
/// default bus of the account.
fn bus_need(operation: &str, body: &[u8]) -> Need<'static> {
    let request = serde_json::from_slice::<BusRequest>(body).unwrap_or_default();
    let bus = |entry: BusEntry| if entry.event_bus_name.is_some() { BUS } else { "default" };
    let buses: BTreeSet<_> = request.entries.into_iter().map(|entry| bus(entry).into()).collect();
    // No malformed request may avoid the check of policies.
    let unknown = || ["unknown".into()].into();
    (format!("events:{operation}"), if buses.is_empty() { unknown() } else { buses })
}

/// Returns what a call of DynamoDB needs. A transaction needs what its parts need.
fn database_needs<'a>(operation: &str, body: &'a [u8]) -> Vec<Need<'a>> {
    // The engine refuses malformed requests. But no malformed request may avoid the check of policies.
    let unknown = || vec![need(&format!("dynamodb:{operation}"), "unknown")];
    parse_database_needs(operation, body).unwrap_or_else(unknown)
}

fn parse_database_needs<'a>(operation: &str, body: &'a [u8]) -> Option<Vec<Need<'a>>> {
    let on = match operation {
        "BatchGetItem" => {
            let request: Request<HashMap<&str, Keys<'a>>> = serde_json::from_slice(body).ok()?;
            request.items.into_values().flat_map(|table| table.keys).map(Key::kind).collect()
        }
        "BatchWriteItem" => {
            let request: Request<HashMap<&str, Vec<HashMap<&str, Target<'a>>>>> = serde_json::from_slice(body).ok()?;
            request.items.into_values().flatten().flatten().map(|(_, target)| target.key.kind()).collect()
        }
        "TransactWriteItems" => {
            let request: Request<Vec<HashMap<&str, Target<'a>>>> = serde_json::from_slice(body).ok()?;
            let parts: Vec<_> = request.items.into_iter().flatten().collect();
            let actions: BTreeSet<String> = parts.iter().map(|(part, _)| format!("dynamodb:{part}Item")).collect();
            // AWS does not say whether a condition on the keys sees those of an action, or of the whole transaction. So a policy
            // must allow either.
            let on: BTreeSet<Cow<'a, str>> = parts.into_iter().map(|(_, target)| target.key.kind()).collect();
            return Some(actions.into_iter().map(|action| (action, on.clone())).collect());
        }
        "Query" => [serde_json::from_slice::<Query<'a>>(body).ok()?.kind()?].into(),
        "DeleteItem" | "GetItem" | "PutItem" | "UpdateItem" => {
            [serde_json::from_slice::<Target<'a>>(body).ok()?.key.kind()].into()
        }
        // Other operations, such as Scan, do not name their partitions.
        _ => return None,
    };
    Some(vec![(format!("dynamodb:{operation}"), on)])
}

#[derive(Deserialize)]
struct Request<T> {
    #[serde(rename = "RequestItems", alias = "TransactItems")]
    items: T,
}

#[derive(Deserialize)]
struct Keys<'a> {
    #[serde(rename = "Keys", borrow)]
    keys: Vec<Key<'a>>,
}

/// The key of an item, or an item with its key.
#[derive(Deserialize)]
struct Target<'a> {
    #[serde(rename = "Key", alias = "Item", borrow)]
    key: Key<'a>,
}

/// The partition key of the table.
#[derive(Deserialize)]
struct Key<'a> {
    #[serde(borrow)]
    pk: Text<'a>,
}

impl<'a> Key<'a> {
    fn kind(self) -> Cow<'a, str> {
        kind_of(self.pk.text)
    }
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(rename = "S", borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query<'a> {
    index_name: Option<String>,
    #[serde(borrow)]
    key_condition_expression: Cow<'a, str>,
    #[serde(borrow)]
    expression_attribute_values: HashMap<&'a str, Operand<'a>>,
}

impl<'a> Query<'a> {
    /// Returns its index, or the kind of its partition. The condition must begin with it: `pk = :value`.
    fn kind(mut self) -> Option<Cow<'a, str>> {
        if let Some(index) = &self.index_name {
            return Some(format!("index/{index}").into());
        }
        let value = self.key_condition_expression.strip_prefix("pk = ")?.split(' ').next()?;
        self.expression_attribute_values.remove(value)?.text.map(kind_of)
    }
}

/// A value of an expression, which may be a text.
#[derive(Deserialize)]
struct Operand<'a> {
    #[serde(rename = "S", borrow)]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueRequest {
    queue_url: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BusRequest {
    entries: Vec<BusEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BusEntry {
    event_bus_name: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn policies(statements: &[(&[&str], &[&str])]) -> Policies {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let statements = statements.iter().map(|(actions, on)| Statement { actions: owned(actions), on: owned(on) });
        Policies::new([("f".to_owned(), statements.collect())].into())
    }

    fn asked(policies: &Policies, operation: &str, request: &Value) -> bool {
        asked_for(policies, database_needs(operation, request.to_string().as_bytes())).is_ok()
    }

    fn asked_for(policies: &Policies, needs: Vec<Need>) -> Result<(), Refusal> {
        FUNCTION.sync_scope("f", || policies.check_all(needs))
    }

    fn post() -> Need<'static> {
        need(CONNECTIONS, "POST")
    }

    fn key(pk: &str) -> Value {
        json!({ "pk": { "S": pk }, "sk": { "S": "x" }, "n": { "N": "1" } })
    }

    #[test]
    fn every_partition_of_a_call_must_be_allowed() {
        let policies = policies(&[
            (&["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"], &["USER#"]),
            (&["dynamodb:BatchWriteItem", "dynamodb:BatchGetItem"], &["GROUP#"]),
        ]);
        let get = |pk: &str| json!({ "TableName": "t", "Key": key(pk) });
        assert!(asked(&policies, "GetItem", &get("USER#a")));
        assert!(!asked(&policies, "GetItem", &get("GROUP#a")));
        assert!(!asked(&policies, "UpdateItem", &get("USER#a")));
        let batch = |keys: &[&str]| {
            let keys: Vec<Value> = keys.iter().map(|pk| key(pk)).collect();
            json!({ "RequestItems": { "t": { "Keys": keys } } })
        };
        assert!(asked(&policies, "BatchGetItem", &batch(&["USER#a", "USER#b"])));
        assert!(asked(&policies, "BatchGetItem", &batch(&["GROUP#a"])));
        // Two statements allow one half each. AWS requires one statement that allows both.
        assert!(!asked(&policies, "BatchGetItem", &batch(&["USER#a", "GROUP#a"])));
        let query = |condition: &str| {
            let values = json!({ ":pk": { "S": "USER#a" }, ":sk": { "S": "x" } });
            json!({ "KeyConditionExpression": condition, "ExpressionAttributeValues": values })
        };
        assert!(asked(&policies, "Query", &query("pk = :pk AND sk > :sk")));
        assert!(!asked(&policies, "Query", &query("sk > :sk AND pk = :pk")));
        let write = |pk: &str| {
            let parts = json!([{ "PutRequest": { "Item": key(pk) } }, { "DeleteRequest": { "Key": key("GROUP#b") } }]);
            json!({ "RequestItems": { "t": parts } })
        };
        assert!(asked(&policies, "BatchWriteItem", &write("GROUP#a")));
        assert!(!asked(&policies, "BatchWriteItem", &write("USER#a")));
        for operation in ["GetItem", "BatchGetItem", "BatchWriteItem", "Query", "TransactWriteItems", "Scan"] {
            assert!(!asked(&policies, operation, &json!({})), "{operation}");
        }
    }

    #[test]
    fn a_transaction_needs_the_permissions_of_its_parts() {
        let check = &["dynamodb:ConditionCheckItem"][..];
        let transaction = json!({ "TransactItems": [
            { "ConditionCheck": { "Key": key("USER#a") } }, { "Put": { "Item": key("GROUP#a") } },
        ] });
        let put = &["dynamodb:PutItem"][..];
        for both in [&[ANY][..], &["USER#", "GROUP#"]] {
            assert!(asked(&policies(&[(check, both), (put, both)]), "TransactWriteItems", &transaction));
        }
        // The condition on the keys may see all keys of the transaction.
        let each = policies(&[(check, &["USER#"]), (put, &["GROUP#"])]);
        assert!(!asked(&each, "TransactWriteItems", &transaction));
        assert!(!asked(&policies(&[(check, &[ANY])]), "TransactWriteItems", &transaction));
    }

    #[test]
    fn unused_permissions_are_listed() {
        let policies = policies(&[
            (&["dynamodb:GetItem", "dynamodb:PutItem"], &[ANY]),
            (&["dynamodb:Query"], &["USER#", "GROUP#"]),
            (&["sqs:SendMessage"], &["Q"]),
            (&[CONNECTIONS], &["POST", "GET"]),
        ]);
        for pk in ["USER#a", "GROUP#a"] {
            assert!(asked(&policies, "GetItem", &json!({ "Key": key(pk) })));
        }
        assert!(asked(&policies, "PutItem", &json!({ "Item": key("USER#a") })));
        let queue = |operation: &str, name: &str| {
            let request = json!({ "QueueUrl": format!("http://here/0/{name}") }).to_string();
            asked_for(&policies, vec![queue_need(operation, request.as_bytes())])
        };
        queue("SendMessageBatch", "Q").unwrap();
        let refusal = queue("SendMessage", "other").unwrap_err();
        let said = "no policy of the function f in template.yaml allows sqs:SendMessage on {\"other\"}";
        assert_eq!(refusal.to_string(), said);
        asked_for(&policies, vec![post()]).unwrap();
        let unused = [
            "f dynamodb:PutItem GROUP#",
            "f dynamodb:Query GROUP#",
            "f dynamodb:Query USER#",
            "f execute-api:ManageConnections GET",
        ];
        assert_eq!(policies.unused(), unused.map(str::to_owned).into());
        assert!(policies.check_all(vec![post()]).is_err(), "outside of a function");
    }

    #[test]
    fn events_need_a_permission_on_the_bus() {
        let policies = policies(&[(&["events:PutEvents"], &[BUS])]);
        let put = |request: &Value| asked_for(&policies, vec![bus_need("PutEvents", request.to_string().as_bytes())]);
        let named = json!({ "EventBusName": "local", "Source": "chat" });
        assert_eq!(policies.unused(), ["f events:PutEvents EventBusName".to_owned()].into());
        assert!(put(&json!({ "Entries": [named, { "Source": "chat" }] })).is_err());
        for nothing in [json!({}), json!({ "Entries": [] }), json!({ "Entries": 1 })] {
            assert!(put(&nothing).is_err());
        }
        assert_eq!(policies.unused().len(), 1);
        put(&json!({ "Entries": [named, named] })).unwrap();
        assert!(policies.unused().is_empty());
        assert!(asked_for(&policies, vec![bus_need("PutRule", b"{}")]).is_err());
    }

    #[test]
    fn a_consumer_needs_three_permissions_on_its_queue() {
        let queue = QueueDefinition {
            name: "Q".to_owned(),
            function: "f".to_owned(),
            batch: 1,
            visibility: Duration::ZERO,
            dead_letters: None,
        };
        assert_eq!(policies(&[(&OF_CONSUMERS, &["Q"])]).lacks(&queue), None);
        let lack = policies(&[(&OF_CONSUMERS[..2], &["Q"])]).lacks(&queue);
        assert_eq!(lack.as_deref(), Some("f needs sqs:GetQueueAttributes on Q"));
    }
}
