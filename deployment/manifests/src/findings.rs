//! What is wrong, gathered: one run names every mistake, with file, object, field and what is expected.

use std::fmt::{Display, Write as _};

use crate::object::Object;

/// Mistakes found so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<String>);

impl Findings {
    /// Notes that a field is not as expected, unless it is.
    pub fn check(&mut self, right: bool, object: &Object, field: &str, expected: impl Display) {
        if !right {
            let found = object.at(field);
            self.0.push(format!("{object}: {field} is {found}, expected {expected}"));
        }
    }

    /// Notes a mistake that is not of one field.
    pub fn add(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    /// What was found.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// Ends the test if anything was found.
    ///
    /// # Panics
    /// With every mistake, one a line.
    pub fn assert_none(self) {
        let mut text = String::new();
        for mistake in &self.0 {
            let _ = writeln!(text, "  {mistake}");
        }
        assert!(self.0.is_empty(), "{} mistakes:\n{text}", self.0.len());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finding_names_file_object_field_and_expectation() {
        let value = json!({"kind": "Service", "metadata": {"name": "web"}, "spec": {"port": 1}});
        let object = Object { file: "a/service.yaml".to_owned(), value };
        let mut findings = Findings::default();
        findings.check(false, &object, "/spec/port", 80);
        findings.check(true, &object, "/spec/port", 1);
        assert_eq!(findings.all(), ["a/service.yaml: Service web: /spec/port is 1, expected 80"]);
    }
}
