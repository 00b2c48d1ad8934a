//! What an expression asks for.

use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier};
use promql_parser::util::{ExprVisitor, walk_expr};
use regex::Regex;

/// Series selectors, what aggregations keep, and windows.
#[derive(Debug, Default)]
pub struct Asked {
    /// Metrics with their label matchers.
    pub selectors: Vec<(String, Vec<Matcher>)>,
    /// Labels in `by (…)`.
    pub grouped: Vec<String>,
    /// Windows, in seconds.
    pub ranges: Vec<u64>,
}

/// What an expression asks for.
///
/// # Errors
/// When it is no PromQL.
pub fn asked(text: &str) -> Result<Asked, String> {
    let expression = parser::parse(text)?;
    let mut asked = Asked::default();
    walk_expr(&mut asked, &expression).map_err(|()| "cannot be walked".to_owned())?;
    Ok(asked)
}

impl ExprVisitor for Asked {
    type Error = ();

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, ()> {
        match expression {
            Expr::VectorSelector(selector) => self.add(selector.name.clone(), &selector.matchers.matchers),
            Expr::MatrixSelector(matrix) => {
                self.ranges.push(matrix.range.as_secs());
                self.add(matrix.vs.name.clone(), &matrix.vs.matchers.matchers);
            }
            Expr::Aggregate(aggregate) => {
                if let Some(LabelModifier::Include(labels)) = &aggregate.modifier {
                    self.grouped.extend(labels.labels.iter().cloned());
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

impl Asked {
    fn add(&mut self, name: Option<String>, matchers: &[Matcher]) {
        let by_label = matchers.iter().find(|matcher| matcher.name == "__name__").map(|matcher| matcher.value.clone());
        let name = name.or(by_label).unwrap_or_default();
        self.selectors.push((name, matchers.iter().filter(|matcher| matcher.name != "__name__").cloned().collect()));
    }
}

/// Whether a matcher speaks of values that exist: it chooses one of them, or each value that it excludes is one.
pub fn fits(matcher: &Matcher, values: &BTreeSet<String>) -> bool {
    match &matcher.op {
        MatchOp::Equal => values.contains(&matcher.value),
        MatchOp::Re(_) => values.iter().any(|value| matcher.is_match(value)),
        // `pod!=""` asks for the label.
        MatchOp::NotEqual => matcher.value.is_empty() || values.contains(&matcher.value),
        MatchOp::NotRe(_) => alternatives(&matcher.value).into_iter().all(|alternative| {
            let whole = Regex::new(&format!("^(?:{alternative})$"));
            alternative.is_empty() || whole.is_ok_and(|whole| values.iter().any(|value| whole.is_match(value)))
        }),
    }
}

/// What stands between the `|` of a regular expression, but for those within parentheses.
fn alternatives(pattern: &str) -> Vec<&str> {
    let mut depth = 0;
    let separates = |character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == '|' && depth == 0
    };
    pattern.split(separates).collect()
}

#[test]
fn metrics_labels_and_ranges_are_seen() {
    let asked = asked(r#"sum by (pod) (rate(a_total{b="c",d!~"e"}[5m])) / on () group_left () f"#).expect("PromQL");
    let names: Vec<_> = asked.selectors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a_total", "f"]);
    assert_eq!(asked.selectors[0].1.len(), 2);
    assert_eq!((asked.grouped, asked.ranges), (vec!["pod".to_owned()], vec![300]));
}

#[test]
fn what_is_excluded_exists_in_every_alternative() {
    let values = BTreeSet::from(["/livez".to_owned(), "/purchases/{id}".to_owned()]);
    let says = |matcher: &str| {
        let asked = asked(&format!("a{{path{matcher}}}")).expect("PromQL");
        fits(&asked.selectors[0].1[0], &values)
    };
    for right in [r#"="/livez""#, r#"=~"/live.|/b""#, r#"!="/livez""#, r#"!="""#, r#"!~"/livez|/(a|purchases)/.+""#] {
        assert!(says(right), "{right}");
    }
    for wrong in [r#"="/live""#, r#"=~"/live""#, r#"!="/live""#, r#"!~"/livez|/live""#, r#"!~"/livez|/(a|b)/.+""#] {
        assert!(!says(wrong), "{wrong}");
    }
}
