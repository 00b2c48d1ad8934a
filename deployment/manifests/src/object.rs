//! One Kubernetes object, and how to look into it.

use std::fmt;

use serde_json::Value;

/// An object as it would be applied.
#[derive(Debug, Clone)]
pub struct Object {
    /// The file it was written in, from the root of the workspace.
    pub file: String,
    /// All of it.
    pub value: Value,
}

impl Object {
    /// Such as `Deployment`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Its namespace; empty for objects of the whole cluster.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// What stands at a JSON pointer (RFC 6901), or null.
    pub fn at(&self, pointer: &str) -> &Value {
        self.value.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The text at a pointer; empty when there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// The number at a pointer.
    pub fn number(&self, pointer: &str) -> Option<i64> {
        self.at(pointer).as_i64()
    }

    /// The list at a pointer; empty when there is none.
    pub fn list(&self, pointer: &str) -> &[Value] {
        list(self.at(pointer))
    }

    /// The texts of the map at a pointer.
    pub fn texts(&self, pointer: &str) -> Vec<(&str, &str)> {
        texts(self.at(pointer))
    }

    /// Its pod template, for Deployments and StatefulSets.
    pub fn pod(&self) -> Option<&Value> {
        self.value.pointer("/spec/template/spec")
    }

    /// The labels of its pods.
    pub fn pod_labels(&self) -> Vec<(&str, &str)> {
        self.texts("/spec/template/metadata/labels")
    }
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} {}", self.file, self.kind(), self.name())
    }
}

/// A value's items; none when it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A map's texts; none when it is no map.
pub fn texts(value: &Value) -> Vec<(&str, &str)> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
}

/// Whether labels have all that a selector of `matchLabels` asks for. A missing one selects nothing, an empty one all.
pub fn selects(selector: &Value, labels: &[(&str, &str)]) -> bool {
    selector.is_object() && texts(selector).iter().all(|pair| labels.contains(pair))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_ask_for_all_their_labels() {
        let labels = [("app", "a"), ("tier", "web")];
        assert!(selects(&json!({"app": "a"}), &labels) && selects(&json!({}), &labels));
        assert!(!selects(&json!({"app": "a", "tier": "api"}), &labels) && !selects(&Value::Null, &labels));
    }
}
