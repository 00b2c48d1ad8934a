//! What an expression asks for.

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, LabelModifier};
use promql_parser::util::{ExprVisitor, walk_expr};

/// One series selector, and the labels that aggregations around it keep.
#[derive(Debug, Default)]
pub struct Asked {
    /// Metrics with their label matchers.
    pub selectors: Vec<(String, Vec<Matcher>)>,
    /// Labels in `by (…)`.
    pub grouped: Vec<String>,
    /// Functions of counters over something that is no range of a counter would be a mistake of the author; ranges in seconds.
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

/// Whether a matcher can match one of these values; it always can when it excludes.
pub fn can_match<'a>(matcher: &Matcher, mut values: impl Iterator<Item = &'a String>) -> bool {
    match matcher.op {
        MatchOp::Equal => values.any(|value| *value == matcher.value),
        MatchOp::Re(_) => values.any(|value| matcher.is_match(value)),
        MatchOp::NotEqual | MatchOp::NotRe(_) => true,
    }
}

#[test]
fn metrics_labels_and_ranges_are_seen() {
    let asked = asked(r#"sum by (pod) (rate(a_total{b="c",d!~"e"}[5m])) / on () group_left () f"#).expect("PromQL");
    let names: Vec<_> = asked.selectors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a_total", "f"]);
    assert_eq!(asked.selectors[0].1.len(), 2);
    assert_eq!((asked.grouped, asked.ranges), (vec!["pod".to_owned()], vec![300]));
}
