//! How all programs talk: data to standard output, everything else to standard error, and one exit code a fault.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use qtls_core::{Error, Result};

/// Ends a program: prints the error, if there is one, and returns the exit code that belongs to it.
pub(crate) fn finish(program: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(program, &error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Says something to the person at the terminal, beside the data.
pub(crate) fn say(program: &str, text: &str) {
    note(&format!("{program}: {text}\n"));
}

/// Writes text to standard error, but for what could steer a terminal: names in a peer's certificate are its choice.
pub(crate) fn note(text: &str) {
    // Where standard error is closed, the exit code still tells.
    let _ = io::stderr().lock().write_all(printable(text).as_bytes());
}

/// Writes data to standard output. A reader that has gone away, as with `| head`, is no error.
///
/// # Errors
/// Standard output can't be written.
pub(crate) fn print(out: &mut dyn Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritable(&error)),
        _ => Ok(()),
    }
}

/// The error for a standard output that can't be written.
pub(crate) fn unwritable(error: &io::Error) -> Error {
    Error::internal(format!("standard output can't be written: {error}"))
}

/// Text with what could steer a terminal escaped, for data that a peer or a file has made.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            // What turns the direction of the text around it.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(character.escape_unicode());
            }
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A reader that has gone away, or a disk without room.
    pub(crate) struct Fails(pub(crate) ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_and_other_scripts_stay() {
        assert_eq!(printable("CN=\u{1b}[2Jx\r\n"), "CN=\\u{1b}[2Jx\\r\n");
        assert_eq!(printable("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(printable("CN=시험 서버\tü"), "CN=시험 서버\tü");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_but_a_full_disk_is() {
        assert!(print(&mut Fails(ErrorKind::BrokenPipe), "text").is_ok());
        assert_eq!(print(&mut Fails(ErrorKind::StorageFull), "text").unwrap_err().exit_code(), 1);
    }
}
