// The models' room: checkpoints, hostile files, the manifest, the library and downloads.

mod checkpoint;
#[cfg(feature = "cli")]
mod cli;
mod convert;
mod fetch;
mod hostile;
mod library;
mod server;
mod shelf;
mod writer;

/// The entry of a list for a model "tiny", whose terms have to be accepted, before its files.
fn tiny(gated: bool) -> String {
    format!(
        r#"
        [[model]]
        name = "tiny"
        purpose = "separation"
        what = "Nothing"
        licence = "As they please"
        page = "http://example.org/tiny"
        ask = true
        gated = {gated}
        needs = []
        "#
    )
}

/// The entry of a file whose content is known.
fn checked_file(name: &str, url: &str, content: &[u8]) -> String {
    format!(
        r#"
        [[model.file]]
        file = "{name}"
        url = "{url}"
        sha256 = "{}"
        bytes = {}
        "#,
        uncook::models::hash::sha256(content),
        content.len()
    )
}
