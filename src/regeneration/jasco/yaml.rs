// [worker] The small part of YAML that a training configuration uses: nested keys with plain values.

use std::collections::BTreeMap;

/// Deepest chain of `${…}` references that is followed.
const MAX_REFERENCES: usize = 16;

/// Values by their path, `transformer_lm.dim`. Lists have their index in the path, `fuser.cross.0`.
///
/// Reads block mappings and sequences as OmegaConf writes them. References (`${a.b}`) are followed when
/// a value is asked for, so that those nobody reads may point nowhere.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
}

impl Settings {
    /// Reads what can be read; lines of another form are passed over.
    pub fn parse(text: &str) -> Self {
        let mut values = BTreeMap::new();
        // Open mappings: the indentation of their keys, and their path.
        let mut open: Vec<(usize, String)> = Vec::new();
        // Path and next index of the list that is being read.
        let mut list: Option<(String, usize)> = None;
        for line in text.lines() {
            let content = line.trim_start();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let indent = line.len() - content.len();
            if let Some(item) = content.strip_prefix("- ") {
                // A list may stand at its key's own indentation.
                let path = open.iter().rev().find(|(at, _)| *at <= indent);
                if let Some((_, path)) = path {
                    let index = match &list {
                        Some((of, next)) if of == path => *next,
                        _ => 0,
                    };
                    values.insert(format!("{path}.{index}"), plain(item));
                    list = Some((path.clone(), index + 1));
                }
                continue;
            }
            let Some((key, value)) = split_key(content) else {
                continue;
            };
            while open.last().is_some_and(|(at, _)| *at >= indent) {
                open.pop();
            }
            let path = match open.last() {
                Some((_, parent)) => format!("{parent}.{key}"),
                None => key.to_owned(),
            };
            let value = plain(value);
            if !value.is_empty() {
                values.insert(path.clone(), value);
            }
            open.push((indent, path));
        }
        Self { values }
    }

    /// The value at `path`, references followed. None if there is none, it is `null` or `???`, or a
    /// reference leads nowhere.
    pub fn get(&self, path: &str) -> Option<&str> {
        let mut path = path.to_owned();
        for _ in 0..MAX_REFERENCES {
            let value = self.values.get(&path)?;
            match value.strip_prefix("${").and_then(|v| v.strip_suffix('}')) {
                Some(to) => path = to.to_owned(),
                None if matches!(value.as_str(), "null" | "~" | "???") => return None,
                None => return Some(value),
            }
        }
        None
    }

    /// Number of items of the list at `path`.
    pub fn items(&self, path: &str) -> usize {
        (0..)
            .take_while(|i| self.values.contains_key(&format!("{path}.{i}")))
            .count()
    }
}

/// `key: value` or `key:`.
fn split_key(content: &str) -> Option<(&str, &str)> {
    let (key, value) = match content.split_once(": ") {
        Some(pair) => pair,
        None => (content.trim_end().strip_suffix(':')?, ""),
    };
    let key = key.trim().trim_matches(['"', '\'']);
    (!key.is_empty()).then_some((key, value))
}

/// A scalar without quotes or a comment behind it; empty for a list or mapping without content.
fn plain(value: &str) -> String {
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|q| {
        value
            .strip_prefix(q)?
            .split_once(q)
            .map(|(inside, _)| inside)
    });
    match quoted {
        Some(inside) => inside.to_owned(),
        None if matches!(value, "[]" | "{}") => String::new(),
        None => value
            .split_once(" #")
            .map_or(value, |(before, _)| before.trim_end())
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn nested_keys_lists_and_references() {
        let text = "a:\n  b: 1\n  c: ${d.e}\n  list:\n  - x\n  - 'y z'\n  none: null\nd:\n  e: \
                    2.5 # half\n  loop: ${d.loop}\n  env: ${oc.env:USER}\nempty: []\nf: last\n";
        let s = Settings::parse(text);
        assert_eq!(s.get("a.b"), Some("1"));
        assert_eq!(s.get("a.c"), Some("2.5"));
        assert_eq!(
            (s.get("a.list.0"), s.get("a.list.1")),
            (Some("x"), Some("y z"))
        );
        assert_eq!((s.items("a.list"), s.items("empty")), (2, 0));
        assert_eq!(
            (s.get("a.none"), s.get("d.loop"), s.get("d.env")),
            (None, None, None)
        );
        assert_eq!(s.get("f"), Some("last"));
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in [
            "",
            ":\n- x",
            "\u{0}\n   \n:::",
            "- - -\n a\nb:c",
            "a: {b: 1}\n  ???",
        ] {
            let s = Settings::parse(text);
            assert_eq!(s.get("x"), None);
        }
    }
}
