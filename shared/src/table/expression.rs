//! The builder of update expressions. Each name and value gets a placeholder, so attribute names may be reserved words.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Update};

use crate::error::{Error, Result};

/// An update of one item that is being built. DynamoDB refuses unused names and values, so ask only for paths and
/// placeholders that the expression uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Expression {
    sets: Vec<String>,
    removes: Vec<String>,
    adds: Vec<String>,
    deletes: Vec<String>,
    conditions: Vec<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Expression {
    /// Returns the path of an attribute: its name, or several names that lead into maps.
    pub(super) fn path<const N: usize>(&mut self, names: [&str; N]) -> String {
        names.map(|name| self.name(name)).join(".")
    }

    fn name(&mut self, name: &str) -> String {
        let known = self.names.iter().find(|(_, known)| *known == name).map(|(placeholder, _)| placeholder.clone());
        known.unwrap_or_else(|| {
            let placeholder = format!("#{}", self.names.len());
            self.names.insert(placeholder.clone(), name.to_owned());
            placeholder
        })
    }

    /// Returns a placeholder for a value.
    pub(super) fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    /// Sets an attribute.
    pub(super) fn set(&mut self, path: &str, value: AttributeValue) {
        let value = self.value(value);
        self.set_to(path, &value);
    }

    /// Sets an attribute to the value of a placeholder.
    pub(super) fn set_to(&mut self, path: &str, placeholder: &str) {
        self.sets.push(format!("{path} = {placeholder}"));
    }

    /// Sets an attribute if it is absent.
    pub(super) fn set_if_absent(&mut self, path: &str, value: AttributeValue) {
        let value = self.value(value);
        self.sets.push(format!("{path} = if_not_exists({path}, {value})"));
    }

    /// Removes an attribute.
    pub(super) fn remove(&mut self, path: &str) {
        self.removes.push(path.to_owned());
    }

    /// Adds to a number, or to a set.
    pub(super) fn add(&mut self, path: &str, value: AttributeValue) {
        let value = self.value(value);
        self.adds.push(format!("{path} {value}"));
    }

    /// Deletes members of a set.
    pub(super) fn delete(&mut self, path: &str, value: AttributeValue) {
        let value = self.value(value);
        self.deletes.push(format!("{path} {value}"));
    }

    /// Adds a condition. The update needs all of them to be true.
    pub(super) fn require(&mut self, condition: impl Into<String>) {
        self.conditions.push(format!("({})", condition.into()));
    }

    /// Puts the update into a request.
    pub(super) fn request(self, request: UpdateItemFluentBuilder) -> UpdateItemFluentBuilder {
        request
            .update_expression(self.text())
            .set_condition_expression(self.condition())
            .set_expression_attribute_names(some(self.names))
            .set_expression_attribute_values(some(self.values))
    }

    /// Returns the update as a part of a transaction.
    pub(super) fn part(self, update: UpdateBuilder) -> Result<Update> {
        let update = update
            .update_expression(self.text())
            .set_condition_expression(self.condition())
            .set_expression_attribute_names(some(self.names))
            .set_expression_attribute_values(some(self.values));
        update.build().map_err(|error| Error::unavailable("TransactWriteItems", error))
    }

    fn text(&self) -> String {
        let clauses = [("SET", &self.sets), ("REMOVE", &self.removes), ("ADD", &self.adds), ("DELETE", &self.deletes)];
        let clauses = clauses.into_iter().filter(|(_, parts)| !parts.is_empty());
        clauses.map(|(clause, parts)| format!("{clause} {}", parts.join(", "))).collect::<Vec<_>>().join(" ")
    }

    fn condition(&self) -> Option<String> {
        (!self.conditions.is_empty()).then(|| self.conditions.join(" AND "))
    }
}

/// Returns the map, or nothing if it is empty: DynamoDB refuses empty maps.
fn some<T>(map: HashMap<String, T>) -> Option<HashMap<String, T>> {
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
mod tests {
    use super::super::item;
    use super::*;

    #[test]
    fn an_expression_has_a_placeholder_for_each_name_and_value() {
        let mut change = Expression::default();
        let [from, to] = [["c#x", "from"], ["c#x", "to"]].map(|names| change.path(names));
        change.set(&to, item::number(1));
        change.set_if_absent(&from, item::number(2));
        change.remove(&from);
        let known = change.path(["known"]);
        change.add(&known, AttributeValue::Ss(vec!["x".to_owned()]));
        change.require(format!("attribute_exists({to})"));
        change.require("a OR b");
        assert_eq!(change.text(), "SET #0.#2 = :0, #0.#1 = if_not_exists(#0.#1, :1) REMOVE #0.#1 ADD #3 :2");
        assert_eq!(change.condition().unwrap(), "(attribute_exists(#0.#2)) AND (a OR b)");
        assert_eq!((change.names["#0"].as_str(), change.names.len(), change.values.len()), ("c#x", 4, 3));
    }
}
