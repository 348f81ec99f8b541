//! The call `PutEvents`, with the checks of EventBridge. Other operations are refused.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use shared::clock::{Clock, SystemClock};
use uuid::Builder;

use super::Bus;
use crate::event::ACCOUNT;

/// The service in `X-Amz-Target`.
pub(crate) const SERVICE: &str = "AWSEvents";

/// The type of all answers.
const JSON: &str = "application/x-amz-json-1.1";

/// The most entries of one call.
const MAX_ENTRIES: usize = 10;

/// The most bytes of all entries of one call.
const MAX_BYTES: usize = 256 * 1024;

/// What a time of an entry counts.
const TIME_BYTES: usize = 14;

/// The most characters of a `DetailType`.
const MAX_DETAIL_TYPE: usize = 128;

/// The bus of entries that name none.
const DEFAULT: &str = "default";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    #[serde(default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    event_bus_name: Option<String>,
    source: Option<String>,
    detail_type: Option<String>,
    detail: Option<String>,
    resources: Option<Vec<String>>,
    /// Seconds since 1970.
    time: Option<f64>,
}

/// An event as EventBridge delivers it, with its fields in that order.
#[derive(Serialize)]
struct Event<'a> {
    version: &'a str,
    id: &'a str,
    #[serde(rename = "detail-type")]
    detail_type: &'a str,
    source: &'a str,
    account: &'a str,
    time: String,
    region: &'a str,
    resources: &'a [String],
    detail: &'a RawValue,
}

/// Why a call, or an entry, is refused: the exception and a sentence.
#[derive(Debug)]
struct Refusal(&'static str, String);

impl Bus {
    /// Answers a call: a status and JSON.
    pub(crate) fn answer(&self, operation: &str, body: &[u8]) -> (StatusCode, String) {
        let answer = match operation {
            "PutEvents" => self.put(body),
            _ => Err(Refusal("UnknownOperationException", "the local stack supports PutEvents only".to_owned())),
        };
        match answer {
            Ok(answer) => (StatusCode::OK, answer.to_string()),
            Err(Refusal(name, why)) => (StatusCode::BAD_REQUEST, json!({ "__type": name, "message": why }).to_string()),
        }
    }

    fn put(&self, body: &[u8]) -> Result<Value, Refusal> {
        let request: Request =
            serde_json::from_slice(body).map_err(|error| Refusal("SerializationException", error.to_string()))?;
        check(&request.entries)?;
        let answers: Vec<Result<String, Refusal>> = request.entries.iter().map(|entry| self.put_entry(entry)).collect();
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        let answers = answers.into_iter().map(|answer| match answer {
            Ok(id) => json!({ "EventId": id }),
            Err(Refusal(code, why)) => json!({ "ErrorCode": code, "ErrorMessage": why }),
        });
        Ok(json!({ "FailedEntryCount": failed, "Entries": answers.collect::<Vec<_>>() }))
    }

    /// Keeps the event of an entry, and returns its id. An event for another bus is dropped, as AWS drops those for a
    /// bus that does not exist.
    fn put_entry(&self, entry: &Entry) -> Result<String, Refusal> {
        let id = Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let event = event(entry, &id)?;
        if Some(entry.bus()) == self.name.as_deref() {
            self.add(event);
        } else {
            tracing::warn!(bus = entry.bus(), "an event for an unknown bus was dropped");
        }
        Ok(id)
    }
}

/// Wraps an answer for HTTP.
pub(crate) fn call(bus: &Bus, operation: &str, body: &Bytes) -> Response {
    let (status, answer) = bus.answer(operation, body);
    (status, [("content-type", JSON)], answer).into_response()
}

impl Entry {
    /// Returns the name of its bus, which may be given as an ARN.
    fn bus(&self) -> &str {
        let name = self.event_bus_name.as_deref().unwrap_or(DEFAULT);
        name.split_once(":event-bus/").map_or(name, |(_, name)| name)
    }

    /// Returns its size by the rules of EventBridge.
    fn bytes(&self) -> usize {
        let texts = [&self.source, &self.detail_type, &self.detail].into_iter().flatten();
        let texts: usize = texts.chain(self.resources.iter().flatten()).map(String::len).sum();
        texts + if self.time.is_some() { TIME_BYTES } else { 0 }
    }
}

/// Checks the entries together.
fn check(entries: &[Entry]) -> Result<(), Refusal> {
    let refused = |why: &str| Err(Refusal("ValidationException", why.to_owned()));
    let constraint =
        "1 validation error detected: Value at 'entries' failed to satisfy constraint: Member must have length";
    match entries.len() {
        0 => refused(&format!("{constraint} greater than or equal to 1")),
        n if n > MAX_ENTRIES => refused(&format!("{constraint} less than or equal to {MAX_ENTRIES}")),
        _ if entries.iter().map(Entry::bytes).sum::<usize>() > MAX_BYTES => {
            refused("Total size of the entries in the request is over the limit.")
        }
        _ => Ok(()),
    }
}

/// Builds the event of an entry, or returns why EventBridge refuses the entry.
fn event(entry: &Entry, id: &str) -> Result<String, Refusal> {
    let source = required("Source", entry.source.as_deref())?;
    let detail_type = required("DetailType", entry.detail_type.as_deref())?;
    let detail = required("Detail", entry.detail.as_deref())?;
    if source.starts_with("aws.") {
        return Err(Refusal("NotAuthorizedForSourceException", "Not authorized for the source.".to_owned()));
    }
    if detail_type.chars().count() > MAX_DETAIL_TYPE {
        return Err(invalid("DetailType", &format!("DetailType must have at most {MAX_DETAIL_TYPE} characters.")));
    }
    let malformed = |_| Refusal("MalformedDetail", "Detail is malformed.".to_owned());
    serde_json::from_str::<Map<String, Value>>(detail).map_err(malformed)?;
    let event = Event {
        version: "0",
        id,
        detail_type,
        source,
        account: ACCOUNT,
        time: time(entry.time).ok_or_else(|| invalid("Time", "Time must be a time in seconds."))?,
        region: "us-east-1",
        resources: entry.resources.as_deref().unwrap_or_default(),
        detail: serde_json::from_str(detail).map_err(malformed)?,
    };
    Ok(serde_json::to_string(&event).expect("texts and JSON can be written as JSON"))
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Refusal> {
    let value = value.filter(|value| !value.is_empty());
    value.ok_or_else(|| invalid(name, &format!("{name} is a required argument.")))
}

fn invalid(name: &str, why: &str) -> Refusal {
    Refusal("InvalidArgument", format!("Parameter {name} is not valid. Reason: {why}"))
}

/// Returns a time, by default the current one, in whole seconds in the form of RFC 3339.
fn time(seconds: Option<f64>) -> Option<String> {
    let seconds = seconds.unwrap_or_else(|| (SystemClock.now_ms() / 1_000) as f64);
    DateTime::from_secs(seconds.floor() as i64).fmt(Format::DateTime).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with the status and JSON.
    fn put(bus: &Bus, request: &Value) -> (u16, Value) {
        let (status, answer) = bus.answer("PutEvents", request.to_string().as_bytes());
        (status.as_u16(), serde_json::from_str(&answer).unwrap())
    }

    fn local() -> Bus {
        Bus::new(Some("local".to_owned()))
    }

    fn entry(detail: &str) -> Value {
        json!({ "EventBusName": "local", "Source": "chat", "DetailType": "MessageMissed", "Detail": detail })
    }

    #[test]
    fn an_event_is_kept_as_eventbridge_delivers_it() {
        let bus = local();
        let mut entry = entry(r#"{"z":1.0,"a":[{}]}"#);
        entry["Time"] = json!(1_795_417_056.464);
        entry["Resources"] = json!(["arn:x"]);
        let (status, answer) = put(&bus, &json!({ "Entries": [entry] }));
        assert_eq!((status, &answer["FailedEntryCount"]), (200, &json!(0)));
        let id = answer["Entries"][0]["EventId"].as_str().unwrap();
        assert_eq!(
            bus.all(),
            format!(
                concat!(
                    r#"[{{"version":"0","id":"{}","detail-type":"MessageMissed","source":"chat","#,
                    r#""account":"000000000000","time":"2026-11-23T06:57:36Z","region":"us-east-1","#,
                    r#""resources":["arn:x"],"detail":{{"z":1.0,"a":[{{}}]}}}}]"#
                ),
                id
            )
        );
    }

    #[test]
    fn refused_entries_do_not_hinder_the_others() {
        let bus = local();
        let without = |field: &str| {
            let mut entry = entry("{}");
            entry[field].take();
            entry
        };
        let with = |field: &str, value: Value| {
            let mut entry = entry("{}");
            entry[field] = value;
            entry
        };
        let entries = [
            (without("Source"), "InvalidArgument"),
            (without("DetailType"), "InvalidArgument"),
            (without("Detail"), "InvalidArgument"),
            (with("Source", json!("")), "InvalidArgument"),
            (with("Source", json!("aws.chat")), "NotAuthorizedForSourceException"),
            (with("DetailType", json!("é".repeat(129))), "InvalidArgument"),
            (entry("[]"), "MalformedDetail"),
            (entry("{} {}"), "MalformedDetail"),
            (with("Time", json!(1e300)), "InvalidArgument"),
            (with("DetailType", json!("é".repeat(128))), ""),
        ];
        let (status, answer) = put(&bus, &json!({ "Entries": entries.each_ref().map(|(entry, _)| entry) }));
        assert_eq!((status, &answer["FailedEntryCount"]), (200, &json!(9)));
        let codes = answer["Entries"].as_array().unwrap().iter().map(|entry| entry["ErrorCode"].as_str().unwrap_or(""));
        assert_eq!(codes.collect::<Vec<_>>(), entries.map(|(_, code)| code));
        let why = "Parameter Source is not valid. Reason: Source is a required argument.";
        assert_eq!(answer["Entries"][0]["ErrorMessage"], why);
        assert_eq!(bus.kept().events.len(), 1);
    }

    #[test]
    fn a_call_beyond_the_limits_is_refused() {
        let bus = local();
        let refused = |request: &Value| {
            let (status, answer) = put(&bus, request);
            (status, answer["__type"].as_str().unwrap_or_default().to_owned())
        };
        let (taken, invalid) = ((200, String::new()), (400, "ValidationException".to_owned()));
        for request in [json!({}), json!({ "Entries": [] }), json!({ "Entries": vec![entry("{}"); 11] })] {
            assert_eq!(refused(&request), invalid);
        }
        // Source and DetailType have 17 bytes, the JSON around the text 8, a time 14. A ü has two bytes.
        let sized = |bytes: usize| entry(&format!(r#"{{"a":"ü{}"}}"#, "x".repeat(bytes - 17 - 8 - 2)));
        assert_eq!(refused(&json!({ "Entries": [sized(MAX_BYTES)] })), taken);
        assert_eq!(refused(&json!({ "Entries": [sized(MAX_BYTES + 1)] })), invalid);
        let half = MAX_BYTES / 2;
        assert_eq!(refused(&json!({ "Entries": [sized(half), sized(half)] })), taken);
        assert_eq!(refused(&json!({ "Entries": [sized(half), sized(half + 1)] })), invalid);
        let timed = |bytes: usize| {
            let mut entry = sized(bytes);
            entry["Time"] = json!(1);
            json!({ "Entries": [entry] })
        };
        assert_eq!(refused(&timed(MAX_BYTES - TIME_BYTES)), taken);
        assert_eq!(refused(&timed(MAX_BYTES - TIME_BYTES + 1)), invalid);
        let unreadable = (400, "SerializationException".to_owned());
        assert_eq!(refused(&json!({ "Entries": [{ "Source": 1 }] })), unreadable);
        assert_eq!(refused(&json!("x")), unreadable);
        assert_eq!(bus.answer("ListRules", b"{}").0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn events_for_other_buses_are_dropped() {
        let named = |name: Value| {
            let bus = local();
            let mut entry = entry("{}");
            entry["EventBusName"] = name;
            assert_eq!(put(&bus, &json!({ "Entries": [entry] })).1["FailedEntryCount"], 0);
            bus.kept().events.len()
        };
        assert_eq!(named(json!("local")), 1);
        assert_eq!(named(json!("arn:aws:events:us-east-1:000000000000:event-bus/local")), 1);
        assert_eq!(named(json!("other")), 0);
        assert_eq!(named(Value::Null), 0);
    }
}
