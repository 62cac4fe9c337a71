//! Chooses partitions by patterns over ids and names: `stream`, `stream/topic` or `stream/topic/partition`, each part an
//! id, a name, or a glob with `*` and `?`.

use kennel_protocol::ids::PartitionKey;

use super::mapping::Mapping;

/// A pattern that is not one. Fix: write `stream[/topic[/partition]]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a pattern: write stream, stream/topic or stream/topic/partition, with * and ? if wanted")]
pub struct FilterError {
    /// What was written.
    pub pattern: String,
}

/// Which partitions to ship: those that an include pattern matches (all, if there is none) and no exclude pattern.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern(Vec<String>);

impl Filter {
    /// Reads patterns.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, FilterError> {
        let read = |patterns: &[String]| patterns.iter().map(|text| Pattern::new(text)).collect::<Result<_, _>>();
        Ok(Self { include: read(include)?, exclude: read(exclude)? })
    }

    /// Whether a partition is chosen.
    pub fn matches(&self, partition: PartitionKey, mapping: &Mapping) -> bool {
        let stream = mapping.stream_name(partition.stream);
        let topic = mapping.topic_name(partition.stream, partition.topic);
        self.matches_names(partition, &stream, &topic)
    }

    /// The same where somebody knows what the stream and the topic are called.
    pub fn matches_names(&self, partition: PartitionKey, stream: &str, topic: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(partition, stream, topic));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self, FilterError> {
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        if parts.len() > 3 || parts.iter().any(String::is_empty) {
            return Err(FilterError { pattern: text.to_owned() });
        }
        Ok(Self(parts))
    }

    fn matches(&self, partition: PartitionKey, stream: &str, topic: &str) -> bool {
        let words = [
            (partition.stream.to_string(), stream),
            (partition.topic.to_string(), topic),
            (partition.partition.to_string(), ""),
        ];
        self.0.iter().zip(words).all(|(part, (id, name))| glob(part, &id) || (!name.is_empty() && glob(part, name)))
    }
}

/// `*` is any run of characters, `?` is any one. Linear: on a mismatch only the last `*` is tried again.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&character) if character == '?' || character == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("orders", "orders", true),
            ("orders", "order", false),
            ("or*", "orders", true),
            ("*s", "orders", true),
            ("o*d*s", "orders", true),
            ("o?ders", "orders", true),
            ("?", "", false),
            ("*", "", true),
            ("a*b", "aXbX", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn ids_and_names_choose() {
        let mapping =
            Mapping::parse("[[stream]]\nid = 3\nname = \"orders\"\n[[stream.topic]]\nid = 1\nname = \"eu-west\"\n")
                .expect("a mapping");
        let key = "3/1/7".parse().expect("a partition");
        let chosen = |include: &[&str], exclude: &[&str]| {
            let text = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
            Filter::new(&text(include), &text(exclude)).expect("patterns").matches(key, &mapping)
        };
        assert!(chosen(&[], &[]));
        assert!(chosen(&["3"], &[]) && chosen(&["orders/eu-*"], &[]) && chosen(&["*/1/7"], &[]));
        assert!(!chosen(&["4", "orders/us"], &[]) && !chosen(&[], &["orders/*/7"]));
        assert!(Filter::new(&["a//b".to_owned()], &[]).is_err());
        assert!(Filter::new(&["a/b/c/d".to_owned()], &[]).is_err());
    }
}
