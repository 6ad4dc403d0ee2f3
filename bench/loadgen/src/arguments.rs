//! Command lines of `--name value` pairs.

use std::fmt::Display;
use std::str::FromStr;

/// The pairs that a program was started with.
pub struct Arguments {
    pairs: Vec<(String, String)>,
    usage: &'static str,
}

impl Arguments {
    /// Reads the process's arguments; `known` names the options that exist, without their dashes.
    ///
    /// # Errors
    /// An unknown name, or a name without a value.
    pub fn read(known: &[&str], usage: &'static str) -> Result<Self, String> {
        let mut pairs = vec![];
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            let name = name.strip_prefix("--").filter(|name| known.contains(name));
            let name = name.ok_or_else(|| usage.to_owned())?.to_owned();
            let value = given.next().ok_or_else(|| format!("--{name} needs a value"))?;
            pairs.push((name, value));
        }
        Ok(Arguments { pairs, usage })
    }

    /// The value of an option, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of an option.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, String>
    where
        T::Err: Display,
    {
        self.text(name).map(|v| v.parse().map_err(|e| format!("--{name} {v}: {e}"))).transpose()
    }

    /// The value of an option, or what holds without it.
    ///
    /// # Errors
    /// It is not a `T`.
    pub fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T, String>
    where
        T::Err: Display,
    {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// The value of an option that must be there.
    ///
    /// # Errors
    /// It is missing, or not a `T`.
    pub fn required<T: FromStr>(&self, name: &str) -> Result<T, String>
    where
        T::Err: Display,
    {
        self.get(name)?.ok_or_else(|| self.usage.to_owned())
    }
}

/// Runs a program's body; prints what went wrong and ends with status 2.
pub fn exit_on_error(name: &str, outcome: Result<(), String>) {
    if let Err(message) = outcome {
        eprintln!("{name}: {message}");
        std::process::exit(2);
    }
}
