//! The documents in `docs/`. The suite checks every answer and every frame against them.
//!
//! A schema that does not say whether it allows additional fields allows none here. So an undescribed field fails a
//! test, while clients may still ignore it.

use std::collections::HashMap;
use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{Answer, Deployment};

/// The REST API.
pub(crate) static PUBLIC: LazyLock<Document> =
    LazyLock::new(|| Document::read(include_str!("../../../docs/openapi.yaml")));

/// What the back end calls.
pub(crate) static INTERNAL: LazyLock<Document> =
    LazyLock::new(|| Document::read(include_str!("../../../docs/openapi-internal.yaml")));

/// The WebSocket.
pub(crate) static SOCKET: LazyLock<Document> =
    LazyLock::new(|| Document::read(include_str!("../../../docs/asyncapi.yaml")));

/// The address of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Api {
    /// The public address, for clients.
    Public,
    /// The internal address, for the back end and for Lambda's own API.
    Internal,
}

/// A call and its answer.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a str,
    /// The path behind the address. The address may have a path of its own.
    pub(crate) path: &'a str,
    pub(crate) url: &'a Url,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) answer: &'a Answer,
}

/// A document and its compiled schemas.
pub(crate) struct Document {
    root: Value,
    schemas: Schemas,
    /// The index of each schema, by its JSON pointer.
    indices: HashMap<String, SchemaIndex>,
}

/// A position in a document.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    document: &'a Document,
    pointer: String,
    value: &'a Value,
}

impl Api {
    fn document(self) -> &'static Document {
        match self {
            Self::Public => &PUBLIC,
            Self::Internal => &INTERNAL,
        }
    }

    /// Whether the document must describe this path. It does not describe the page or other APIs of AWS.
    fn describes(self, path: &str) -> bool {
        let roots: &[&str] = match self {
            Self::Public => &["api"],
            Self::Internal => &["notification", "relationship", "message", "group", "user"],
        };
        roots.contains(&segments(path)[0])
    }

    /// Checks that the document describes the status, the headers and the body, and that it allows an accepted request.
    pub(crate) fn holds(self, exchange: &Exchange<'_>) -> Result<(), String> {
        // In a deployment, the gateway gives some answers of its own.
        if Deployment::is_elsewhere() {
            return Ok(());
        }
        let document = self.document();
        let Some(item) = document.path_item(exchange.path) else {
            let is_fine = exchange.answer.status == 404 || !self.describes(exchange.path);
            return if is_fine { Ok(()) } else { Err("no such path is described".to_owned()) };
        };
        let operation = item.get(&exchange.method.to_ascii_lowercase());
        match (&operation, self, exchange.method) {
            (Some(operation), ..) => {
                let status = exchange.answer.status.to_string();
                let response = operation.get("responses").and_then(|responses| responses.get(&status));
                response
                    .ok_or_else(|| format!("the status {status} is not described"))?
                    .holds_answer(exchange.answer)?;
                if exchange.answer.status < 300 { item.holds_request(operation, exchange) } else { Ok(()) }
            }
            // The gateway answers this itself: CORS.
            (None, _, "OPTIONS") => Ok(()),
            // An answer without a body.
            (None, Self::Public, "HEAD") => Ok(()),
            (None, Self::Public, _) => {
                let refused = document.place("/components/responses/MethodNotAllowed");
                refused.expect("the answer to other methods is described").holds_answer(exchange.answer)
            }
            (None, Self::Internal, _) => {
                if exchange.answer.status == 404 {
                    Ok(())
                } else {
                    Err("no such method is described".to_owned())
                }
            }
        }
    }
}

impl Document {
    fn read(yaml: &str) -> Self {
        // The name of the document for the schema compiler.
        const NAME: &str = "file:///document";
        let mut root: Value = serde_yaml_ng::from_str(yaml).expect("a document is YAML");
        close(&mut root);
        let mut pointers = Vec::new();
        find_schemas(&root, "", &mut pointers);
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource(NAME, root.clone()).expect("a document has one name");
        let compile = |pointer: String| {
            let fragment = pointer.replace('{', "%7B").replace('}', "%7D");
            let index = compiler.compile(&format!("{NAME}#{fragment}"), &mut schemas);
            let index = index.unwrap_or_else(|why| panic!("{pointer}: {why:#}"));
            (pointer, index)
        };
        let indices = pointers.into_iter().map(compile).collect();
        Self { root, schemas, indices }
    }

    /// The whole document as JSON. Its schemas allow no additional fields.
    pub(crate) fn root(&self) -> Place<'_> {
        Place { document: self, pointer: String::new(), value: &self.root }
    }

    /// The position at a JSON pointer.
    pub(crate) fn place(&self, pointer: &str) -> Option<Place<'_>> {
        let value = self.root.pointer(pointer)?;
        Some(Place { document: self, pointer: pointer.to_owned(), value })
    }

    /// The description of a path. A prefix of the function's name is ignored.
    fn path_item(&self, path: &str) -> Option<Place<'_>> {
        let wanted = segments(path);
        let paths = self.root().get("paths")?;
        let fits = |template: &&String| {
            let parts = segments(template);
            let is_direct = template.contains("/functions/");
            let takes = |(part, wanted): (&&str, &&str)| {
                part == wanted || (part.starts_with('{') && !wanted.is_empty()) || (is_direct && wanted.ends_with(part))
            };
            parts.len() == wanted.len() && parts.iter().zip(&wanted).all(takes)
        };
        let template = paths.value.as_object()?.keys().find(fits)?;
        paths.get(template)
    }

    /// Checks that the server may send this frame.
    pub(crate) fn holds_frame(&self, frame: &Value) -> Result<(), String> {
        self.is_one_of(&self.messages("send"), frame)
    }

    /// Checks that a client may send this frame.
    pub(crate) fn holds_sent(&self, frame: &Value) -> Result<(), String> {
        self.is_one_of(&self.messages("receive"), frame)
    }

    fn is_one_of(&self, messages: &[Place<'_>], frame: &Value) -> Result<(), String> {
        if Deployment::is_elsewhere() {
            return Ok(());
        }
        let outcomes = messages.iter().map(|message| message.holds("payload", frame));
        let refusals: Vec<String> = outcomes.filter_map(Result::err).collect();
        if refusals.len() < messages.len() { Ok(()) } else { Err(refusals.join("\n")) }
    }

    /// The messages of all operations of an action. For `send`, replies are included.
    fn messages(&self, action: &str) -> Vec<Place<'_>> {
        let mut lists = Vec::new();
        for (_, operation) in self.root().get("operations").expect("there are operations").entries() {
            lists.extend((operation.value["action"] == action).then(|| operation.get("messages")).flatten());
            let reply = operation.get("reply").filter(|_| action == "send");
            lists.extend(reply.and_then(|reply| reply.get("messages")));
        }
        lists.iter().flat_map(Place::items).collect()
    }
}

impl<'a> Place<'a> {
    /// The value at this position.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// The value under a key. References are followed.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let escaped = key.replace('~', "~0").replace('/', "~1");
        self.follow(self.value.get(key)?, &escaped)
    }

    /// The elements of an array. References are followed.
    pub(crate) fn items(&self) -> Vec<Self> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.filter_map(|(index, value)| self.follow(value, &index.to_string())).collect()
    }

    /// The value under each key. References are followed.
    pub(crate) fn entries(&self) -> Vec<(String, Self)> {
        let keys = self.value.as_object().into_iter().flat_map(serde_json::Map::keys);
        keys.filter_map(|key| Some((key.clone(), self.get(key)?))).collect()
    }

    fn follow(&self, value: &'a Value, step: &str) -> Option<Self> {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let place = self.document.place(reference.strip_prefix('#')?)?;
                // A message of a channel refers to one of the components.
                self.follow_again(place)
            }
            None => Some(Self { pointer: format!("{}/{step}", self.pointer), value, ..self.clone() }),
        }
    }

    fn follow_again(&self, place: Self) -> Option<Self> {
        match place.value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.follow_again(self.document.place(reference.strip_prefix('#')?)?),
            None => Some(place),
        }
    }

    /// Checks a value against the schema under a key.
    pub(crate) fn holds(&self, key: &str, value: &Value) -> Result<(), String> {
        let pointer = format!("{}/{key}", self.pointer);
        let index = self.document.indices.get(&pointer).ok_or_else(|| format!("there is no schema at {pointer}"))?;
        self.document.schemas.validate(value, *index).map_err(|why| format!("{pointer}: {why}"))
    }

    /// Whether this position describes a header.
    pub(crate) fn is_header(&self) -> bool {
        self.pointer.contains("/headers/")
    }

    fn holds_answer(&self, answer: &Answer) -> Result<(), String> {
        for (name, header) in self.get("headers").map(|headers| headers.entries()).unwrap_or_default() {
            match answer.header(&name) {
                Some(value) => header.holds("schema", &json!(value)).map_err(|why| format!("{name}: {why}"))?,
                None if header.value["required"] == true => return Err(format!("{name} is missing")),
                None => {}
            }
        }
        let Some(content) = self.get("content") else {
            return if answer.body.is_empty() { Ok(()) } else { Err("no body is described".to_owned()) };
        };
        let kind = media_type(&answer.headers);
        let content = content.get(&kind).ok_or_else(|| format!("a body of the type {kind:?} is not described"))?;
        match serde_json::from_str(&answer.body) {
            Ok(body) => content.holds("schema", &body),
            // A content may hold a number that is too large for every type here.
            Err(why) if why.to_string().starts_with("number out of range") => Ok(()),
            Err(why) => Err(format!("the body is not JSON: {why}")),
        }
    }

    /// Checks that the request of an operation is as described.
    fn holds_request(&self, operation: &Self, exchange: &Exchange<'_>) -> Result<(), String> {
        let parameters = [self, operation].into_iter().filter_map(|place| place.get("parameters"));
        for parameter in parameters.flat_map(|parameters| parameters.items()) {
            let name = parameter.value["name"].as_str().unwrap_or_default();
            if parameter.value["in"] != "query" {
                continue;
            }
            let values: Vec<_> =
                exchange.url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| json!(value)).collect();
            let kind = parameter.value["schema"]["type"].as_str().unwrap_or_default();
            match values.first() {
                Some(first) => {
                    let number = || first.as_str().and_then(|text| text.parse::<u64>().ok());
                    let value = match kind {
                        "array" => json!(values),
                        "integer" => number().map_or_else(|| first.clone(), |number| json!(number)),
                        _ => first.clone(),
                    };
                    parameter.holds("schema", &value).map_err(|why| format!("{name} was accepted: {why}"))?;
                }
                None if parameter.value["required"] == true => return Err(format!("{name} was not required")),
                None => {}
            }
        }
        let content = operation.get("requestBody").and_then(|body| body.get("content"));
        let Some(content) = content.and_then(|content| content.get("application/json")) else { return Ok(()) };
        match serde_json::from_slice(exchange.body.unwrap_or_default()) {
            Ok(body) if exchange.answer.header("x-amz-function-error").is_none() => {
                content.holds("schema", &body).map_err(|why| format!("the body was accepted: {why}"))
            }
            _ => Ok(()),
        }
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_owned()
}

fn segments(path: &str) -> Vec<&str> {
    let path = path.split('?').next().unwrap_or_default();
    path.strip_prefix('/').unwrap_or(path).split('/').collect()
}

/// Forbids additional fields in described objects, unless the schema allows them.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_described = fields.get("type") == Some(&json!("object")) && fields.contains_key("properties");
            if is_described && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Finds the pointers to all schemas of parameters, headers, bodies and messages.
fn find_schemas(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let step = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    "schema" | "payload" => found.push(step(key)),
                    "example" | "examples" => {}
                    _ => find_schemas(value, &step(key), found),
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                find_schemas(value, &step(&index.to_string()), found);
            }
        }
        _ => {}
    }
}
