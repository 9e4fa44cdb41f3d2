// [cli] Which module of the crate may import which: the table, and the reader of `use` paths.

/// `module → what it may import`, besides itself and crates. An entry with two parts opens only that
/// part. `plugin.rs` passes plain settings to the audio thread, so `realtime` never sees parameters;
/// the editor sees views of the worker's results (a profile's words among them), never its jobs.
const TABLE: [(&str, &[&str]); 19] = [
    ("system", &[]),
    ("damage", &[]),
    ("dense", &[]),
    ("audio", &["system"]),
    ("exchange", &["damage"]),
    ("realtime", &["damage", "exchange"]),
    ("metrics", &["audio", "damage", "realtime"]),
    (
        "models",
        &[
            "dense::aligned",
            "dense::gemm",
            "dense::level",
            "system",
            "worker::progress",
        ],
    ),
    ("cache", &["audio", "damage", "exchange", "system"]),
    ("mastering", KERNELS),
    (
        "separation",
        &[
            "audio",
            "damage",
            "dense",
            "metrics",
            "models",
            "realtime",
            "worker::progress",
        ],
    ),
    ("profile", KERNELS),
    (
        "regeneration",
        &[
            "audio",
            "damage",
            "dense",
            "metrics",
            "models",
            "profile",
            "realtime",
            "separation",
            "worker::progress",
        ],
    ),
    (
        "worker",
        &[
            "audio",
            "cache",
            "damage",
            "exchange",
            "mastering",
            "metrics",
            "models",
            "profile",
            "realtime",
            "regeneration",
            "separation",
            "system",
        ],
    ),
    (
        "params",
        &["damage", "realtime", "worker::options", "worker::session"],
    ),
    (
        "editor",
        &[
            "damage",
            "exchange",
            "metrics::Comparison",
            "metrics::Quality",
            "params",
            "profile",
            "system",
            "worker::options",
            "worker::picture",
            "worker::progress",
            "worker::pyramid",
            "worker::session",
            "worker::shelf",
            "worker::view",
        ],
    ),
    (
        "plugin",
        // The stand-alone program plays a file.
        &[
            "audio::AudioBuffer",
            "damage",
            "editor",
            "exchange",
            "params",
            "realtime",
            "worker",
        ],
    ),
    (
        "bin",
        &[
            "audio",
            "cache",
            "damage",
            "exchange",
            "mastering",
            "metrics",
            "models",
            "params",
            "plugin::standalone",
            "profile",
            "realtime",
            "regeneration",
            "separation",
            "system",
            "worker",
        ],
    ),
    // The crate's root only lists modules.
    ("lib", &["plugin"]),
];

/// What the pure analyses share.
const KERNELS: &[&str] = &[
    "audio",
    "damage",
    "dense::act",
    "dense::weights",
    "metrics",
    "models",
    "realtime",
    "separation::Stems",
    "worker::progress",
];

/// What `source`, the file at `path` (relative to `src`, with `/`), imports against the table.
pub fn problems(path: &str, source: &str) -> Vec<String> {
    let modules = module_path(path);
    let Some(own) = modules.first() else {
        return Vec::new();
    };
    let Some((_, allowed)) = TABLE.iter().find(|(module, _)| module == own) else {
        return vec![format!(
            "src/{path}: module {own} is not in the import table; add it with what it may import"
        )];
    };
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return Vec::new();
    }
    let tokens = tokens(&without_tests(&blanked(source)));
    let mut problems: Vec<String> = imports(&tokens, &modules)
        .into_iter()
        .filter(|import| import.first() != Some(own))
        .filter(|import| !allowed.iter().any(|a| covers(a, import)))
        .map(|import| format!("src/{path}: {own} may not import {}", import.join("::")))
        .collect();
    problems.dedup();
    problems
}

fn covers(allowed: &str, import: &[String]) -> bool {
    let parts: Vec<&str> = allowed.split("::").collect();
    import.len() >= parts.len() && parts.iter().zip(import).all(|(a, i)| a == i)
}

/// `a/b.rs` is module a::b, `a/mod.rs` is a; binaries are all of module "bin".
fn module_path(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = path
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The paths from the crate's root that are named, at most two parts of each.
fn imports(tokens: &[String], modules: &[String]) -> Vec<Vec<String>> {
    let in_binary = modules.first().is_some_and(|m| m == "bin");
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let follows = |at: usize| tokens.get(at).is_some_and(|t| t == "::");
        let continues = i > 0 && tokens[i - 1] == "::";
        let token = tokens[i].as_str();
        if continues || !follows(i + 1) {
            i += 1;
            continue;
        }
        let root = if in_binary { "uncook" } else { "crate" };
        if token == root {
            i = tree(tokens, i + 2, &[], &mut found);
        } else if token == "super" && !in_binary {
            let mut up = 0;
            while tokens.get(i).is_some_and(|t| t == "super") && follows(i + 1) {
                up += 1;
                i += 2;
            }
            if up == modules.len() {
                i = tree(tokens, i, &[], &mut found);
            }
        } else {
            i += 1;
        }
    }
    found
}

/// Reads a use tree at `at` below `prefix`; returns the place after it.
fn tree(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t != "}") {
                    let before = at;
                    at = tree(tokens, at, &path, found);
                    while tokens.get(at).is_some_and(|t| t != "," && t != "}") {
                        at += 1;
                    }
                    if tokens.get(at).is_some_and(|t| t == ",") {
                        at += 1;
                    }
                    debug_assert!(at > before);
                }
                return at + 1;
            }
            "self" | "*" => {
                at += 1;
                break;
            }
            word if is_word(word) => {
                path.push(word.to_owned());
                at += 1;
                if tokens.get(at).is_some_and(|t| t == "::") {
                    at += 1;
                } else {
                    break;
                }
            }
            _ => break,
        }
    }
    path.truncate(2);
    if !path.is_empty() {
        found.push(path);
    }
    at.max(1)
}

fn is_word(token: &str) -> bool {
    token
        .chars()
        .next()
        .is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Words, `::` and single other characters.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(&next) = chars.peek() {
                if !(next.is_alphanumeric() || next == '_') {
                    break;
                }
                word.push(next);
                chars.next();
            }
            tokens.push(word);
        } else if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            tokens.push("::".to_owned());
        } else if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

/// The source with comments, strings and character literals blanked.
fn blanked(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut i = 0;
    while i < chars.len() {
        let end = match (at(i), at(i + 1)) {
            ('/', '/') => (i..chars.len())
                .find(|&j| at(j) == '\n')
                .unwrap_or(chars.len()),
            ('/', '*') => block_comment_end(&chars, i),
            ('"', _) => string_end(&chars, i),
            ('r', '"' | '#') if i == 0 || !(at(i - 1).is_alphanumeric() || at(i - 1) == '_') => {
                raw_string_end(&chars, i).unwrap_or(i)
            }
            ('\'', '\\') => (i + 3..chars.len())
                .find(|&j| at(j) == '\'')
                .map_or(chars.len(), |j| j + 1),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            _ => i,
        };
        if end > i {
            out.push(' ');
            i = end;
        } else {
            out.push(at(i));
            i += 1;
        }
    }
    out
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// The end of `r"…"` or `r#"…"#`; `None` if it is none (like a raw identifier).
fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let close = |i: usize| {
        chars[i] == '"'
            && chars[i + 1..]
                .iter()
                .take(hashes)
                .filter(|&&c| c == '#')
                .count()
                == hashes
    };
    let end = (open + 1..chars.len()).find(|&i| close(i));
    Some(end.map_or(chars.len(), |i| i + 1 + hashes))
}

/// Blanked source without the items under `#[cfg(test)]`.
fn without_tests(blanked: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(blanked.len());
    let mut rest = blanked;
    while let Some(start) = rest.find(MARK) {
        out.push_str(&rest[..start]);
        let item = &rest[start + MARK.len()..];
        let mut depth = 0usize;
        let end = item.char_indices().find_map(|(i, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (depth == 0 && (c == ';' || c == '}')).then_some(i + 1)
        });
        rest = end.map_or("", |end| &item[end..]);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_enforced() {
        for (path, source, wrong) in [
            ("realtime/stft.rs", "use crate::exchange::SamplePos;", 0),
            ("realtime/mod.rs", "use crate::params::Params;", 1),
            (
                "realtime/eq.rs",
                "fn f() { crate::worker::restore::x(); }",
                1,
            ),
            ("realtime/eq.rs", "use super::super::metrics::snr;", 1),
            ("realtime/eq.rs", "use super::stage::Stage;", 0),
            (
                "exchange/patch.rs",
                "use crate::{damage::Stem, exchange::SamplePos};",
                0,
            ),
            (
                "exchange/patch.rs",
                "use crate::{\n damage::Stem,\n audio::{self, AudioBuffer},\n};",
                2,
            ),
            (
                "editor/mod.rs",
                "use crate::worker::{view::View, progress::Step};",
                0,
            ),
            (
                "editor/mod.rs",
                "use crate::worker::{engine::Engine, view::View};",
                1,
            ),
            ("editor/mod.rs", "use crate::worker;", 1),
            (
                "bin/uncook.rs",
                "use uncook::{audio::AudioBuffer, plugin};",
                1,
            ),
            ("kitchen.rs", "", 1),
        ] {
            assert_eq!(problems(path, source).len(), wrong, "{path}: {source}");
        }
    }

    #[test]
    fn words_in_tests_comments_and_strings_don_t_count() {
        let source = r####"
            // crate::worker::a
            /* crate::worker::b /* nested crate::worker::c */ */
            const A: &str = "crate::worker::d \" crate::worker::e";
            const B: &str = r#"crate::worker::f " "#;
            const C: char = '"';
            fn f<'a>(x: &'a str) -> char { '\'' }
            #[cfg(test)]
            mod tests { use crate::worker::g; fn h() { { } } }
            #[cfg(test)]
            use crate::worker::i;
        "####;
        assert_eq!(problems("realtime/eq.rs", source), Vec::<String>::new());
        let after = format!("{source}\nuse crate::worker::j;");
        assert_eq!(problems("realtime/eq.rs", &after).len(), 1);
    }
}
