//! Sizes, words and references: what makes a file easy to pick up.

use crate::repository::{File, code, files, none, root, rust, words};

const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Words that say nothing, or that belong to somebody else. Parts of longer words are found too, between underscores.
const BANNED: [&str; 10] =
    ["util", "utils", "manager", "misc", "helper", "helpers", "leader", "master", "slave", "stuff"];

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for file in rust() {
        let (lines, most) = if file.is_test() {
            (file.text.lines().count(), TEST_FILE_LINES_MAX)
        } else {
            (file.product().lines().count(), FILE_LINES_MAX)
        };
        if lines > most {
            findings.push(format!("{}: {lines} lines, at most {most}", file.path));
        }
        if file.text.lines().count() > TEST_FILE_LINES_MAX {
            findings.push(format!("{}: over {TEST_FILE_LINES_MAX} lines with its tests", file.path));
        }
    }
    none("one idea per file: split it", &findings);
}

#[test]
fn functions_are_short() {
    let mut findings = Vec::new();
    for file in rust() {
        let code = code(&file.text);
        for (name, line, length) in functions(&code) {
            if length > FUNCTION_LINES_MAX {
                findings.push(format!("{}:{line}: {name} has {length} lines", file.path));
            }
        }
    }
    none("a function has at most 70 lines; 25 is the habit", &findings);
}

/// Name, first line and length of every function: rustfmt ends each with a brace in the column of its first line.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let mut parts = line.split_whitespace();
        if !parts.any(|word| word == "fn") || line.trim_end().ends_with([';', '}', ',']) {
            continue;
        }
        let Some(name) = parts.next() else { continue };
        // A declaration over several lines ends with a semicolon where a function's body begins.
        let in_column = |line: &&&str| line.len() - line.trim_start().len() == indent;
        let mut heads = lines[start..].iter().filter(in_column).map(|line| line.trim_end());
        if heads.find(|line| line.ends_with(['{', ';'])).is_some_and(|line| line.ends_with(';')) {
            continue;
        }
        let is_end = |line: &&&str| line.trim_end().len() == indent + 1 && line[indent..].starts_with('}');
        let Some(length) = lines[start..].iter().position(|line| is_end(&line)) else { continue };
        let name = name.split(['(', '<']).next().unwrap_or_default();
        found.push((name.to_owned(), start + 1, length + 1));
    }
    found
}

#[test]
fn every_file_says_what_it_is_for() {
    // Attributes of the whole crate may stand above, as in a fuzz target.
    let first =
        |file: &File| file.text.lines().find(|line| !line.starts_with("#![") && !line.is_empty()).map(str::to_owned);
    let silent = |file: &File| !first(file).is_some_and(|line| line.starts_with("//! "));
    let findings: Vec<String> = rust().iter().filter(|file| silent(file)).map(|file| file.path.clone()).collect();
    none("the first line of a file is `//! ` and what it is for", &findings);
}

/// Paths of other crates with words in them that none of ours may have.
const THEIRS: [&str; 4] = ["::util::", "hyper_util", "http_body_util", "rustix::fs::SeekFrom::"];

#[test]
fn names_mean_something() {
    let banned = |word: &str| word.split('_').any(|part| BANNED.contains(&part.to_lowercase().as_str()));
    let banned_type = |word: &str| {
        let kinds = ["Manager", "Util", "Utils", "Helper", "Leader", "Master", "Slave", "Info", "Data"];
        word.starts_with(char::is_uppercase) && kinds.iter().any(|kind| word.ends_with(kind) || word.starts_with(kind))
    };
    let mut findings = Vec::new();
    for file in rust() {
        if file.path.split(['/', '.']).any(banned) {
            findings.push(format!("{}: the file's name", file.path));
        }
        // Paths of other crates are theirs to name.
        let code = code(&file.text);
        let own: String = code
            .lines()
            .filter(|line| !THEIRS.iter().any(|theirs| line.contains(theirs)))
            .fold(String::new(), |own, line| own + line + "\n");
        for (number, word) in words(&own).filter(|(_, word)| banned(word) || banned_type(word)) {
            findings.push(format!("{}:{number}: {word}", file.path));
        }
    }
    none("these words say nothing or belong to somebody else", &findings);
}

#[test]
fn nothing_points_outside_the_repository() {
    let outside = [concat!("../", "shared"), concat!("/work", "/"), concat!("/root", "/"), concat!("/home", "/")];
    let mut findings = Vec::new();
    for file in
        files(&[".rs", ".toml", ".md", ".sh", ".yml", ".yaml", ".html", ".service", "/test", "quickstart", "run"])
    {
        for (number, line) in (1..).zip(file.text.lines()) {
            for path in outside.iter().filter(|path| line.contains(**path)) {
                findings.push(format!("{}:{number}: {path}", file.path));
            }
        }
    }
    none("the repository stands alone", &findings);
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let mut findings = Vec::new();
    for file in files(&[".md"]) {
        let folder = root().join(&file.path).parent().expect("a file has a folder").to_owned();
        for link in links(&file.text) {
            let target = link.split('#').next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !folder.join(target).exists() {
                findings.push(format!("{}: {link}", file.path));
            }
        }
    }
    none("a link leads to a file that is there", &findings);
}

/// Targets of Markdown links, outside of code fences.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let mut links = Vec::new();
    let mut rest = prose.as_str();
    while let Some(start) = rest.find("](") {
        rest = &rest[start + 2..];
        let Some(end) = rest.find(')') else { break };
        links.push(rest[..end].split_whitespace().next().unwrap_or_default().to_owned());
    }
    links
}

#[test]
fn the_tests_here_can_fail() {
    let long = format!("fn long() {{\n{}}}\nfn short() {{\n}}\n", "    work();\n".repeat(80));
    assert_eq!(functions(&long), [("long".to_owned(), 1, 82), ("short".to_owned(), 83, 2)]);
    assert_eq!(code("let a = \"HashMap\"; // HashMap").trim(), "let a =          ;");
    assert_eq!(links("see [this](a.md) and\n```\n[not](b.md)\n```\n[that](c.md#x)"), ["a.md", "c.md#x"]);
}
