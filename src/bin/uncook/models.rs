// [cli] `uncook models`: see, fetch, add, check and remove models.

use std::{
    cell::RefCell,
    io::{IsTerminal, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uncook::models::{
    fetch::{Checked, Downloader, Token},
    library::{Library, LibraryError, Receipt},
    manifest::Model,
};

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Print the models that Uncook knows, what they are for, and whether they are installed
    List {
        /// Also print their files, where they come from and how they are checked
        #[arg(long)]
        files: bool,
    },
    /// Download a model; interrupted, the same command goes on where it ended
    Fetch {
        name: String,
        /// A token with read access for models whose host wants one [default: UNCOOK_HUB_TOKEN, HF_TOKEN]
        #[arg(long, value_name = "TOKEN")]
        token: Option<String>,
        /// Read the token from this file instead
        #[arg(long, value_name = "FILE", conflicts_with = "token")]
        token_file: Option<PathBuf>,
        /// Keep the files in this folder, on another disk say
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Accept the model's terms without being asked
        #[arg(long)]
        yes: bool,
    },
    /// Install a model from a folder with its files, without the network
    Add {
        folder: PathBuf,
        /// Which model it is, where its files don't tell
        #[arg(long)]
        name: Option<String>,
        /// Accept the model's terms without being asked
        #[arg(long)]
        yes: bool,
    },
    /// Read all installed models and compare them with their checksums
    Verify {
        /// Only this one
        name: Option<String>,
    },
    /// Delete an installed model
    Remove { name: String },
}

/// Runs the command. Returns whether all succeeded.
pub fn run(command: &ModelsCommand) -> Result<bool> {
    let library = Library::open()?;
    match command {
        ModelsCommand::List { files } => {
            list(&library, *files);
            Ok(true)
        }
        ModelsCommand::Fetch {
            name,
            token,
            token_file,
            to,
            yes,
        } => reported(fetch(
            &library,
            name,
            token.as_deref(),
            token_file.as_deref(),
            to.as_deref(),
            *yes,
        )),
        ModelsCommand::Add { folder, name, yes } => {
            reported(add(&library, folder, name.as_deref(), *yes))
        }
        ModelsCommand::Verify { name } => reported(verify(&library, name.as_deref())),
        ModelsCommand::Remove { name } => reported(library.remove(name).map_or_else(
            |error| Err(error.into()),
            |bytes| {
                println!("{name} removed, {} freed", size(Some(bytes)));
                Ok(true)
            },
        )),
    }
}

/// A failure of the work itself is exit code 1, so it is told here; 2 stays for a wrong command line.
fn reported(result: Result<bool>) -> Result<bool> {
    match result {
        Err(error) => match error.downcast_ref::<LibraryError>() {
            Some(LibraryError::Unknown { .. }) => Err(error),
            _ => {
                eprintln!("uncook: {error:#}");
                Ok(false)
            }
        },
        done => done,
    }
}

fn list(library: &Library, files: bool) {
    for model in &library.manifest().models {
        let state = match (library.find(&model.name), library.receipt(&model.name)) {
            (Some(_), _) => "installed",
            (None, Some(_)) => "incomplete",
            (None, None) => "not installed",
        };
        println!(
            "{} ({}, {}, {state})",
            model.name,
            model.purpose.label(),
            size(model.bytes())
        );
        println!("  {}.", model.what);
        println!("  Terms: {}. {}", model.licence, model.page);
        if model.gated {
            println!("  Its host wants a token of an account that accepted the terms.");
        }
        if !model.needs.is_empty() {
            println!("  Needs {}.", model.needs.join(", "));
        }
        if files {
            let receipt = library.receipt(&model.name);
            for file in &model.files {
                println!("  {} {}", file.file, size(file.bytes));
                println!("    {}", file.url);
                println!(
                    "    {}",
                    checked(file.known_hash(), receipt.as_ref(), &file.file)
                );
            }
        }
    }
    println!("Models are kept in {}.", library.folder().display());
}

/// How far a file's content is known.
fn checked(known: &str, receipt: Option<&Receipt>, file: &str) -> String {
    let installed = receipt.and_then(|receipt| receipt.files.iter().find(|f| f.file == file));
    match (known.len(), installed) {
        (64, _) => format!("SHA-256 {known}"),
        (1.., _) => format!("SHA-256 begins with {known}; no more is published"),
        (0, Some(installed)) if installed.checked == Checked::Host => {
            format!(
                "SHA-256 {}, as the host announced it when it was fetched",
                installed.sha256
            )
        }
        (0, Some(installed)) => format!(
            "SHA-256 {}, as it first came; nothing is known to compare it with",
            installed.sha256
        ),
        (0, None) => "no SHA-256 is known; what the host announces is checked".into(),
    }
}

fn fetch(
    library: &Library,
    name: &str,
    token: Option<&str>,
    token_file: Option<&std::path::Path>,
    to: Option<&std::path::Path>,
    yes: bool,
) -> Result<bool> {
    let model = model(library, name)?;
    if !accepted(library, model, yes)? {
        return Ok(false);
    }
    let from_file = token_file
        .map(|path| std::fs::read_to_string(path).with_context(|| path.display().to_string()))
        .transpose()?;
    let hub = directories_token();
    let token = Token::find(token.or(from_file.as_deref()), hub.as_deref())?;
    let bar = Bar::new();
    let receipt = library.fetch(
        name,
        to,
        token.as_ref(),
        &Downloader::default(),
        &|file, done, all| bar.show(file, done, all),
    )?;
    bar.clear();
    installed(library, model, &receipt);
    Ok(true)
}

/// Where the hub's own tools keep a token.
fn directories_token() -> Option<PathBuf> {
    let home = std::env::var_os("HF_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache").join("huggingface")))?;
    Some(home.join("token"))
}

fn add(library: &Library, folder: &std::path::Path, name: Option<&str>, yes: bool) -> Result<bool> {
    let model = match name {
        Some(name) => model(library, name)?,
        None => library.recognise(folder)?,
    };
    if !accepted(library, model, yes)? {
        return Ok(false);
    }
    let bar = Bar::new();
    let receipt = library.add(folder, Some(&model.name), &|file, done, all| {
        bar.show(file, done, all)
    })?;
    bar.clear();
    installed(library, model, &receipt);
    Ok(true)
}

fn installed(library: &Library, model: &Model, receipt: &Receipt) {
    println!("{} is installed.", model.name);
    if receipt
        .files
        .iter()
        .any(|f| f.checked == Checked::FirstSeen)
    {
        println!("Nothing was known to compare its checksum with; it is recorded from now on.");
    }
    for needed in &model.needs {
        if library.find(needed).is_none() {
            println!("It needs {needed} too: `uncook models fetch {needed}`.");
        }
    }
}

fn verify(library: &Library, name: Option<&str>) -> Result<bool> {
    let names: Vec<String> = match name {
        Some(name) => vec![model(library, name)?.name.clone()],
        None => library
            .manifest()
            .models
            .iter()
            .filter(|model| library.receipt(&model.name).is_some())
            .map(|model| model.name.clone())
            .collect(),
    };
    if names.is_empty() {
        println!("No models are installed.");
    }
    let mut all = true;
    for name in names {
        let bar = Bar::new();
        let done = library.verify(&name, &|file, done, all| bar.show(file, done, all));
        bar.clear();
        match done {
            Ok(()) => println!("{name} is whole."),
            Err(error) => {
                all = false;
                eprintln!("uncook: {error}");
            }
        }
    }
    Ok(all)
}

fn model<'l>(library: &'l Library, name: &str) -> Result<&'l Model> {
    Ok(library
        .manifest()
        .get(name)
        .ok_or_else(|| LibraryError::Unknown {
            name: name.to_owned(),
        })?)
}

/// Whether the terms are accepted, asking once where somebody can answer.
fn accepted(library: &Library, model: &Model, yes: bool) -> Result<bool> {
    if library.is_accepted(&model.name) {
        return Ok(true);
    }
    println!("{}: {}.", model.name, model.what);
    println!("Terms: {}. {}", model.licence, model.page);
    if !yes {
        if !std::io::stdin().is_terminal() {
            eprintln!("uncook: the terms have to be accepted once; read them and add --yes");
            return Ok(false);
        }
        print!("Do you accept them? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            println!("Not accepted; nothing was done.");
            return Ok(false);
        }
    }
    library.accept(&model.name)?;
    Ok(true)
}

/// Bytes in words.
fn size(bytes: Option<u64>) -> String {
    match bytes {
        None => "size unknown".into(),
        Some(bytes) if bytes >= 1_000_000_000 => format!("{:.1} GB", bytes as f64 / 1e9),
        Some(bytes) if bytes >= 1_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        Some(bytes) => format!("{:.0} kB", (bytes as f64 / 1e3).ceil()),
    }
}

/// A progress bar on stderr, where that is a terminal.
struct Bar {
    bar: ProgressBar,
    file: RefCell<String>,
}

impl Bar {
    fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self {
            bar,
            file: RefCell::default(),
        }
    }

    fn show(&self, file: &str, done: u64, all: Option<u64>) -> bool {
        if *self.file.borrow() != file {
            *self.file.borrow_mut() = file.to_owned();
            self.bar.reset();
            self.bar.set_message(file.to_owned());
        }
        if let Some(all) = all {
            self.bar.set_length(all);
        }
        self.bar.set_position(done);
        true
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
