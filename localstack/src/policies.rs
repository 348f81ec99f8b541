//! What each function may call, by its policies in `template.yaml`. A call that none of them allows is refused with
//! `AccessDeniedException`, as AWS refuses it.
//!
//! Which permissions were used is kept, so that a test can tell which of them no function needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use crate::template::QueueDefinition;

tokio::task_local! {
    /// The function that runs in this task.
    pub(crate) static FUNCTION: &'static str;
}

/// What Lambda does with a queue by the role of the function that takes jobs from it.
const OF_CONSUMERS: [&str; 3] = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];

/// The action of every call for a connection.
const CONNECTIONS: &str = "execute-api:ManageConnections";

/// A statement of a policy: these actions are allowed on what one of these patterns fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) actions: Vec<String>,
    /// Partitions such as `USER#*`, methods for connections, or queues; `*` fits everything.
    pub(crate) on: Vec<String>,
}

/// The policies of all functions, and what was used of them.
#[derive(Debug)]
pub(crate) struct Policies {
    of: BTreeMap<String, Vec<Statement>>,
    used: Mutex<BTreeSet<[String; 3]>>,
}

/// An action, and the partitions, the method or the queue that it is on.
type Need = (String, Vec<String>);

/// Why a call is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    function: &'static str,
    action: String,
    on: BTreeSet<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, action, on } = self;
        let on = on.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        write!(f, "no policy of the function {function} in template.yaml allows {action} on {on}")
    }
}

impl Policies {
    /// These policies, by the functions that have them.
    pub(crate) fn new(of: BTreeMap<String, Vec<Statement>>) -> Self {
        Self { of, used: Mutex::default() }
    }

    /// Checks a call of DynamoDB by the function of this task.
    pub(crate) fn check_database(&self, operation: &str, body: &[u8]) -> Result<(), Refusal> {
        // The engine refuses what cannot be read, but no shape of a request may be a way around a policy.
        let unknown = || vec![(format!("dynamodb:{operation}"), vec!["unknown".to_owned()])];
        let needs = database_needs(operation, body).unwrap_or_else(unknown);
        needs.into_iter().try_for_each(|need| self.check(need))
    }

    /// Checks a call for a connection by the function of this task.
    pub(crate) fn check_connection(&self, method: &str) -> Result<(), Refusal> {
        self.check((CONNECTIONS.to_owned(), vec![method.to_owned()]))
    }

    /// Checks a call of SQS by the function of this task.
    pub(crate) fn check_queue(&self, operation: &str, body: &[u8]) -> Result<(), Refusal> {
        // A batch has no action of its own.
        let action = operation.strip_suffix("Batch").unwrap_or(operation);
        let url = serde_json::from_slice::<QueueRequest>(body).map(|request| request.queue_url).unwrap_or_default();
        let queue = url.rsplit('/').next().unwrap_or_default();
        self.check((format!("sqs:{action}"), vec![queue.to_owned()]))
    }

    /// What the consumer of a queue lacks.
    pub(crate) fn lacks(&self, queue: &QueueDefinition) -> Option<String> {
        let mut actions = OF_CONSUMERS.into_iter();
        let lacks = |action: &&str| !self.allows(&queue.function, &((*action).to_owned(), vec![queue.name.clone()]));
        actions.find(lacks).map(|action| format!("{} needs {action} on {}", queue.function, queue.name))
    }

    fn check(&self, need: Need) -> Result<(), Refusal> {
        // All calls are made in the task of a function: one made elsewhere would be of no function, so of no policy.
        let function = FUNCTION.try_with(|function| *function).unwrap_or("(none)");
        if self.allows(function, &need) {
            return Ok(());
        }
        let refusal = Refusal { function, action: need.0, on: need.1.iter().map(|on| kind(on).to_owned()).collect() };
        tracing::error!("{refusal}");
        Err(refusal)
    }

    /// Whether one statement allows all of a need, which is then used.
    fn allows(&self, function: &str, (action, on): &Need) -> bool {
        let statements = self.of.get(function).map(Vec::as_slice).unwrap_or_default();
        let is_allowed = statements.iter().any(|statement| {
            statement.actions.contains(action) && on.iter().all(|on| statement.on.iter().any(|like| fits(like, on)))
        });
        if is_allowed {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.extend(on.iter().map(|on| [function, action, kind(on)].map(str::to_owned)));
        }
        is_allowed
    }

    /// The permissions that no call has needed: function, action, and kind of partition, method or queue.
    pub(crate) fn unused(&self) -> BTreeSet<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = self.granted();
        // What is not limited to one kind of partition is granted on all that any policy names.
        let partitions = granted.iter().filter(|[_, action, on]| action.starts_with("dynamodb:") && *on != "*");
        let partitions: BTreeSet<&str> = partitions.map(|[.., on]| *on).collect();
        let each = granted.iter().flat_map(|[function, action, on]| {
            let kinds = if *on == "*" { partitions.clone() } else { [*on].into() };
            kinds.into_iter().map(move |kind| [*function, *action, kind].map(str::to_owned))
        });
        each.filter(|permission| !used.contains(permission)).map(|permission| permission.join(" ")).collect()
    }

    /// What the policies grant: function, action, and kind of partition, method or queue.
    fn granted(&self) -> BTreeSet<[&str; 3]> {
        let statements =
            self.of.iter().flat_map(|(function, statements)| statements.iter().map(move |s| (function, s)));
        let actions =
            statements.flat_map(|(function, s)| s.actions.iter().map(move |action| (function, action, &s.on)));
        let each = actions.flat_map(|(function, action, on)| on.iter().map(move |on| [function, action, kind(on)]));
        each.collect()
    }
}

/// `USER` of `USER#alice` and of `USER#*`.
fn kind(on: &str) -> &str {
    on.split('#').next().unwrap_or(on)
}

/// Whether a pattern fits, which has no wildcard but a `*` at its end.
fn fits(like: &str, on: &str) -> bool {
    like.strip_suffix('*').map_or(like == on, |prefix| on.starts_with(prefix))
}

/// What a call of DynamoDB needs, if it is well formed. Of a transaction that is what its parts need.
fn database_needs(operation: &str, body: &[u8]) -> Option<Vec<Need>> {
    let partitions = match operation {
        "BatchGetItem" => {
            let request: Request<HashMap<String, Keys>> = serde_json::from_slice(body).ok()?;
            request.items.into_values().flat_map(|table| table.keys).map(|key| key.pk.text).collect()
        }
        "BatchWriteItem" => {
            let request: Request<HashMap<String, Vec<HashMap<String, Target>>>> = serde_json::from_slice(body).ok()?;
            let parts = request.items.into_values().flatten().flatten();
            parts.map(|(_, target)| target.key.pk.text).collect()
        }
        "TransactWriteItems" => {
            let request: Request<Vec<HashMap<String, Target>>> = serde_json::from_slice(body).ok()?;
            let need = |(part, target): (String, Target)| (format!("dynamodb:{part}Item"), vec![target.key.pk.text]);
            let parts = request.items.into_iter().flatten();
            return Some(parts.map(need).collect());
        }
        "Query" => vec![serde_json::from_slice::<Query>(body).ok()?.partition()?],
        "DeleteItem" | "GetItem" | "PutItem" | "UpdateItem" => {
            vec![serde_json::from_slice::<Target>(body).ok()?.key.pk.text]
        }
        // Of those that functions might call, such as Scan, none names its partitions.
        _ => return None,
    };
    Some(vec![(format!("dynamodb:{operation}"), partitions)])
}

#[derive(Deserialize)]
struct Request<T> {
    #[serde(rename = "RequestItems", alias = "TransactItems")]
    items: T,
}

#[derive(Deserialize)]
struct Keys {
    #[serde(rename = "Keys")]
    keys: Vec<Key>,
}

/// What names one item, or is one.
#[derive(Deserialize)]
struct Target {
    #[serde(rename = "Key", alias = "Item")]
    key: Key,
}

/// The partition key of the table.
#[derive(Deserialize)]
struct Key {
    pk: Text,
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "S")]
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    key_condition_expression: String,
    expression_attribute_values: HashMap<String, Value>,
}

impl Query {
    /// The partition, which stands first in the condition: `pk = :value`.
    fn partition(&self) -> Option<String> {
        let value = self.key_condition_expression.strip_prefix("pk = ")?.split(' ').next()?;
        self.expression_attribute_values.get(value)?.get("S")?.as_str().map(str::to_owned)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueRequest {
    queue_url: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policies(statements: &[(&[&str], &[&str])]) -> Policies {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let statements = statements.iter().map(|(actions, on)| Statement { actions: owned(actions), on: owned(on) });
        Policies::new([("f".to_owned(), statements.collect())].into())
    }

    fn asked(policies: &Policies, operation: &str, request: &Value) -> bool {
        FUNCTION.sync_scope("f", || policies.check_database(operation, request.to_string().as_bytes()).is_ok())
    }

    fn key(pk: &str) -> Value {
        json!({ "pk": { "S": pk }, "sk": { "S": "x" }, "n": { "N": "1" } })
    }

    #[test]
    fn every_partition_of_a_call_must_be_allowed() {
        let policies = policies(&[
            (&["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"], &["USER#*"]),
            (&["dynamodb:BatchWriteItem", "dynamodb:BatchGetItem"], &["GROUP#*"]),
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
        // Each half by another statement: AWS wants one that allows both.
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
    fn a_transaction_needs_what_its_parts_need() {
        let check = &["dynamodb:ConditionCheckItem"][..];
        let transaction = json!({ "TransactItems": [
            { "ConditionCheck": { "Key": key("USER#a") } }, { "Put": { "Item": key("GROUP#a") } },
        ] });
        let both = policies(&[(check, &["USER#*"]), (&["dynamodb:PutItem"], &["GROUP#*"])]);
        assert!(asked(&both, "TransactWriteItems", &transaction));
        assert!(!asked(&policies(&[(check, &["*"])]), "TransactWriteItems", &transaction));
    }

    #[test]
    fn what_was_never_needed_is_told() {
        let policies = policies(&[
            (&["dynamodb:GetItem", "dynamodb:PutItem"], &["*"]),
            (&["dynamodb:Query"], &["USER#*", "GROUP#*"]),
            (&["sqs:SendMessage"], &["Q"]),
            (&[CONNECTIONS], &["POST", "GET"]),
        ]);
        for pk in ["USER#a", "GROUP#a"] {
            assert!(asked(&policies, "GetItem", &json!({ "Key": key(pk) })));
        }
        assert!(asked(&policies, "PutItem", &json!({ "Item": key("USER#a") })));
        FUNCTION.sync_scope("f", || {
            let queue = |name: &str| json!({ "QueueUrl": format!("http://here/0/{name}") }).to_string();
            policies.check_queue("SendMessageBatch", queue("Q").as_bytes()).unwrap();
            policies.check_connection("POST").unwrap();
            let refusal = policies.check_queue("SendMessage", queue("other").as_bytes()).unwrap_err();
            let said = "no policy of the function f in template.yaml allows sqs:SendMessage on other";
            assert_eq!(refusal.to_string(), said);
        });
        let unused = [
            "f dynamodb:PutItem GROUP",
            "f dynamodb:Query GROUP",
            "f dynamodb:Query USER",
            "f execute-api:ManageConnections GET",
        ];
        assert_eq!(policies.unused(), unused.map(str::to_owned).into());
        assert!(policies.check_connection("POST").is_err(), "outside of a function");
    }
}
