// [cli] `cargo xtask licences`: the licences of everything that a release holds, in full.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::workspace;

/// The package whose dependencies are listed.
const PACKAGE: &str = "uncook";

/// Folders of a package, besides its root, in which licences lie.
const FOLDERS: [&str; 4] = ["fonts", "LICENSES", "licenses", "LICENSE"];

/// What a package that brings no licence text is given instead: the first of these that it offers.
const TEXTS: [(&str, &str); 5] = [
    ("Apache-2.0", include_str!("../../LICENSE-APACHE")),
    ("MIT", include_str!("../licences/MIT.txt")),
    ("ISC", include_str!("../licences/ISC.txt")),
    ("BSL-1.0", include_str!("../licences/BSL-1.0.txt")),
    ("Unlicense", include_str!("../licences/Unlicense.txt")),
];

/// What is built in and no package: its name, its licence, where it is from, the licence's text.
const BUILT_IN: [(&str, &str, &str, &str); 1] = [(
    "Inter 4.0, cut down",
    "OFL-1.1",
    "https://github.com/rsms/inter",
    include_str!("../../src/editor/fonts/OFL.txt"),
)];

/// Prints the licences of everything that is linked into the plugin and the command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The system that it is built for, as Rust calls it; this one if not given.
    #[arg(long)]
    pub target: Option<String>,
    /// Write them here instead.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If cargo can't be asked, or a package says no licence.
pub fn run(args: &Args) -> Result<()> {
    let target = args.target.clone().map_or_else(host, Ok)?;
    let text = list(&target)?;
    match &args.output {
        Some(path) => {
            fs::write(path, text).with_context(|| format!("{}: can't be written", path.display()))
        }
        None => {
            print!("{text}");
            Ok(())
        }
    }
}

/// This system, as Rust calls it.
///
/// # Errors
/// If cargo can't be asked.
pub fn host() -> Result<String> {
    let output = workspace::cargo()?
        .args(["--version", "--verbose"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("cargo doesn't say its host")?.to_owned())
}

/// A package that is linked in.
struct Package {
    name: String,
    version: String,
    licence: String,
    authors: Vec<String>,
    folder: PathBuf,
}

/// The licences of everything that is linked in for `target`: each package, then each text once.
///
/// # Errors
/// If cargo can't be asked, or a package brings neither a text nor a licence whose text is known.
pub fn list(target: &str) -> Result<String> {
    let packages = linked(target)?;
    ensure!(!packages.is_empty(), "no dependencies were found");
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut out = String::from(
        "Uncook is licensed under MIT or Apache-2.0, at your choice (LICENSE-MIT, LICENSE-APACHE). It holds the\n\
         packages below, under the licences named there; their texts follow. The source of each, unchanged, is at its\n\
         address.\n\n",
    );
    for package in &packages {
        let Package { name, version, .. } = package;
        out += &format!(
            "{name} {version}: {}, https://crates.io/crates/{name}/{version}\n",
            package.licence
        );
        for text in texts(package)? {
            users.entry(text).or_default().insert(name.clone());
        }
    }
    out += "\nBuilt in beside them:\n\n";
    for (name, licence, place, text) in BUILT_IN {
        out += &format!("{name}: {licence}, {place}\n");
        let user = users.entry(text.replace("\r\n", "\n")).or_default();
        user.insert(name.to_owned());
    }
    // The order of the packages, not of the texts.
    let mut texts: Vec<(String, String)> = users
        .into_iter()
        .map(|(text, names)| (names.into_iter().collect::<Vec<_>>().join(", "), text))
        .collect();
    texts.sort();
    for (names, text) in texts {
        out += &format!("\n{}\n{names}\n\n{}\n", "-".repeat(80), text.trim_end());
    }
    Ok(out)
}

/// Everything that the package's normal dependencies lead to, by name and version.
fn linked(target: &str) -> Result<Vec<Package>> {
    let metadata = workspace::metadata(&["--locked", "--filter-platform", target])?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let root = packages.iter().find(|(_, p)| p["name"] == PACKAGE);
    let mut ahead = vec![
        root.context("the package isn't in the workspace")?
            .0
            .clone(),
    ];
    let mut seen: BTreeSet<String> = ahead.iter().cloned().collect();
    let mut linked = Vec::new();
    while let Some(id) = ahead.pop() {
        for dependency in list(&nodes[&id]["deps"]) {
            let normal = list(&dependency["dep_kinds"])
                .iter()
                .any(|k| k["kind"].is_null());
            let id = text(&dependency["pkg"]);
            if normal && seen.insert(id.clone()) {
                let package = &packages[&id];
                let manifest = PathBuf::from(text(&package["manifest_path"]));
                linked.push(Package {
                    name: text(&package["name"]),
                    version: text(&package["version"]),
                    licence: text(&package["license"]),
                    authors: list(&package["authors"]).iter().map(text).collect(),
                    folder: manifest.parent().context("a package nowhere")?.to_owned(),
                });
                ahead.push(id);
            }
        }
    }
    linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(linked)
}

/// The texts that a package brings; where it brings none, that of a licence that it names.
fn texts(package: &Package) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for (folder, all) in [(package.folder.clone(), false)]
        .into_iter()
        .chain(FOLDERS.map(|folder| (package.folder.join(folder), true)))
    {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        files.extend(entries.map(|e| e.path()).filter(|p| is_licence(p, all)));
    }
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        let bytes =
            fs::read(&file).with_context(|| format!("{}: can't be read", file.display()))?;
        texts.push(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"));
    }
    if texts.is_empty() {
        texts.push(stand_in(package)?);
    }
    Ok(texts)
}

/// Whether a file is a licence, by its name; in a folder of licences every text is one.
fn is_licence(path: &Path, all: bool) -> bool {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase());
    let name = name.unwrap_or_default();
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let extension = extension.unwrap_or_default();
    let words = ["license", "licence", "copying", "notice", "copyright"];
    path.is_file()
        && !["rs", "toml", "json", "ttf", "html"].contains(&&*extension)
        && (all || words.iter().any(|word| name.contains(word)))
}

fn stand_in(package: &Package) -> Result<String> {
    let Package { name, licence, .. } = package;
    let offers: Vec<&str> = licence
        .split(['/', ' ', '(', ')'])
        .filter(|word| !word.is_empty() && *word != "OR")
        .collect();
    let known = TEXTS.iter().find(|(id, _)| offers.contains(id));
    match known {
        // What has to be met all at once can't be chosen from.
        Some((id, text)) if !offers.contains(&"AND") && !offers.contains(&"WITH") => Ok(format!(
            "{id}\nCopyright (c) {}\n\n{text}",
            if package.authors.is_empty() {
                format!("the authors of {name}")
            } else {
                package.authors.join(", ")
            }
        )),
        _ => bail!("{name} ({licence:?}) brings no licence text; add one to xtask/licences"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_linked_in_comes_with_its_licence() {
        for target in ["x86_64-unknown-linux-gnu", "x86_64-pc-windows-msvc"] {
            let text = list(target).unwrap();
            let names = |name: &str| text.lines().any(|l| l.starts_with(&format!("{name} ")));
            assert!(
                names("symphonia") && names("rtrb") && names("egui"),
                "{target}"
            );
            assert_eq!(names("clipboard-win"), target.contains("windows"));
            // For tests and builds only.
            assert!(!names("criterion") && !names("egui_kittest") && !names("xtask"));
            assert!(text.contains("Mozilla Public License Version 2.0"));
            assert!(text.contains("SIL OPEN FONT LICENSE"), "the fonts'");
            assert!(text.contains("\nInter 4.0, cut down: OFL-1.1, ") && names("egui_plot"));
            assert!(text.contains("The Inter Project Authors"));
            assert_eq!(text, list(target).unwrap(), "the same each time");
        }
    }

    #[test]
    fn a_package_without_a_text_is_given_that_of_its_licence_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let package = |licence: &str, authors: &[&str]| Package {
            name: "thing".into(),
            version: "1.0.0".into(),
            licence: licence.into(),
            authors: authors.iter().map(|&a| a.into()).collect(),
            folder: folder.path().into(),
        };
        let given = |licence: &str| texts(&package(licence, &["A. Uthor"])).map(|t| t.concat());
        let isc = given("ISC").unwrap();
        assert!(isc.starts_with("ISC\nCopyright (c) A. Uthor\n"), "{isc}");
        assert!(isc.contains("Permission to use"));
        assert!(given("MIT/Apache-2.0").unwrap().contains("Apache License"));
        for refused in [
            "",
            "GPL-3.0",
            "MIT AND Zlib",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            let error = given(refused).unwrap_err().to_string();
            assert!(error.contains("thing"), "{error}");
        }
        fs::write(folder.path().join("LICENSE.md"), "Ours.\r\n").unwrap();
        fs::write(folder.path().join("license.rs"), "code").unwrap();
        assert_eq!(given("GPL-3.0").unwrap(), "Ours.\n");
    }
}
