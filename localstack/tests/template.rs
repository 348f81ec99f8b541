//! Checks that `template.yaml`, the binaries, the list of functions and the documents agree: routes, settings, alarms,
//! and the resources that policies name. The local stack checks the policies when functions run: it refuses every other
//! call. `tests/suite/policies.rs` finds permissions that no function uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use functions::{Service, Trigger};
use serde_yaml_ng::Value;
use shared::config::Config;
use shared::rules::timing::FUNCTION_MS;

/// Returns the routes of the functions: API, route key, authorization, function. Leaves out ANY, which each public path
/// has for other methods and which any function of the path may answer.
fn expected_routes() -> BTreeSet<[String; 4]> {
    let mut routes = BTreeSet::from([["SocketApi", "ping", "NONE", "(mock)"].map(str::to_owned)]);
    for function in functions::ALL {
        let mut add = |api: &str, key: &str, auth: &str| {
            routes.insert([api, key, auth, function.name].map(str::to_owned));
        };
        match function.trigger {
            Trigger::Socket(keys) => {
                keys.iter().for_each(|key| add("SocketApi", key, if *key == "$connect" { "CUSTOM" } else { "NONE" }));
            }
            Trigger::Rest(route) => add("PublicApi", &format!("{} {}", route.method, route.path), "NONE"),
            Trigger::Internal(all) => {
                all.iter().for_each(|route| add("InternalApi", &format!("{} {}", route.method, route.path), "AWS_IAM"));
            }
            Trigger::Authorizer | Trigger::Queue => {}
        }
    }
    routes
}

#[test]
fn the_routes_are_those_of_the_functions() {
    let (any, routes): (BTreeSet<_>, BTreeSet<_>) =
        Template::read().routes().into_iter().partition(|[_, key, ..]| key.starts_with("ANY "));
    assert_same("a route", &routes, &expected_routes());
    let mut paths = BTreeSet::new();
    for [api, key, auth, function] in any {
        let path = key.trim_start_matches("ANY ").to_owned();
        let is_of_path = routes.iter().any(|[_, key, _, of]| *of == function && key.ends_with(&format!(" {path}")));
        assert!(api == "PublicApi" && auth == "NONE" && is_of_path, "{key} leads to {function}");
        assert!(paths.insert(path), "{key}, twice");
    }
    let public = routes.iter().filter(|[api, ..]| api == "PublicApi");
    let expected = public.filter_map(|[_, key, ..]| Some(key.split_once(' ')?.1.to_owned())).collect();
    assert_same("a path with ANY", &paths, &expected);
}

#[test]
fn a_function_may_run_as_long_as_the_rules_say() {
    let timeout = Template::read().0["Globals"]["Function"]["Timeout"].as_u64().expect("functions have a timeout");
    assert_eq!(timeout * 1_000, FUNCTION_MS);
    for (name, (_, properties)) in Template::read().functions() {
        assert!(properties["Timeout"].is_null(), "{name} has a timeout of its own");
    }
}

/// Returns the calls that a document in `docs/` describes, as route keys. Leaves out direct invocations.
fn described_calls(document: &str) -> BTreeSet<String> {
    let document: Value = serde_yaml_ng::from_str(&read(&root().join("docs").join(document))).expect("it is YAML");
    let mut calls = BTreeSet::new();
    for (path, item) in document["paths"].as_mapping().expect("it has paths") {
        let methods = item.as_mapping().expect("a path has methods").keys().map(text);
        let methods = methods.filter(|key| ["get", "post", "put", "delete", "patch", "head"].contains(key));
        calls.extend(methods.map(|method| format!("{} {}", method.to_uppercase(), text(path))));
    }
    calls.into_iter().filter(|call| !call.contains("/functions/")).collect()
}

/// Returns the routes of the socket that `docs/asyncapi.yaml` describes.
fn described_socket_routes() -> BTreeSet<String> {
    let document: Value = serde_yaml_ng::from_str(&read(&root().join("docs/asyncapi.yaml"))).expect("it is YAML");
    let operations = document["operations"].as_mapping().expect("it has operations").values();
    let of_channel = document["channels"]["socket"]["x-routes"].as_sequence().expect("some routes have no frames");
    let of_operations = operations.filter_map(|operation| operation.get("x-route"));
    of_channel.iter().chain(of_operations).map(|key| text(key).to_owned()).collect()
}

#[test]
fn the_documents_describe_every_route_and_no_other() {
    let routes = Template::read().routes();
    let of_api = |api: &str| -> BTreeSet<String> {
        routes.iter().filter(|[of, ..]| of == api).map(|[_, key, ..]| key.clone()).collect()
    };
    assert_same("a route of the socket", &of_api("SocketApi"), &described_socket_routes());
    assert_same("an internal route", &of_api("InternalApi"), &described_calls("openapi-internal.yaml"));
    let mut described = described_calls("openapi.yaml");
    // The answer to other methods is described once for all paths.
    let paths: BTreeSet<String> =
        described.iter().filter_map(|call| call.split_once(' ')).map(|(_, path)| format!("ANY {path}")).collect();
    described.extend(paths);
    assert_same("a public route", &of_api("PublicApi"), &described);
}

#[test]
fn every_alarm_is_in_the_runbook_and_watches_a_known_metric() {
    let template = Template::read();
    let runbook = read(&root().join("docs/operations.md"));
    let described: BTreeSet<String> =
        runbook.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect();
    let alarms: Vec<&Value> =
        template.resources("AWS::CloudWatch::Alarm").map(|(_, alarm)| &alarm["Properties"]).collect();
    let name = |alarm: &Value| text(&alarm["AlarmName"]).trim_start_matches("${AWS::StackName}-").to_owned();
    assert_same("a section of docs/operations.md", &described, &alarms.iter().map(|alarm| name(alarm)).collect());
    let counted: BTreeSet<&str> = shared::metrics::Metric::ALL.map(shared::metrics::Metric::name).into();
    let queries = |alarm: &Value| alarm["Metrics"].as_sequence().cloned().unwrap_or_default();
    let metrics = alarms.iter().flat_map(|alarm| {
        let math = queries(alarm).into_iter().map(|query| query["MetricStat"]["Metric"].clone());
        math.chain([(*alarm).clone()]).filter(|metric| !metric["MetricName"].is_null())
    });
    let metrics: Vec<Value> = metrics.collect();
    // CloudWatch charges for each metric of an alarm, and for each metric of the stack.
    let costs = read(&root().join("docs/costs.md"));
    let (watched, own) = (metrics.len() as f64 * 0.1, counted.len() as f64 * 0.3);
    for cost in [format!("{watched:.2} for alarms"), format!("{own:.2} for all {}", counted.len())] {
        assert!(costs.contains(&cost), "docs/costs.md must say: {cost}");
    }
    for metric in &metrics {
        let (namespace, name) = (text(&metric["Namespace"]), text(&metric["MetricName"]));
        assert!(namespace.starts_with("AWS/") || counted.contains(name), "{name} is not counted");
    }
    for alarm in &alarms {
        let link = format!("docs/operations.md#{}", name(alarm));
        assert!(text(&alarm["AlarmDescription"]).ends_with(&link), "{}", text(&alarm["AlarmDescription"]));
    }
    for metric in &counted {
        assert!(runbook.contains(&format!("| `{metric}` |")), "docs/operations.md does not explain {metric}");
        let graph = format!("\"${{AWS::StackName}}\", \"{metric}\"");
        let body = text(&template.resource("Dashboard")["Properties"]["DashboardBody"]);
        assert!(body.contains(&graph) || *metric == "FanoutJobs", "the dashboard does not show {metric}");
    }
}

#[test]
fn the_dashboard_is_json() {
    let template = Template::read();
    let body: serde_json::Value =
        serde_json::from_str(text(&template.resource("Dashboard")["Properties"]["DashboardBody"]))
            .expect("with variables in strings alone it is JSON");
    let shown = body["widgets"][0]["properties"]["alarms"].as_array().expect("the alarms are shown").len();
    assert_eq!(shown, template.resources("AWS::CloudWatch::Alarm").count());
}

#[test]
fn every_function_has_a_binary_a_module_and_a_route() {
    let template = Template::read();
    let functions: BTreeSet<String> = template.functions().into_keys().collect();
    let bin_files = stems(&root().join("functions/src/bin"));
    assert_same("functions/src/bin", &bin_files, &functions);
    let listed = functions::ALL.iter().map(|function| function.name.to_owned()).collect();
    assert_same("functions::ALL", &listed, &functions);
    let mut reached: BTreeSet<String> = template.routes().into_iter().map(|[_, _, _, function]| function).collect();
    reached.extend(template.authorizers());
    reached.remove("(mock)");
    reached.extend(template.consumers());
    assert_same("the target of a route, authorizer or queue", &reached, &functions);
}

#[test]
fn a_function_has_one_name_everywhere() {
    for (name, (logical_id, properties)) in Template::read().functions() {
        assert_eq!(logical_id, format!("{}Function", pascal_case(&name)));
        assert_eq!(text(&properties["FunctionName"]), format!("${{AWS::StackName}}-{name}"));
    }
}

#[test]
fn policies_name_the_table_the_queue_and_connections_only() {
    for (name, (_, properties)) in Template::read().functions() {
        for statement in statements(&properties["Policies"]) {
            for resource in list(&statement["Resource"]) {
                let resource = text(resource);
                let is_of_queue = list(&statement["Action"]).iter().all(|action| text(action).starts_with("sqs:"));
                let queue = if is_of_queue { "FanoutQueue.Arn" } else { "Table.Arn" };
                let is_index = resource == "${Table.Arn}/index/conversation";
                let known = resource == queue || is_index || resource.contains(":${SocketApi}/ws/");
                assert!(known, "{name}: {resource}");
            }
        }
    }
}

/// Returns the functions that use a service.
fn using(service: Service) -> BTreeSet<String> {
    functions::ALL.iter().filter(|function| function.uses(service)).map(|function| function.name.to_owned()).collect()
}

#[test]
fn a_function_has_a_client_of_a_service_if_its_policy_allows_calls() {
    let template = Template::read();
    let allowed = |action: &str| -> BTreeSet<String> {
        let allows = |properties: &Value| {
            statements(&properties["Policies"])
                .iter()
                .any(|statement| list(&statement["Action"]).iter().any(|allowed| text(allowed) == action))
        };
        template
            .functions()
            .into_iter()
            .filter(|(_, (_, properties))| allows(properties))
            .map(|(name, _)| name)
            .collect()
    };
    assert_same("a function that pushes", &allowed("execute-api:ManageConnections"), &using(Service::Connections));
    assert_same("a function that queues jobs", &allowed("sqs:SendMessage"), &using(Service::Queue));
}

#[test]
fn some_functions_may_put_events_on_the_owners_bus() {
    let template = Template::read();
    let policy = template.resource("EventPolicy");
    assert_eq!(policy["Condition"], "HasEventBus");
    assert_same("a function that puts events", &template.functions_of(policy), &using(Service::Bus));
    let statements = list(&policy["Properties"]["PolicyDocument"]["Statement"]);
    let [statement] = statements[..] else { panic!("it has one statement") };
    assert_eq!(text(&statement["Action"]), "events:PutEvents");
    assert!(text(&statement["Resource"]).ends_with(":event-bus/${EventBusName}"));
}

#[test]
fn the_example_rule_leaves_out_fillers() {
    let rule = &Template::read().resource("EventRule")["Properties"]["EventPattern"].clone();
    assert_eq!(list(&rule["source"]), [shared::bus::SOURCE]);
    assert_eq!(list(&rule["detail-type"]), ["MessageMissed", "GroupChanged"]);
}

#[test]
fn only_functions_that_verify_tokens_may_read_the_secret() {
    let template = Template::read();
    assert!(!format!("{:?}", template.0).contains("resolve:secretsmanager"), "no configuration holds the secret");
    let policy = template.resource("SecretPolicy");
    assert_eq!(policy["Condition"], "HasSecret");
    assert_same("a function that may read the secret", &template.functions_of(policy), &using(Service::Tokens));
}

#[test]
fn a_running_job_is_not_handed_out_again() {
    let template = Template::read();
    let timeout = template.0["Globals"]["Function"]["Timeout"].as_u64().expect("functions have a timeout");
    let queue = &template.resource("FanoutQueue")["Properties"];
    assert!(queue["VisibilityTimeout"].as_u64().expect("a number") >= 6 * timeout);
    assert!(queue["RedrivePolicy"]["maxReceiveCount"].as_u64().expect("a number") >= 5);
    assert_eq!(text(&queue["RedrivePolicy"]["deadLetterTargetArn"]), "FanoutDeadLetters.Arn");
    for (name, queue) in template.resources("AWS::SQS::Queue") {
        assert_eq!(queue["Properties"]["SqsManagedSseEnabled"], true, "{name}");
    }
}

/// Returns every statement in the template that allows a service to act.
fn statements_for_services(value: &Value) -> Vec<&Value> {
    match value {
        Value::Mapping(mapping) => {
            let is_one = value.get("Principal").and_then(|principal| principal.get("Service")).is_some();
            is_one.then_some(value).into_iter().chain(mapping.values().flat_map(statements_for_services)).collect()
        }
        Value::Sequence(list) => list.iter().flat_map(statements_for_services).collect(),
        Value::Tagged(tagged) => statements_for_services(&tagged.value),
        _ => Vec::new(),
    }
}

#[test]
fn services_may_act_for_this_account_only() {
    let template = Template::read();
    for statement in statements_for_services(&template.0) {
        let conditions = statement["Condition"].as_mapping().expect("it has a condition");
        let is_of_account = |condition: &Value| condition.get("aws:SourceAccount").is_some_and(is_this_account);
        assert!(conditions.values().any(is_of_account), "{statement:?}");
    }
    // SAM writes the permissions for API Gateway to call the functions. Each names the account, the API and the route.
    assert_eq!(template.resources("AWS::Lambda::Permission").count(), 0);
    // Otherwise SAM would write the roles of the functions itself, without this condition.
    let of_all = &template.0["Globals"]["Function"]["AssumeRolePolicyDocument"];
    assert_eq!(statements_for_services(of_all).len(), 1);
    for (name, (_, properties)) in template.functions() {
        let has_own = properties.get("Role").is_some() || properties.get("AssumeRolePolicyDocument").is_some();
        assert!(!has_own, "{name}");
    }
}

fn is_this_account(value: &Value) -> bool {
    matches!(value, Value::Tagged(tagged) if tagged.tag == "Ref" && text(&tagged.value) == "AWS::AccountId")
}

/// Reads a variable from the configuration of the functions, or returns nothing if they refuse it.
fn configured(name: &str, value: u64, read: fn(Config) -> u64) -> Option<u64> {
    let variable = |variable: &str| match variable {
        _ if variable == name => Some(value.to_string()),
        "TABLE_NAME" | "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("x".to_owned()),
        _ => None,
    };
    Config::read(variable).map(read).ok()
}

#[test]
fn parameters_and_functions_have_the_same_bounds() {
    let template = Template::read();
    let variables = &template.0["Globals"]["Function"]["Environment"]["Variables"];
    let redeliver = |config: Config| config.redeliver_ms / 1_000;
    let messages = |config: Config| config.messages_per_minute.into();
    for (variable, parameter, default, read) in [
        ("REDELIVER_SECONDS", "RedeliverSeconds", 15, redeliver as fn(Config) -> u64),
        ("MESSAGES_PER_MINUTE", "MessagesPerMinute", 600, messages),
    ] {
        assert_eq!(text(&variables[variable]), parameter);
        let parameter = &template.0["Parameters"][parameter];
        let bounds = ["MinValue", "Default", "MaxValue"].map(|name| parameter[name].as_u64().expect("a number"));
        assert_eq!(bounds.map(|value| configured(variable, value, read)), bounds.map(Some));
        assert_eq!(configured(variable, bounds[2] + 1, read), None);
        assert_eq!(bounds[1], default);
    }
}

#[test]
fn a_page_may_read_what_it_needs_and_trace_its_calls() {
    let template = Template::read();
    let cors = &template.resource("PublicApi")["Properties"]["CorsConfiguration"];
    let names = |key: &str| -> BTreeSet<String> { list(&cors[key]).iter().map(|name| text(name).to_owned()).collect() };
    let expected = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let exposed = expected(&["X-Has-More", "X-Next", "X-Page", "Retry-After", "Date"]);
    assert_same("an exposed header", &names("ExposeHeaders"), &exposed);
    let allowed =
        expected(&["authorization", "content-type", "traceparent", "tracestate", "baggage", "x-amzn-trace-id"]);
    assert_same("an allowed header", &names("AllowHeaders"), &allowed);
}

/// The template, with CloudFormation's tags.
struct Template(Value);

impl Template {
    fn read() -> Self {
        Self(serde_yaml_ng::from_str(&read(&root().join("template.yaml"))).expect("template.yaml is YAML"))
    }

    fn resources<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let all = self.0["Resources"].as_mapping().expect("there are resources").iter();
        all.filter(move |(_, resource)| resource["Type"] == kind).map(|(id, resource)| (text(id), resource))
    }

    fn resource(&self, id: &str) -> &Value {
        let found = &self.0["Resources"][id];
        assert!(!found.is_null(), "there is no resource {id}");
        found
    }

    /// Returns the functions by the names of their binaries: logical id and properties.
    fn functions(&self) -> BTreeMap<String, (String, Value)> {
        let entry = |(id, resource): (&str, &Value)| {
            let name = text(&resource["Metadata"]["BuildProperties"]["Binary"]).to_owned();
            (name, (id.to_owned(), resource["Properties"].clone()))
        };
        let functions: BTreeMap<_, _> = self.resources("AWS::Serverless::Function").map(entry).collect();
        assert!(!functions.is_empty());
        functions
    }

    /// Returns the binary of the function with this logical id.
    /// Returns the functions whose roles have a policy.
    fn functions_of(&self, policy: &Value) -> BTreeSet<String> {
        let function = |role: &Value| self.binary(text(role).strip_suffix("Role").expect("the role of a function"));
        list(&policy["Properties"]["Roles"]).into_iter().map(function).collect()
    }

    fn binary(&self, logical_id: &str) -> String {
        text(&self.resource(logical_id)["Metadata"]["BuildProperties"]["Binary"]).to_owned()
    }

    /// Returns API, route key, authorization and function of every route.
    fn routes(&self) -> BTreeSet<[String; 4]> {
        let mut routes: BTreeSet<_> = self.functions().iter().flat_map(|(name, (_, f))| self.events(name, f)).collect();
        for (api, resource) in self.resources("AWS::Serverless::WebSocketApi") {
            let auth = text(&resource["Properties"]["Auth"]["AuthType"]);
            for (key, route) in entries(&resource["Properties"]["Routes"]) {
                let auth = if key == "$connect" { auth } else { "NONE" };
                routes.insert([api, key, auth, &self.function_of(&route["FunctionArn"])].map(str::to_owned));
            }
        }
        for (_, route) in self.resources("AWS::ApiGatewayV2::Route") {
            let [api, key, auth] =
                ["ApiId", "RouteKey", "AuthorizationType"].map(|name| text(&route["Properties"][name]));
            routes.insert([api, key, auth, "(mock)"].map(str::to_owned));
        }
        routes
    }

    /// Returns the routes of HTTP APIs that lead to a function.
    fn events(&self, function: &str, properties: &Value) -> Vec<[String; 4]> {
        let route = |(_, event): (&str, &Value)| {
            let event = &event["Properties"];
            assert_eq!(event["PayloadFormatVersion"], "2.0", "{function}");
            let api = text(&event["ApiId"]);
            let auth = &self.resource(api)["Properties"]["Auth"];
            assert_eq!(auth["DefaultAuthorizer"].is_null(), auth["EnableIamAuthorizer"] != true, "{api}");
            let auth = auth.get("DefaultAuthorizer").map_or("NONE", text);
            let key = format!("{} {}", text(&event["Method"]), text(&event["Path"]));
            [api, &key, auth, function].map(str::to_owned)
        };
        entries(&properties["Events"]).map(route).collect()
    }

    fn authorizers(&self) -> Vec<String> {
        let all = self.resources("AWS::Serverless::WebSocketApi");
        all.map(|(_, resource)| self.function_of(&resource["Properties"]["Auth"]["AuthArn"])).collect()
    }

    /// Returns the binary of the function with this ARN, which is the first in a `!Select`.
    fn function_of(&self, arn: &Value) -> String {
        let Value::Tagged(select) = arn else { panic!("this is no !Select: {arn:?}") };
        assert!(select.tag == "Select" && select.value[0] == 0, "{arn:?}");
        self.binary(text(&select.value[1][0]).strip_suffix(".Arn").expect("the ARN of a function"))
    }

    /// Returns the functions that take jobs from a queue.
    fn consumers(&self) -> Vec<String> {
        let all = self.resources("AWS::Lambda::EventSourceMapping");
        all.map(|(_, resource)| self.binary(text(&resource["Properties"]["FunctionName"]))).collect()
    }
}

fn statements(policies: &Value) -> Vec<&Value> {
    let documents = policies.as_sequence().map(Vec::as_slice).unwrap_or_default();
    documents.iter().flat_map(|document| list(&document["Statement"])).collect()
}

/// Returns the entries of a mapping, or none if it is not a mapping.
fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_mapping().into_iter().flatten().map(|(name, value)| (text(name), value))
}

/// Returns the values of a list, or a single value.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Sequence(several) => several.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// Returns the text of a scalar, with or without a tag.
fn text(value: &Value) -> &str {
    match value {
        Value::String(text) => text,
        Value::Tagged(tagged) => text(&tagged.value),
        other => panic!("this is no text: {other:?}"),
    }
}

/// Converts `pull_messages` to `PullMessages`.
fn pascal_case(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(capital).collect()
}

fn assert_same<T: Ord + std::fmt::Debug>(what: &str, found: &BTreeSet<T>, expected: &BTreeSet<T>) {
    let missing: Vec<_> = expected.difference(found).collect();
    let surplus: Vec<_> = found.difference(expected).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "{what}: missing {missing:?}, too much {surplus:?}");
}

fn stems(folder: &Path) -> BTreeSet<String> {
    rust_files(folder).into_iter().map(|(stem, _)| stem).collect()
}

/// Returns the Rust files in a folder, with their names.
fn rust_files(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.map(|path| (path.file_stem().expect("a file has a name").to_string_lossy().into_owned(), path)).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
