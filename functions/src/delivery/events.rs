//! Puts events for the back end, if a bus is configured: missed messages, so that a phone can be woken, and changes of groups.
//! A failure is counted and logged. The sender does not learn of it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::{Either, select};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::bus::{Bus, Event};
use shared::clock::Ms;
use shared::frame::{Address, GroupChanged, GroupEvent, Message, encode};
use shared::id::{GroupId, MessageId, UserId};
use shared::metrics::Metric;

use crate::App;

/// The most receivers of one event.
const MAX_RECEIVERS: usize = 1_000;

/// How long a function waits for the bus.
const PUT_MS: Ms = 1_000;

/// A message that receivers did not take, for the rules that wake phones.
const MISSED: &str = "MessageMissed";

/// The type of an event for a message that is withheld from all of its receivers. No rule should match it. It has the length
/// of `MISSED`.
const HIDDEN: &str = "MessageHidden";

/// A change of a group.
const CHANGED: &str = "GroupChanged";

/// The receivers who did not take a message.
#[derive(Debug, Default)]
pub(crate) struct NotTaken {
    /// Those who may know of it.
    pub(crate) delivered: BTreeSet<UserId>,
    /// Those from whom it is withheld.
    pub(crate) withheld: BTreeSet<UserId>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MissedDetail<'a> {
    id: MessageId,
    r#type: &'static str,
    sender_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    group_id: Option<&'a GroupId>,
    receivers: Vec<&'a UserId>,
    timestamp: Ms,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
    /// As many bytes as the ids of those from whom the message is withheld would take.
    padding: String,
}

/// Tells which receivers did not take a message.
pub(crate) async fn put_missed(app: &App, message: &Message, not_taken: &NotTaken) {
    let Some(bus) = &app.bus else { return };
    put(app, bus, missed(message, not_taken, app.event_content)).await;
}

/// Puts the event before an answer whose time must not show who took the message. If every receiver took it, puts a filler
/// without receivers.
pub(crate) async fn put_missed_or_nothing(app: &App, message: &Message, not_taken: &NotTaken) {
    let Some(bus) = &app.bus else { return };
    let events = missed(message, not_taken, app.event_content);
    let nothing = || vec![event(message, &[], &BTreeSet::new(), app.event_content)];
    put(app, bus, if events.is_empty() { nothing() } else { events }).await;
}

fn missed(message: &Message, NotTaken { delivered, withheld }: &NotTaken, with_content: bool) -> Vec<Event> {
    let all: Vec<&UserId> = delivered.union(withheld).collect();
    all.chunks(MAX_RECEIVERS).map(|some| event(message, some, withheld, with_content)).collect()
}

fn event(message: &Message, some: &[&UserId], withheld: &BTreeSet<UserId>, with_content: bool) -> Event {
    let (kind, group_id) = match &message.to {
        Address::User(_) => ("unicast", None),
        Address::Group(group) => ("multicast", Some(group)),
    };
    let is_hidden = some.iter().all(|user| withheld.contains(*user));
    let receivers: Vec<&UserId> = some.iter().copied().filter(|user| !withheld.contains(*user)).collect();
    let padding = "x".repeat(length(some) - length(&receivers));
    let (id, sender_id, timestamp) = (message.id, &message.sender, message.timestamp);
    let content = message.content().filter(|_| with_content);
    let detail = MissedDetail { id, r#type: kind, sender_id, group_id, receivers, timestamp, content, padding };
    Event { detail_type: if is_hidden { HIDDEN } else { MISSED }, detail: encode(&detail) }
}

/// Returns the bytes of a list of ids as it is sent: in JSON, whose quotes are escaped, since a detail is a string.
fn length(users: &[&UserId]) -> usize {
    let ids: usize = users.iter().map(|user| user.as_str().len() + 4).sum();
    ids + users.len().saturating_sub(1)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangedDetail<'a> {
    group_id: &'a GroupId,
    event: GroupEvent,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// Tells that a group has changed.
pub(crate) async fn put_changed(app: &App, changed: &GroupChanged<'_>) {
    let Some(bus) = &app.bus else { return };
    let GroupChanged { group_id, event, user_id, name } = *changed;
    let detail = encode(&ChangedDetail { group_id, event, user_id, name });
    put(app, bus, vec![Event { detail_type: CHANGED, detail }]).await;
}

async fn put(app: &App, bus: &Bus, events: Vec<Event>) {
    if events.is_empty() {
        return;
    }
    let putting = Box::pin(bus.put(&events));
    let failed = match select(putting, app.clock.sleep(Duration::from_millis(PUT_MS))).await {
        Either::Left((failed, _)) => failed,
        Either::Right(_) => {
            tracing::warn!("the bus did not answer in time");
            events.len()
        }
    };
    app.metrics.add(Metric::EventsPut, events.len().saturating_sub(failed));
    app.metrics.add(Metric::EventsFailed, failed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use shared::frame::Body;
    use shared::json::escaped_bytes;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn message(to: Address) -> Message {
        let body = Body::Content(RawValue::from_string("{\"a\": 1.0}".to_owned()).unwrap());
        Message { id: MessageId::first_at(5), sender: user("s"), to, body, timestamp: 7 }
    }

    fn events(to: Address, delivered: &[&str], withheld: &[&str], with_content: bool) -> Vec<Event> {
        let set = |ids: &[&str]| ids.iter().map(|id| user(id)).collect();
        missed(&message(to), &NotTaken { delivered: set(delivered), withheld: set(withheld) }, with_content)
    }

    #[test]
    fn an_event_names_the_receivers_and_has_the_content_only_if_asked_for() {
        let group = Address::Group(GroupId::parse("g").unwrap());
        let event = events(group, &["b", "a"], &[], true).pop().unwrap();
        assert_eq!(event.detail_type, "MessageMissed");
        assert!(event.detail.contains(r#""receivers":["a","b"],"timestamp":7,"content":{"a": 1.0},"padding":"""#));
        let event = events(Address::User(user("b")), &["b"], &[], false).pop().unwrap();
        let detail: Value = serde_json::from_str(&event.detail).unwrap();
        assert_eq!(
            (&detail["content"], &detail["groupId"], &detail["type"]),
            (&Value::Null, &Value::Null, &"unicast".into())
        );
    }

    #[test]
    fn a_withheld_message_makes_events_of_the_same_size_and_another_type() {
        let group = || Address::Group(GroupId::parse("g").unwrap());
        for (to, others) in
            [(Address::User(user("blocker")), &[][..]), (group(), &["a", "somebody"][..]), (group(), &[])]
        {
            let all = [others, &["blocker"]].concat();
            let (shown, hidden) = (events(to.clone(), &all, &[], true), events(to, others, &["blocker"], true));
            let sizes = |events: &[Event]| -> Vec<usize> {
                events.iter().map(|event| escaped_bytes(&event.detail) + event.detail_type.len()).collect()
            };
            assert_eq!(sizes(&shown), sizes(&hidden));
            assert_eq!(hidden[0].detail_type, if others.is_empty() { HIDDEN } else { MISSED });
            assert!(!hidden[0].detail.contains("blocker"));
        }
        assert_eq!(HIDDEN.len(), MISSED.len());
    }

    #[test]
    fn many_receivers_are_told_in_several_events() {
        let ids: Vec<String> = (0..2_500).map(|n| format!("user-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let group = Address::Group(GroupId::parse("g").unwrap());
        assert_eq!(events(group.clone(), &ids, &[], false).len(), 3);
        assert!(events(group, &[], &[], false).is_empty());
    }
}
