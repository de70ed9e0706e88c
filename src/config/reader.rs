//! Texts of a [`Source`] become values; what is wrong is collected, so that a person mends it all at once.

use super::setting::Setting;
use super::source::Source;
use secrecy::SecretString;
use std::fmt;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable and the file's key.
    pub key: String,
    /// What was given and where, unless it is a secret or nothing was given.
    pub found: Option<String>,
    pub expected: String,
    pub fix: String,
}

/// Everything that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// Reads settings one by one and remembers what was wrong.
pub struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// `settings` are all those of the role: other keys in the file are problems.
    pub fn new(source: &'a Source, settings: &[Setting]) -> Self {
        let problems = source
            .unknown_keys(settings)
            .into_iter()
            .map(|key| Problem {
                key,
                found: None,
                expected: "a key that this role has".to_owned(),
                fix: "correct or remove it in the configuration file; --help lists the keys".to_owned(),
            })
            .collect();
        Self { source, problems }
    }

    /// A setting that has a default or is required.
    pub fn parse<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match self.optional(setting, parse)? {
            Some(value) => Some(value),
            None => {
                self.problem(setting, setting.help.to_owned());
                None
            }
        }
    }

    /// Any text that is not empty.
    pub fn text(&mut self, setting: &Setting) -> Option<String> {
        self.parse(setting, |text| Ok(text.to_owned()))
    }

    pub fn secret(&mut self, setting: &Setting) -> Option<SecretString> {
        debug_assert!(setting.secret);
        self.parse(setting, |text| Ok(SecretString::from(text.to_owned())))
    }

    /// The outer `None` is a problem, the inner one an absent setting.
    pub fn optional<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> Option<Option<T>> {
        let Some(found) = self.source.find(setting) else {
            return Some(None);
        };
        match parse(&found.text) {
            Ok(value) => Some(Some(value)),
            Err(expected) => {
                self.problem(setting, expected);
                None
            }
        }
    }

    /// Items separated by commas. A lone comma, or `[]`, is the empty list.
    pub fn list<T>(&mut self, setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let items = self.optional(setting, |text| {
            let text = if text.trim() == "[]" { "" } else { text };
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(&parse)
                .collect::<Result<Vec<_>, _>>()
        })?;
        Some(items.unwrap_or_default())
    }

    /// Notes that `setting` is not what it must be.
    pub fn problem(&mut self, setting: &Setting, expected: String) {
        let found = self.source.find(setting);
        let fix = match &found {
            Some(found) => format!("correct {} in the {}", setting.env, found.origin),
            None => format!(
                "set {} in the environment, or {} in the configuration file",
                setting.env, setting.path
            ),
        };
        let found = found.map(|found| {
            if setting.secret {
                format!("a secret from the {}", found.origin)
            } else {
                format!("{:?}", found.text)
            }
        });
        self.problems.push(Problem {
            key: format!("{} ({})", setting.env, setting.path),
            found,
            expected,
            fix,
        });
    }

    /// Leaves out what was found so far: for a part of the settings that is read apart from the rest.
    pub fn forget_problems(&mut self) {
        self.problems.clear();
    }

    /// The whole configuration, when nothing was wrong.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub fn finish<T>(self, config: Option<T>) -> Result<T, Problems> {
        match config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(Problems(self.problems)),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(
            f,
            "the configuration has {count} problem{}",
            if count == 1 { "" } else { "s" }
        )?;
        for Problem {
            key,
            found,
            expected,
            fix,
        } in &self.0
        {
            match found {
                Some(found) => write!(f, "\n  {key} is {found}\n    expected: {expected}")?,
                None => write!(f, "\n  {key} is not set\n    expected: {expected}")?,
            }
            write!(f, "\n    fix: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
