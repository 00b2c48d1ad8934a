//! The JSON object of a purchase: its known fields, and no name twice.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::PurchaseFields;

impl<'de> Deserialize<'de> for PurchaseFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A field's name, borrowed from the input unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = PurchaseFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = PurchaseFields::default();
        let mut unknown = UnknownNames::default();
        while let Some(Name(name)) = map.next_key()? {
            let field = match &*name {
                "username" => &mut fields.username,
                "userid" => &mut fields.userid,
                "price" => &mut fields.price,
                "idempotency_key" => &mut fields.idempotency_key,
                "purchase_id" => &mut fields.purchase_id,
                "timestamp" => &mut fields.timestamp,
                "callback_url" => &mut fields.callback_url,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    if unknown.stands_twice(&name) {
                        return Err(duplicate(&name));
                    }
                    continue;
                }
            };
            if field.replace(map.next_value()?).is_some() {
                return Err(duplicate(&name));
            }
        }
        if unknown.any_stands_twice() {
            return Err(de::Error::custom("a name stands twice in the object"));
        }
        Ok(fields)
    }
}

/// The names that are no fields, to find those that stand twice. Kept are eight bytes of each, less than it takes in the input:
/// a sender may put a million of them into one object. Two names are taken for one once in ten million such objects.
#[derive(Default)]
struct UnknownNames {
    state: RandomState,
    hashes: Vec<u64>,
}

impl UnknownNames {
    /// So few are compared as they come, so that the sender is told which name it is.
    const FEW: usize = 32;

    fn stands_twice(&mut self, name: &str) -> bool {
        let hash = self.state.hash_one(name);
        let found = self.hashes.len() < Self::FEW && self.hashes.contains(&hash);
        self.hashes.push(hash);
        found
    }

    fn any_stands_twice(mut self) -> bool {
        self.hashes.sort_unstable();
        self.hashes.windows(2).any(|pair| pair[0] == pair[1])
    }
}

fn duplicate<E: de::Error>(name: &str) -> E {
    // The name is the sender's own text: cut it, so that no answer or log line grows with it.
    let shown: String = name.chars().take(64).collect();
    E::custom(format_args!("the name {shown:?} stands twice in the object"))
}

#[cfg(test)]
mod tests {
    use super::super::Malformed;
    use super::*;

    #[test]
    fn duplicate_names_are_refused_even_when_unknown_or_escaped() {
        for json in [
            r#"{"userid":"a","userid":"a"}"#,
            r#"{"userid":"a","useri\u0064":"a"}"#,
            r#"{"x":1,"y":2,"x":3}"#,
            r#"{"price":null,"price":1}"#,
        ] {
            assert!(matches!(PurchaseFields::parse(json.as_bytes()), Err(Malformed::NotAnObject(_))), "{json}");
        }
    }

    #[test]
    fn among_very_many_names_one_that_stands_twice_is_found() {
        let names = |count: usize| (0..count).map(|number| format!(r#""{number:x}":1"#)).collect::<Vec<_>>().join(",");
        assert!(PurchaseFields::parse(format!("{{{}}}", names(100_000)).as_bytes()).is_ok());
        let twice = format!(r#"{{{},"7f00":2}}"#, names(100_000));
        assert!(matches!(PurchaseFields::parse(twice.as_bytes()), Err(Malformed::NotAnObject(_))));
    }
}
