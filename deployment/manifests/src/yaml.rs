//! YAML as JSON values.

use serde_json::Value;

/// Every document of a text; empty ones are left out.
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn parse(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The one document of a file in the workspace.
///
/// # Panics
/// When it cannot be read or is no YAML: with its name.
pub fn read(path: &str) -> Value {
    let mut documents = parse(&crate::read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(documents.len(), 1, "{path}: expected one document");
    documents.remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_parsed_and_strings_stay_strings() {
        let parsed = parse("---\na: \"100\"\nb: 100\nc: on\n---\n---\nd: [x]\n").expect("YAML");
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0]["a"], "100");
        assert_eq!(parsed[0]["b"], 100);
        assert_eq!(parsed[1]["d"][0], "x");
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let error = parse("a: 1\nb: [\n").expect_err("an open list");
        assert!(error.contains("line"), "{error}");
    }
}
