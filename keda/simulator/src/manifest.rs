//! Fields of a YAML file, each with its path, so that an error says where and what.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A field that is not what it must be, or a file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {field}: expected {expected}, found {found}", file.display())]
pub struct ManifestError {
    /// The file.
    pub file: PathBuf,
    /// The field's path, such as `spec.triggers[0].type`.
    pub field: String,
    /// What it must be.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// A YAML file with one object.
#[derive(Debug)]
pub struct Manifest {
    file: PathBuf,
    value: Value,
}

/// One field of it, present or not.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    file: &'a Path,
    path: String,
    value: &'a Value,
}

impl Manifest {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is no YAML.
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        let text = fs::read_to_string(file).map_err(|error| refuse(file, "", "a file", error))?;
        Self::parse(file, &text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it is no YAML.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ManifestError> {
        let value = serde_saphyr::from_str(text).map_err(|error| refuse(file, "", "one YAML object", error))?;
        Ok(Self { file: file.to_owned(), value })
    }

    /// Its root, which has no path.
    pub fn root(&self) -> Field<'_> {
        Field { file: &self.file, path: String::new(), value: &self.value }
    }
}

impl<'a> Field<'a> {
    /// The field below, by its dotted path; absent when anything on the way is.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        path.split('.').fold(self.clone(), |field, name| {
            let path = if field.path.is_empty() { name.to_owned() } else { format!("{}.{name}", field.path) };
            Field { path, value: field.value.get(name).unwrap_or(&Value::Null), ..field }
        })
    }

    /// Whether it is not there, or null.
    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// The elements of a list; none when it is absent.
    ///
    /// # Errors
    /// When it is no list.
    pub fn items(&self) -> Result<Vec<Self>, ManifestError> {
        let items = match self.value {
            Value::Null => &[],
            Value::Array(items) => items.as_slice(),
            _ => return Err(self.wrong("a list")),
        };
        let item = |(index, value)| Field { file: self.file, path: format!("{}[{index}]", self.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The names of the fields below; none when it is absent.
    ///
    /// # Errors
    /// When it is no mapping.
    pub fn names(&self) -> Result<Vec<&'a str>, ManifestError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Object(fields) => Ok(fields.keys().map(String::as_str).collect()),
            _ => Err(self.wrong("a mapping")),
        }
    }

    /// Refuses fields below that nobody here would obey.
    ///
    /// # Errors
    /// When there is another field than these, or it is no mapping.
    pub fn only(&self, known: &[&str]) -> Result<(), ManifestError> {
        match self.names()?.into_iter().find(|name| !known.contains(name)) {
            Some(other) => Err(self.at(other).wrong(format!("only {} here", known.join(", ")))),
            None => Ok(()),
        }
    }

    /// A text. Numbers and booleans without quotes are none: Kubernetes refuses them where a text is due.
    ///
    /// # Errors
    /// When it is absent or no text.
    pub fn text(&self) -> Result<&'a str, ManifestError> {
        self.value.as_str().ok_or_else(|| self.wrong("a text (a number or flag in quotes)"))
    }

    /// A text that must be one of a few words, and what each stands for.
    ///
    /// # Errors
    /// When it is absent or another one.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ManifestError> {
        let found = self.value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        let expected = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
        found.map(|(_, meaning)| *meaning).ok_or_else(|| self.wrong(expected()))
    }

    /// A text of digits.
    ///
    /// # Errors
    /// When it is absent or anything else.
    pub fn digits<T: std::str::FromStr>(&self) -> Result<T, ManifestError> {
        let parsed = self.value.as_str().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| self.wrong("a whole number in quotes"))
    }

    /// A whole number, not negative.
    ///
    /// # Errors
    /// When it is absent or anything else.
    pub fn whole<T: TryFrom<u64>>(&self) -> Result<T, ManifestError> {
        let number = self.value.as_u64().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.wrong("a whole number"))
    }

    /// The same, or this when it is absent.
    ///
    /// # Errors
    /// When it is there and anything else.
    pub fn whole_or<T: TryFrom<u64>>(&self, default: T) -> Result<T, ManifestError> {
        if self.is_absent() { Ok(default) } else { self.whole() }
    }

    /// A boolean, false when it is absent.
    ///
    /// # Errors
    /// When it is there and anything else.
    pub fn flag(&self) -> Result<bool, ManifestError> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// The error that says what this field should be.
    pub fn wrong(&self, expected: impl Into<String>) -> ManifestError {
        let found = if self.is_absent() { "nothing".to_owned() } else { self.value.to_string() };
        refuse(self.file, &self.path, expected, found)
    }
}

fn refuse(file: &Path, field: &str, expected: impl Into<String>, found: impl fmt::Display) -> ManifestError {
    let field = if field.is_empty() { "the file".to_owned() } else { field.to_owned() };
    ManifestError { file: file.to_owned(), field, expected: expected.into(), found: found.to_string() }
}
