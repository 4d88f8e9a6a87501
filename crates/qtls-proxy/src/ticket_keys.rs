//! The ticket keys that a configuration names, read once for all hosts that share them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::credentials::files;
use qtls_core::sessions::TicketKeys;
use qtls_core::{Error, Result};

use crate::config::{self, Origins};

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct TicketKeyFiles(Vec<Read>);

#[derive(Debug)]
struct Read {
    from: config::TicketKeys,
    timeout: Duration,
    keys: Arc<TicketKeys>,
}

impl TicketKeyFiles {
    /// The keys that the section `key` of the configuration names; `warnings` gets what an operator should know of their
    /// file.
    ///
    /// # Errors
    /// A file that can't be read, or doesn't hold what it should; with its line, and with the key that names the file.
    pub(crate) fn read(
        &mut self,
        from: &config::TicketKeys,
        timeout: Duration,
        (key, origins): (&str, &Origins),
        warnings: &mut Vec<String>,
    ) -> Result<Arc<TicketKeys>> {
        if let Some(read) = self.0.iter().find(|read| read.from == *from && read.timeout == timeout) {
            return Ok(read.keys.clone());
        }
        let (name, path) = match (&from.file, &from.secret_file) {
            (Some(file), _) => ("file", file),
            (None, Some(secret)) => ("secret_file", secret),
            (None, None) => return Err(origins.error(key, "names no keys")),
        };
        let located = |error: Error| origins.locate(&format!("{key}.{name}"), error.nested());
        let read = |path: &Path| match from.file {
            Some(_) => TicketKeys::from_file(&files::ticket_keys(path)?),
            None => TicketKeys::derived(files::ticket_secret(path)?, from.step, timeout),
        };
        let keys = Arc::new(read(path).map_err(located)?);
        if !self.0.iter().any(|read| read.from == *from) {
            warnings.extend(files::open_to_everybody(path));
        }
        self.0.push(Read { from: from.clone(), timeout, keys: keys.clone() });
        Ok(keys)
    }
}
