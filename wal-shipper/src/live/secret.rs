//! The one secret that a shipper of a live server has, kept out of logs and of whatever prints settings.

use core::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A file that holds no password. Fix: `iggy.password_file`.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be read from {}", .path.display())]
pub struct PasswordError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// A password: shown to the server, and to nobody else.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// This one.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// What stands in a file, without the newline that editors put behind it.
    pub fn read(path: &Path) -> Result<Self, PasswordError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(source) => Err(PasswordError { path: path.to_owned(), source }),
        }
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The password itself, for the sign-in.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Password(not set)" } else { "Password(set)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_from_a_file_and_never_printed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("password");
        std::fs::write(&path, "open sesame\n").expect("a file");
        let password = Password::read(&path).expect("a password");
        assert_eq!(password.reveal(), "open sesame");
        assert_eq!(format!("{password:?} {:?}", Password::default()), "Password(set) Password(not set)");
        assert!(Password::read(directory.path()).is_err());
    }
}
