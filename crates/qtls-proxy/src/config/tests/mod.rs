//! What every test of the configuration needs: reading a text as if it were a file.

mod bad_syntax;
mod bad_values;
mod environment;
mod samples;
mod schema;
mod settled;

use std::fs;

use qtls_core::error::{Error, Result};
use tempfile::TempDir;

use super::*;

/// A source without a file and with these variables, away from the certificates of the machine.
fn environment(variables: &[(&str, &str)]) -> Source {
    let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Source { env, certificate_dir: PathBuf::from("/nonexistent"), ..Source::default() }
}

fn overrides(keys: &[(&str, &str)]) -> Vec<(String, String)> {
    keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn server_with(text: &str, source: Source) -> Result<Loaded<ServerConfig>> {
    with_file("server.json", text.as_bytes(), source, load_server)
}

fn client_with(text: &str, source: Source) -> Result<Loaded<ClientConfig>> {
    with_file("client.json", text.as_bytes(), source, load_client)
}

fn server(text: &str) -> Result<Loaded<ServerConfig>> {
    server_with(text, environment(&[]))
}

fn client(text: &str) -> Result<Loaded<ClientConfig>> {
    client_with(text, environment(&[]))
}

fn server_error(text: &str) -> String {
    server(text).expect_err(text).to_string()
}

fn client_error(text: &str) -> String {
    client(text).expect_err(text).to_string()
}

/// Loads `bytes` from a file called `name`, and takes its directory out of the error.
fn with_file<T>(name: &str, bytes: &[u8], source: Source, load: fn(&Source) -> Result<T>) -> Result<T> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join(name);
    fs::write(&file, bytes).unwrap();
    let prefix = format!("{}/", directory.path().display());
    load(&Source { file: Some(file), ..source }).map_err(|error| {
        let mut clean = Error::new(error.fault(), error.message().replace(&prefix, ""));
        if let Some(place) = error.place() {
            clean = clean.at(place.replace(&prefix, ""));
        }
        if let Some(key) = error.key_path() {
            clean = clean.key(key);
        }
        if let Some(hint) = error.hint_text() {
            clean = clean.hint(hint.replace(&prefix, ""));
        }
        clean
    })
}
