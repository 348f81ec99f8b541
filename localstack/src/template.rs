//! Reads `template.yaml` for the local stack: routes and their functions, the authorizer, queues, policies, the table.
//!
//! It finds resources by their types and references, so the template may name them freely.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_yaml_ng::Value;

/// The template that is compiled into the stack.
pub(crate) const TEMPLATE: &str = include_str!("../../template.yaml");

/// The parts of the template that the gateway and the engine need.
#[derive(Debug)]
pub(crate) struct Template {
    /// The WebSocket API.
    pub(crate) socket: SocketApi,
    /// The HTTP API that clients call.
    pub(crate) public: HttpApi,
    /// The HTTP API that requires AWS_IAM.
    pub(crate) internal: HttpApi,
    /// The table.
    pub(crate) table: TableDefinition,
    /// The queues that functions take jobs from.
    pub(crate) queues: Vec<QueueDefinition>,
    /// The policy statements of each function, by the name of its binary.
    pub(crate) policies: BTreeMap<String, Vec<Statement>>,
    /// How long a function may run.
    pub(crate) function_timeout: Duration,
}

/// The WebSocket API.
#[derive(Debug)]
pub(crate) struct SocketApi {
    /// The stage, which is also the path that clients open.
    pub(crate) stage: String,
    /// The target of each route, by its key.
    pub(crate) routes: BTreeMap<String, Target>,
    /// The function that authorizes connections.
    pub(crate) authorizer: String,
}

/// The target of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A function, by the name of its binary.
    Function(String),
    /// No function: the gateway answers by itself.
    Mock,
}

/// An HTTP API.
#[derive(Debug, Default)]
pub(crate) struct HttpApi {
    /// Route keys such as `GET /api/group/{groupId}`, each with its function.
    pub(crate) routes: Vec<(String, String)>,
    /// The CORS settings, if the API has any.
    pub(crate) cors: Option<Cors>,
}

/// The CORS settings, without the allowed origins: those are a parameter of the deployment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    pub(crate) methods: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) exposed: Vec<String>,
    pub(crate) max_age: Option<u64>,
}

/// The keys of the table.
#[derive(Debug)]
pub(crate) struct TableDefinition {
    /// Attribute names and types of the keys.
    pub(crate) attributes: Vec<(String, String)>,
    /// Attribute names and roles (HASH, RANGE).
    pub(crate) keys: Vec<(String, String)>,
    /// The attribute that holds the time when an item expires.
    pub(crate) ttl: Option<String>,
    /// The global secondary indexes.
    pub(crate) indexes: Vec<IndexDefinition>,
}

/// A global secondary index of the table.
#[derive(Debug)]
pub(crate) struct IndexDefinition {
    pub(crate) name: String,
    /// Attribute names and roles (HASH, RANGE).
    pub(crate) keys: Vec<(String, String)>,
    /// The attributes that it holds: `ALL` or `KEYS_ONLY`.
    pub(crate) projection: String,
}

/// A queue, and the function that takes jobs from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueDefinition {
    /// The name of the queue's resource.
    pub(crate) name: String,
    /// The function, by the name of its binary.
    pub(crate) function: String,
    /// The most jobs in one event.
    pub(crate) batch: usize,
    /// How long a job that was handed out stays hidden.
    pub(crate) visibility: Duration,
    /// How often a job is tried, and the name of the dead-letter queue, if there is one.
    pub(crate) dead_letters: Option<(u64, String)>,
}

/// A statement of a policy. It allows each of its actions on each entry of `on`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) actions: Vec<String>,
    /// Kinds of partition such as `USER#`, or [`ANY`]; indexes such as `index/name`; methods for connections; queues;
    /// or the [`BUS`].
    pub(crate) on: Vec<String>,
}

/// Means every kind of partition.
pub(crate) const ANY: &str = "*";

/// The bus of events, by the parameter with its name.
pub(crate) const BUS: &str = "EventBusName";

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("it is not YAML: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    #[error("{0}")]
    Content(String),
}

/// SQS hides a job for twelve hours at most.
const MAX_VISIBILITY_SECONDS: u64 = 12 * 60 * 60;

type Result<T> = std::result::Result<T, TemplateError>;

fn content(message: impl Into<String>) -> TemplateError {
    TemplateError::Content(message.into())
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let document: Value = serde_yaml_ng::from_str(text)?;
        let resources = Resources::of(&document)?;
        let seconds =
            document.get("Globals").and_then(|globals| globals.get("Function")).and_then(|f| f.get("Timeout"));
        Ok(Self {
            socket: resources.socket_api()?,
            public: resources.http_api(false)?,
            internal: resources.http_api(true)?,
            table: resources.table()?,
            queues: resources.queues()?,
            policies: resources.policies()?,
            function_timeout: Duration::from_secs(seconds.and_then(Value::as_u64).unwrap_or(3)),
        })
    }

    /// Returns the functions that routes, the authorizer or queues name.
    pub(crate) fn functions(&self) -> BTreeSet<&str> {
        let of_sockets = self.socket.routes.values().filter_map(|target| match target {
            Target::Function(name) => Some(name.as_str()),
            Target::Mock => None,
        });
        let http = self.public.routes.iter().chain(&self.internal.routes).map(|(_, function)| function.as_str());
        let of_queues = self.queues.iter().map(|queue| queue.function.as_str());
        of_sockets.chain(http).chain(of_queues).chain([self.socket.authorizer.as_str()]).collect()
    }
}

struct Resources<'a>(BTreeMap<&'a str, &'a Value>);

/// A route of an HTTP API.
struct Event<'a> {
    /// The reference to the API.
    api: &'a Value,
    route_key: String,
    /// The function, by the name of its binary.
    function: String,
}

impl<'a> Resources<'a> {
    fn of(document: &'a Value) -> Result<Self> {
        let resources = document.get("Resources").and_then(Value::as_mapping);
        let resources = resources.ok_or_else(|| content("it has no Resources"))?;
        Ok(Self(resources.iter().filter_map(|(name, resource)| Some((name.as_str()?, resource))).collect()))
    }

    /// Returns the resources of a type, with their names.
    fn of_type(&self, kind: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let is_of_type = move |resource: &Value| text(resource.get("Type")) == Some(kind);
        self.0.iter().filter(move |(_, resource)| is_of_type(resource)).map(|(name, resource)| (*name, *resource))
    }

    /// Returns the properties of the resources of a type, with their names.
    fn properties_of_type(&self, kind: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.of_type(kind).map(|(name, resource)| (name, resource.get("Properties").unwrap_or(&Value::Null)))
    }

    fn socket_api(&self) -> Result<SocketApi> {
        let apis: Vec<_> = self.properties_of_type("AWS::Serverless::WebSocketApi").collect();
        let [(api, properties)] = apis[..] else { return Err(content("it needs one WebSocket API")) };
        if text(properties.get("RouteSelectionExpression")) != Some("$request.body.type") {
            return Err(content(format!("{api} must select routes by $request.body.type")));
        }
        let stage = text(properties.get("StageName")).ok_or_else(|| content(format!("{api} has no StageName")))?;
        let authorizer = properties.get("Auth").and_then(|auth| auth.get("AuthArn"));
        let authorizer = authorizer.ok_or_else(|| content(format!("{api} has no Auth with an AuthArn")))?;
        let routes = properties.get("Routes").and_then(Value::as_mapping).into_iter().flatten();
        let route = |(key, route): (&Value, &Value)| {
            let key = key.as_str().ok_or_else(|| content(format!("{api} has a route whose key is no text")))?;
            let function = self.function_in(route.get("FunctionArn"), &format!("the route {key} of {api}"))?;
            Ok((key.to_owned(), Target::Function(function)))
        };
        Ok(SocketApi {
            stage: stage.to_owned(),
            routes: routes.map(route).chain(self.mocks(api)).collect::<Result<_>>()?,
            authorizer: self.function_in(Some(authorizer), api)?,
        })
    }

    /// Returns the routes without a function. Each has a resource of its own.
    fn mocks(&self, api: &str) -> impl Iterator<Item = Result<(String, Target)>> {
        let routes = self.properties_of_type("AWS::ApiGatewayV2::Route");
        let routes = routes.filter(move |(_, route)| route.get("ApiId").is_some_and(|id| refers_to(id, api)));
        routes.map(|(name, route)| {
            let key = text(route.get("RouteKey")).ok_or_else(|| content(format!("{name} has no RouteKey")))?;
            let target = route.get("Target").ok_or_else(|| content(format!("{name} has no Target")))?;
            let mut integrations = self.properties_of_type("AWS::ApiGatewayV2::Integration");
            let integration = integrations.find(|(integration, _)| refers_to(target, integration));
            match integration.and_then(|(_, integration)| text(integration.get("IntegrationType"))) {
                Some("MOCK") => Ok((key.to_owned(), Target::Mock)),
                _ => Err(content(format!("{name} leads to no MOCK; what leads to a function is in Routes"))),
            }
        })
    }

    /// Returns the internal HTTP API, which requires AWS_IAM, or the public one.
    fn http_api(&self, internal: bool) -> Result<HttpApi> {
        let asks_for_iam =
            |api: &Value| text(api.get("Auth").and_then(|auth| auth.get("DefaultAuthorizer"))) == Some("AWS_IAM");
        let apis = self.properties_of_type("AWS::Serverless::HttpApi");
        let apis: Vec<_> = apis.filter(|(_, properties)| asks_for_iam(properties) == internal).collect();
        let kind = if internal { "HTTP API whose DefaultAuthorizer is AWS_IAM" } else { "public HTTP API" };
        let [(api, properties)] = apis[..] else { return Err(content(format!("it needs one {kind}"))) };
        let routes = self.events()?.into_iter().filter(|event| refers_to(event.api, api));
        let routes = routes.map(|event| (event.route_key, event.function)).collect();
        Ok(HttpApi { routes, cors: properties.get("CorsConfiguration").map(cors) })
    }

    /// Returns the routes of the HTTP APIs, which are events of the functions.
    fn events(&self) -> Result<Vec<Event<'a>>> {
        let functions = self.properties_of_type("AWS::Serverless::Function");
        let events = functions.flat_map(|(function, properties)| {
            let events = properties.get("Events").and_then(Value::as_mapping).into_iter().flatten();
            events.map(move |(name, event)| (function, name.as_str().unwrap_or_default(), event))
        });
        events.map(|(function, name, event)| self.event(function, name, event)).collect()
    }

    fn event(&self, function: &str, name: &str, event: &'a Value) -> Result<Event<'a>> {
        let wrong = |what: &str| content(format!("the event {name} of {function} {what}"));
        if text(event.get("Type")) != Some("HttpApi") {
            return Err(wrong("must be of the Type HttpApi"));
        }
        let properties = event.get("Properties").unwrap_or(&Value::Null);
        if properties.get("Auth").is_some() {
            return Err(wrong("must leave Auth to its API"));
        }
        let is_api = |id: &&Value| self.of_type("AWS::Serverless::HttpApi").any(|(api, _)| refers_to(id, api));
        let method = text(properties.get("Method")).ok_or_else(|| wrong("has no Method"))?;
        let path = text(properties.get("Path")).ok_or_else(|| wrong("has no Path"))?;
        Ok(Event {
            api: properties.get("ApiId").filter(is_api).ok_or_else(|| wrong("has no HTTP API as its ApiId"))?,
            route_key: format!("{} {path}", method.to_uppercase()),
            function: self.binary(function)?,
        })
    }

    /// Returns the binary of the function that a value refers to.
    fn function_in(&self, uri: Option<&Value>, name: &str) -> Result<String> {
        let uri = uri.ok_or_else(|| content(format!("{name} names no function")))?;
        let mut functions = self.of_type("AWS::Serverless::Function");
        let function = functions.find(|(function, _)| refers_to(uri, function));
        let (function, _) = function.ok_or_else(|| content(format!("{name} names a function that is not there")))?;
        self.binary(function)
    }

    /// Returns the name of a function's binary.
    fn binary(&self, function: &str) -> Result<String> {
        let metadata = self.0.get(function).and_then(|resource| resource.get("Metadata"));
        let binary = metadata.and_then(|metadata| metadata.get("BuildProperties")).and_then(|b| b.get("Binary"));
        let binary = text(binary).map(str::to_owned);
        binary.ok_or_else(|| content(format!("{function} has no Metadata.BuildProperties.Binary")))
    }

    fn policies(&self) -> Result<BTreeMap<String, Vec<Statement>>> {
        let functions = self.properties_of_type("AWS::Serverless::Function");
        let policies = |(function, properties): (&str, &Value)| {
            let documents = list(properties.get("Policies")).into_iter();
            let policy = format!("a policy of {function}");
            let statements = documents.flat_map(|document| match list(document.get("Statement")) {
                none if none.is_empty() => vec![Err(content(format!("{policy} has no Statement")))],
                statements => statements.into_iter().map(|statement| self.statement(&policy, statement)).collect(),
            });
            Ok((self.binary(function)?, statements.collect::<Result<_>>()?))
        };
        let mut policies: BTreeMap<String, Vec<Statement>> = functions.map(policies).collect::<Result<_>>()?;
        for (function, statement) in self.attached()? {
            policies.entry(function).or_default().push(statement);
        }
        Ok(policies)
    }

    /// Returns the statements of managed policies, each with a function whose role has the policy. A policy that a
    /// condition leaves out on AWS holds here.
    fn attached(&self) -> Result<Vec<(String, Statement)>> {
        let mut attached = Vec::new();
        for (name, properties) in self.properties_of_type("AWS::IAM::ManagedPolicy") {
            let document = properties.get("PolicyDocument").unwrap_or(&Value::Null);
            for role in list(properties.get("Roles")) {
                let mut functions = self.of_type("AWS::Serverless::Function");
                // SAM names the role of a function like this.
                let function = functions.find(|(function, _)| refers_to(role, &format!("{function}Role")));
                let (function, _) = function.ok_or_else(|| content(format!("{name} has a role of no function")))?;
                for statement in list(document.get("Statement")) {
                    attached.push((self.binary(function)?, self.statement(name, statement)?));
                }
            }
        }
        Ok(attached)
    }

    /// Parses a statement. Anything that the local stack cannot check is an error, so that no permission is missed.
    fn statement(&self, policy: &str, statement: &Value) -> Result<Statement> {
        let wrong = |what: &str| content(format!("{policy} {what}"));
        if text(statement.get("Effect")) != Some("Allow") {
            return Err(wrong("has an Effect other than Allow"));
        }
        let actions: Vec<String> = list(statement.get("Action")).into_iter().filter_map(owned).collect();
        let service = actions.first().and_then(|action| action.split(':').next()).unwrap_or_default();
        if !actions.iter().all(|action| action.split(':').next() == Some(service)) {
            return Err(wrong("mixes services in one Action"));
        }
        let resources = list(statement.get("Resource"));
        let on = match service {
            "dynamodb" if resources.iter().any(|resource| index_of_table(resource).is_some()) => {
                resources.into_iter().map(index_of_table).collect()
            }
            "dynamodb" => {
                let tables = self.named("AWS::DynamoDB::Table", resources).filter(|tables| !tables.is_empty());
                tables.and_then(|_| leading_keys(statement.get("Condition")))
            }
            "execute-api" => resources.into_iter().map(method_of_connections).collect(),
            "events" => resources.into_iter().map(bus).collect(),
            "sqs" => self.named("AWS::SQS::Queue", resources),
            _ => None,
        };
        let on = on.filter(|on| !on.is_empty());
        let on = on.ok_or_else(|| wrong(&format!("has a Resource or Condition for {service} that is unknown here")));
        Ok(Statement { actions, on: on? })
    }

    /// Returns the names of the resources of a type, if the values refer to nothing else.
    fn named(&self, kind: &str, values: Vec<&Value>) -> Option<Vec<String>> {
        let name = |value| self.of_type(kind).find(|(name, _)| refers_to(value, name)).map(|(name, _)| name.to_owned());
        values.into_iter().map(name).collect()
    }

    fn queues(&self) -> Result<Vec<QueueDefinition>> {
        let mappings = self.of_type("AWS::Lambda::EventSourceMapping");
        mappings.map(|(name, mapping)| self.queue(name, mapping.get("Properties").unwrap_or(&Value::Null))).collect()
    }

    /// Builds the definition of a queue from its mapping. Missing properties get the defaults of SQS and Lambda.
    fn queue(&self, name: &str, mapping: &Value) -> Result<QueueDefinition> {
        let source = mapping.get("EventSourceArn").unwrap_or(&Value::Null);
        let queue = self.of_type("AWS::SQS::Queue").find(|(queue, _)| refers_to(source, queue));
        let (queue, resource) = queue.ok_or_else(|| content(format!("{name} has no queue as its EventSourceArn")))?;
        let properties = resource.get("Properties").unwrap_or(&Value::Null);
        let visibility = properties.get("VisibilityTimeout").and_then(Value::as_u64).unwrap_or(30);
        let responses = mapping.get("FunctionResponseTypes").and_then(Value::as_sequence);
        if !responses.is_some_and(|list| list.iter().any(|kind| kind == "ReportBatchItemFailures")) {
            return Err(content(format!("{name} must have FunctionResponseTypes: [ReportBatchItemFailures]")));
        }
        Ok(QueueDefinition {
            name: queue.to_owned(),
            function: self.function_in(mapping.get("FunctionName"), name)?,
            batch: mapping.get("BatchSize").and_then(Value::as_u64).map_or(10, |size| size.clamp(1, 10) as usize),
            visibility: Duration::from_secs(visibility.min(MAX_VISIBILITY_SECONDS)),
            dead_letters: properties.get("RedrivePolicy").map(|policy| self.dead_letters(queue, policy)).transpose()?,
        })
    }

    fn dead_letters(&self, queue: &str, policy: &Value) -> Result<(u64, String)> {
        let target = policy.get("deadLetterTargetArn").unwrap_or(&Value::Null);
        let found = self.of_type("AWS::SQS::Queue").find(|(name, _)| refers_to(target, name));
        let receives = policy.get("maxReceiveCount").and_then(Value::as_u64);
        let both = receives.zip(found).map(|(receives, (name, _))| (receives.max(1), name.to_owned()));
        both.ok_or_else(|| content(format!("{queue} has no maxReceiveCount, or no queue as its deadLetterTargetArn")))
    }

    fn table(&self) -> Result<TableDefinition> {
        let tables: Vec<_> = self.of_type("AWS::DynamoDB::Table").collect();
        let [(name, table)] = tables[..] else { return Err(content("it needs one table")) };
        let properties = table.get("Properties").ok_or_else(|| content(format!("{name} has no Properties")))?;
        let ttl = properties.get("TimeToLiveSpecification").and_then(|ttl| text(ttl.get("AttributeName")));
        let indexes =
            list(properties.get("GlobalSecondaryIndexes")).into_iter().map(|index| index_definition(name, index));
        let definition = TableDefinition {
            attributes: attributes(properties.get("AttributeDefinitions"), "AttributeType"),
            keys: attributes(properties.get("KeySchema"), "KeyType"),
            ttl: ttl.map(str::to_owned),
            indexes: indexes.collect::<Result<_>>()?,
        };
        let is_defined =
            |(key, _): &(String, String)| definition.attributes.iter().any(|(attribute, _)| attribute == key);
        let is_complete =
            |keys: &[(String, String)]| keys.iter().any(|(_, role)| role == "HASH") && keys.iter().all(is_defined);
        match is_complete(&definition.keys) && definition.indexes.iter().all(|index| is_complete(&index.keys)) {
            true => Ok(definition),
            false => Err(content(format!("{name} has no HASH key in a KeySchema, or no AttributeDefinitions for it"))),
        }
    }
}

/// Returns the names of attributes in a list, each with the value of a field.
fn attributes(items: Option<&Value>, field: &str) -> Vec<(String, String)> {
    let pair = |item: &Value| Some((text(item.get("AttributeName"))?.to_owned(), text(item.get(field))?.to_owned()));
    items.and_then(Value::as_sequence).into_iter().flatten().filter_map(pair).collect()
}

fn index_definition(table: &str, index: &Value) -> Result<IndexDefinition> {
    let name =
        text(index.get("IndexName")).ok_or_else(|| content(format!("{table} has an index without IndexName")))?;
    let projection = index.get("Projection").and_then(|projection| text(projection.get("ProjectionType")));
    let projection = projection.filter(|kind| matches!(*kind, "ALL" | "KEYS_ONLY"));
    let projection =
        projection.ok_or_else(|| content(format!("the index {name} needs a ProjectionType: ALL or KEYS_ONLY")))?;
    let keys = attributes(index.get("KeySchema"), "KeyType");
    Ok(IndexDefinition { name: name.to_owned(), keys, projection: projection.to_owned() })
}

fn cors(properties: &Value) -> Cors {
    let list = |name: &str| -> Vec<String> {
        let items = properties.get(name).and_then(Value::as_sequence).into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    Cors {
        methods: list("AllowMethods"),
        headers: list("AllowHeaders"),
        exposed: list("ExposeHeaders"),
        max_age: properties.get("MaxAge").and_then(Value::as_u64),
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

fn owned(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// One or several.
fn list(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Sequence(several)) => several.iter().collect(),
        one => one.into_iter().collect(),
    }
}

/// Returns the kinds of partition that a condition allows: `USER#` for `USER#*`.
fn leading_keys(condition: Option<&Value>) -> Option<Vec<String>> {
    let Some(condition) = condition else { return Some(vec![ANY.to_owned()]) };
    let [(test, keys)] = condition.as_mapping()?.iter().collect::<Vec<_>>()[..] else { return None };
    let [(name, patterns)] = keys.as_mapping()?.iter().collect::<Vec<_>>()[..] else { return None };
    let is_known = test == "ForAllValues:StringLike" && name == "dynamodb:LeadingKeys";
    let kind =
        |pattern: &Value| Some(pattern.as_str()?.strip_suffix('*').filter(|kind| kind.ends_with('#'))?.to_owned());
    is_known.then(|| list(Some(patterns)).into_iter().map(kind).collect()).flatten()
}

/// Returns the index in `!Sub ${Table.Arn}/index/NAME`, as `index/NAME`.
fn index_of_table(resource: &Value) -> Option<String> {
    let Value::Tagged(tagged) = resource else { return None };
    let (_, name) = tagged.value.as_str()?.split_once(".Arn}/index/")?;
    Some(format!("index/{name}"))
}

/// Returns the parameter in `arn:…:event-bus/${PARAMETER}`.
fn bus(resource: &Value) -> Option<String> {
    let Value::Tagged(tagged) = resource else { return None };
    let (_, name) = tagged.value.as_str()?.split_once(":event-bus/${")?;
    name.strip_suffix('}').map(str::to_owned)
}

/// Returns the method in `arn:…:${SocketApi}/STAGE/METHOD/@connections/*`.
fn method_of_connections(resource: &Value) -> Option<String> {
    let Value::Tagged(tagged) = resource else { return None };
    let path = tagged.value.as_str()?.strip_suffix("/@connections/*")?;
    path.rsplit('/').next().map(str::to_owned)
}

/// Returns the value that `!Select [N, [value, value]]` selects, or the value itself. The values that are not selected only
/// determine the order in which CloudFormation creates resources.
fn selected(value: &Value) -> &Value {
    let Value::Tagged(tagged) = value else { return value };
    let arguments = tagged.value.as_sequence().map(Vec::as_slice).unwrap_or_default();
    let ("Select", [index, values]) = (tagged.tag.to_string().trim_start_matches('!'), arguments) else { return value };
    let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
    index.zip(values.as_sequence()).and_then(|(index, values)| values.get(index)).unwrap_or(value)
}

/// Returns whether a value refers to a resource: `!Ref X`, `!GetAtt X.Arn`, `${X}` or `${X.Arn}` within a `!Sub`, or a
/// `!Select` that selects one of these.
fn refers_to(value: &Value, resource: &str) -> bool {
    let Value::Tagged(tagged) = selected(value) else { return false };
    let Some(text) = tagged.value.as_str() else { return false };
    let is_it = |reference: &str| reference.split('.').next() == Some(resource);
    if tagged.tag == "!Sub" {
        return text.split("${").skip(1).filter_map(|rest| rest.split('}').next()).any(is_it);
    }
    is_it(text)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// Replacements for a line: another kind of value, another reference, invalid YAML.
    const VALUES: [&str; 20] = [
        "",
        "null",
        "[]",
        "{}",
        "- x",
        "7",
        "true",
        "!Ref",
        "!Ref Nothing",
        "!Sub '${'",
        "!Sub '${}'",
        "!GetAtt [a, b]",
        "!Sub [a, {b: c}]",
        "&a [*a]",
        "*a",
        "<<: {}",
        "\t",
        "'",
        "? x",
        "99999999999999999999",
    ];

    #[test]
    fn the_projects_template_is_read() {
        let template = Template::parse(TEMPLATE).unwrap();
        assert_eq!(template.socket.stage, "ws");
        assert_eq!(template.socket.authorizer, "authorize");
        assert_eq!(template.socket.routes["ping"], Target::Mock);
        assert_eq!(template.socket.routes["unicast"], Target::Function("message".into()));
        assert!(template.public.routes.contains(&("POST /api/group".into(), "create_group".into())));
        assert!(template.internal.routes.contains(&("POST /notification".into(), "notification".into())));
        assert!(template.public.cors.unwrap().exposed.contains(&"X-Has-More".to_owned()));
        assert_eq!(template.table.ttl.as_deref(), Some("expiresAt"));
        assert_eq!(template.function_timeout, Duration::from_secs(15));
        let [queue] = &template.queues[..] else { panic!("{:?}", template.queues) };
        assert_eq!((queue.name.as_str(), queue.function.as_str()), ("FanoutQueue", "fanout"));
        assert_eq!((queue.batch, queue.dead_letters.clone()), (1, Some((5, "FanoutDeadLetters".to_owned()))));
        let statement = |actions: &[&str], on: &[&str]| {
            let [actions, on] = [actions, on].map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            Statement { actions, on }
        };
        assert!(template.policies["authorize"].is_empty());
        assert!(template.policies["disconnect"].contains(&statement(&["dynamodb:UpdateItem"], &["USER#"])));
        assert!(template.policies["create_group"].contains(&statement(&["dynamodb:PutItem"], &[ANY])));
        assert!(template.policies["get_history"].contains(&statement(&["dynamodb:Query"], &["index/conversation"])));
        let connections = statement(&["execute-api:ManageConnections"], &["POST", "DELETE"]);
        assert!(template.policies["connect"].contains(&connections));
        assert!(template.policies["message"].contains(&statement(&["sqs:SendMessage"], &["FanoutQueue"])));
        let events = statement(&["events:PutEvents"], &[BUS]);
        assert!(template.policies["message"].contains(&events) && !template.policies["typing"].contains(&events));
        assert!(queue.visibility >= 6 * template.function_timeout, "{queue:?}");
    }

    #[test]
    fn what_a_template_lacks_is_named() {
        let without = |line: &str| {
            assert!(TEMPLATE.contains(line), "{line}");
            Template::parse(&TEMPLATE.replace(line, "")).unwrap_err().to_string()
        };
        assert!(Template::parse("a: [").unwrap_err().to_string().contains("not YAML"));
        assert!(Template::parse("a: 1").unwrap_err().to_string().contains("Resources"));
        assert!(without("RouteSelectionExpression: $request.body.type").contains("$request.body.type"));
        assert!(without("StageName: ws").contains("StageName"));
        assert!(without("!GetAtt AuthorizeFunction.Arn,").contains("SocketApi names a function that is not there"));
        assert!(without("!GetAtt ConnectFunction.Arn,").contains("$connect"));
        assert!(without("IntegrationType: MOCK").contains("PingRoute"));
        assert!(without("DefaultAuthorizer: AWS_IAM").contains("one public HTTP API"));
        assert!(without("Method: POST, Path: /notification,").contains("Post of NotificationFunction has no Method"));
        assert!(without("Path: /api/message,").contains("Path"));
        assert!(without("ApiId: !Ref InternalApi,").contains("ApiId"));
        assert!(without("Binary: message ").contains("MessageFunction"));
        assert!(without("KeyType: HASH").contains("KeySchema"));
        assert!(without("EventSourceArn: !GetAtt FanoutQueue.Arn").contains("EventSourceArn"));
        assert!(without("FunctionName: !Ref FanoutFunction").contains("FanoutMapping"));
        assert!(without("deadLetterTargetArn: !GetAtt FanoutDeadLetters.Arn").contains("FanoutQueue"));
        assert!(without("Resource: !GetAtt Table.Arn").contains("Resource"));
        assert!(without("\"dynamodb:LeadingKeys\": [\"USER#*\"]").contains("Condition"));
        assert!(without("Effect: Allow, ").contains("Effect"));
        assert!(without(":event-bus/${EventBusName}").contains("EventPolicy"));
        assert!(without("!Ref FanoutFunctionRole").contains("EventPolicy"));
        assert!(without("ReportBatchItemFailures").contains("FunctionResponseTypes"));
        assert!(without("- { AttributeName: sk, AttributeType: S }").contains("AttributeDefinitions"));
        assert!(without("- { AttributeName: conversation, AttributeType: S }").contains("AttributeDefinitions"));
        assert!(without("IndexName: conversation").contains("IndexName"));
        assert!(without("ProjectionType: ALL").contains("ProjectionType"));
    }

    proptest! {
        // Each case parses the whole template, which is slow.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_template_makes_it_panic(
            edits in vec((any::<Index>(), any::<Index>(), 0..6, select(&VALUES[..]), ".{0,8}"), 1..5),
        ) {
            let mut lines: Vec<String> = TEMPLATE.lines().map(str::to_owned).collect();
            for (place, other, edit, value, text) in edits {
                let (place, other) = (place.index(lines.len()), other.index(lines.len()));
                let name = lines[place].split_inclusive(':').next().unwrap_or_default().to_owned();
                match edit {
                    0 => lines[place].clear(),
                    1 => lines[place] = lines[other].clone(),
                    2 => lines.swap(place, other),
                    3 => lines[place].insert_str(0, "  "),
                    4 => lines[place] = format!("{name} {text}"),
                    _ => lines[place] = format!("{name} {value}"),
                }
            }
            if let Ok(template) = Template::parse(&lines.join("\n")) {
                template.functions();
            }
        }
    }
}
