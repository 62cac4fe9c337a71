//! The repository as the tests see it: files with their text, and findings that are shown all at once.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are not ours to judge.
const SKIPPED: [&str; 4] = ["target", ".git", "corpus", "artifacts"];

/// One file of the repository.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    /// Its text; files that are not UTF-8 are not there.
    pub(crate) text: String,
}

impl File {
    /// Whether it is a test and not product.
    pub(crate) fn is_test(&self) -> bool {
        let stem = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/") || self.path.contains("/benches/") || stem == "tests.rs"
    }

    /// The lines of product code: without the test module at the end, if there is one.
    pub(crate) fn product(&self) -> &str {
        let end = self.text.find("\n#[cfg(test)]\nmod ").map_or(self.text.len(), |end| end + 1);
        // A test module that lies in a file of its own ends nothing here.
        if self.text[end..].lines().nth(1).is_some_and(|line| line.ends_with(';')) {
            &self.text
        } else {
            &self.text[..end]
        }
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository").to_owned()
}

/// All text files with one of these endings, in path order.
pub(crate) fn files(endings: &[&str]) -> Vec<File> {
    let root = root();
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    found.retain(|file| endings.iter().any(|ending| file.path.ends_with(ending)));
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

/// All Rust files.
pub(crate) fn rust() -> Vec<File> {
    files(&[".rs"])
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("the repository can be read") {
        let path = entry.expect("the repository can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(root, &path, found);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            found.push(File { path: relative, text });
        }
    }
}

/// The text without comments and string literals, each byte of them a space, so that words in them are not found.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => at + text[at..].find('\n').unwrap_or(text.len() - at),
            [b'r', b'#', b'"', ..] => text[at + 3..].find("\"#").map_or(text.len(), |end| at + 5 + end),
            [b'"', ..] => string_end(bytes, at),
            [b'\'', b'\\', ..] => text[at + 3..].find('\'').map_or(text.len(), |end| at + 4 + end),
            [b'\'', _, b'\'', ..] => at + 3,
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Identifiers of the code, with their line numbers.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(code.lines()).flat_map(|(number, line)| {
        line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .filter(|word| !word.is_empty())
            .map(move |word| (number, word))
    })
}

/// Fails with all findings, so that one run shows everything there is to do.
pub(crate) fn none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}\n", findings.join("\n  "));
}
