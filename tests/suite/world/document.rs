//! The documents in `docs/`, against which every answer and every frame is held that the suite meets.
//!
//! A schema that does not say whether it takes more fields than it names takes none here: so a field that nobody has
//! described fails a test, and clients are free to ignore it all the same.

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

/// Which of the two addresses a call goes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Api {
    /// The one for clients.
    Public,
    /// The one for the back end; Lambda's own API too.
    Internal,
}

/// A call that has been answered.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a str,
    /// The path behind the address, which may have one of its own.
    pub(crate) path: &'a str,
    pub(crate) url: &'a Url,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) answer: &'a Answer,
}

/// A document and its schemas.
pub(crate) struct Document {
    root: Value,
    schemas: Schemas,
    /// By the pointer to each.
    indices: HashMap<String, SchemaIndex>,
}

/// A place in a document.
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

    /// Whether what is below that path is for the document to describe: not the page, nor other APIs of AWS.
    fn describes(self, path: &str) -> bool {
        let roots: &[&str] = match self {
            Self::Public => &["api"],
            Self::Internal => &["notification", "relationship"],
        };
        roots.contains(&segments(path)[0])
    }

    /// Whether an exchange is as described: the status, the headers, the body; and what was accepted may be sent.
    pub(crate) fn holds(self, exchange: &Exchange<'_>) -> Result<(), String> {
        // Elsewhere a gateway has answers of its own.
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
            // The gateway's own: CORS.
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
        // What a compiler is told that the document is called.
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

    /// What it says, as JSON; its schemas are closed.
    pub(crate) fn root(&self) -> Place<'_> {
        Place { document: self, pointer: String::new(), value: &self.root }
    }

    /// The place that a pointer leads to.
    pub(crate) fn place(&self, pointer: &str) -> Option<Place<'_>> {
        let value = self.root.pointer(pointer)?;
        Some(Place { document: self, pointer: pointer.to_owned(), value })
    }

    /// What is described of a path, the function's prefix left out of account.
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

    /// Whether a frame is one that the server sends.
    pub(crate) fn holds_frame(&self, frame: &Value) -> Result<(), String> {
        self.is_one_of(&self.messages("send"), frame)
    }

    /// Whether a frame is one that a client may send.
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

    /// The messages of the operations of an action, and where the server sends, its replies.
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
    /// What stands here.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// What stands under a key, or where that refers to.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let escaped = key.replace('~', "~0").replace('/', "~1");
        self.follow(self.value.get(key)?, &escaped)
    }

    /// The elements of an array, or where they refer to.
    pub(crate) fn items(&self) -> Vec<Self> {
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.filter_map(|(index, value)| self.follow(value, &index.to_string())).collect()
    }

    /// What stands under each key.
    pub(crate) fn entries(&self) -> Vec<(String, Self)> {
        let keys = self.value.as_object().into_iter().flat_map(serde_json::Map::keys);
        keys.filter_map(|key| Some((key.clone(), self.get(key)?))).collect()
    }

    fn follow(&self, value: &'a Value, step: &str) -> Option<Self> {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let place = self.document.place(reference.strip_prefix('#')?)?;
                // A channel's message refers to one of the components.
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

    /// Whether a value is what the schema under a key allows.
    pub(crate) fn holds(&self, key: &str, value: &Value) -> Result<(), String> {
        let pointer = format!("{}/{key}", self.pointer);
        let index = self.document.indices.get(&pointer).ok_or_else(|| format!("there is no schema at {pointer}"))?;
        self.document.schemas.validate(value, *index).map_err(|why| format!("{pointer}: {why}"))
    }

    /// Whether what stands here describes a header.
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
            // A content may hold a number that no type here does.
            Err(why) if why.to_string().starts_with("number out of range") => Ok(()),
            Err(why) => Err(format!("the body is not JSON: {why}")),
        }
    }

    /// Whether a request of an operation here is as described.
    fn holds_request(&self, operation: &Self, exchange: &Exchange<'_>) -> Result<(), String> {
        let parameters = [self, operation].into_iter().filter_map(|place| place.get("parameters"));
        for parameter in parameters.flat_map(|parameters| parameters.items()) {
            let name = parameter.value["name"].as_str().unwrap_or_default();
            if parameter.value["in"] != "query" {
                continue;
            }
            let values: Vec<_> =
                exchange.url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| json!(value)).collect();
            let is_array = parameter.value["schema"]["type"] == "array";
            match values.first() {
                Some(first) => {
                    let value = if is_array { json!(values) } else { first.clone() };
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

/// Let objects that are described take no other fields, unless they say so.
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

/// The pointers to all schemas that describe a parameter, a header, a body or a message.
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
