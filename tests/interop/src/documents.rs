//! The documents of the repository, taken apart.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::programs;

/// A document, by its path from the root of the repository.
#[derive(Clone, Debug)]
pub struct Document {
    /// Relative to that root.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A fenced block of a document.
#[derive(Clone, Debug)]
pub struct Block {
    /// Of its opening fence.
    pub place: Place,
    /// What stands behind the opening fence: `jsonc`, `sh`, …
    pub info: String,
    /// What it encloses, with the last line's end.
    pub text: String,
}

/// What stands under one heading, up to the next one, without fenced blocks.
#[derive(Debug)]
pub struct Part {
    /// Its line, with its `#`s.
    pub heading: String,
    /// What follows.
    pub text: String,
}

impl Part {
    /// How many `#`s its heading has.
    pub fn level(&self) -> usize {
        self.heading.bytes().take_while(|byte| *byte == b'#').count()
    }
}

/// Where something stands.
#[derive(Clone, Debug)]
pub struct Place {
    /// The document.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

impl Document {
    /// Its fenced blocks.
    ///
    /// # Panics
    /// When one has no end.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(info)) => {
                    let place = Place { path: self.path.clone(), line: number };
                    open = Some(Block { place, info: info.to_owned(), text: String::new() });
                }
                (Some(_), Some("")) => blocks.extend(open.take()),
                (Some(block), _) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{} has a block without its end", self.path.display());
        blocks
    }

    /// The text outside of fenced blocks.
    pub fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// What stands between backquotes, outside of fenced blocks.
    pub fn code_spans(&self) -> Vec<String> {
        self.prose().split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// What stands under each heading.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for line in self.prose().lines() {
            match parts.last_mut() {
                _ if line.starts_with('#') => parts.push(Part { heading: line.to_owned(), text: String::new() }),
                Some(part) => {
                    part.text.push_str(line);
                    part.text.push('\n');
                }
                None => {}
            }
        }
        parts
    }

    /// Where its links lead.
    pub fn links(&self) -> Vec<String> {
        self.prose().split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    }

    /// From the heading to the next one of its level.
    ///
    /// # Panics
    /// When there is no such heading.
    pub fn section(&self, heading: &str) -> &str {
        let start = self.text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no {heading}")) + 1;
        let level = heading.split(' ').next().unwrap_or_default();
        let rest = &self.text[start + heading.len()..];
        &rest[..rest.find(&format!("\n{level} ")).unwrap_or(rest.len())]
    }
}

/// Every document of the repository: all of its `.md` files but those of what was fetched or built.
///
/// # Panics
/// When there are next to none.
pub fn documents() -> Vec<Document> {
    let root = programs::repository();
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("the repository is readable") {
            let path = entry.expect("the repository is readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") && name != "node_modules" {
                directories.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).expect("a document is text");
                found.push(Document { path: path.strip_prefix(&root).expect("below the root").to_owned(), text });
            }
        }
    }
    assert!(found.len() >= 6, "found {found:?}");
    found
}

/// The document with this path from the root of the repository.
///
/// # Panics
/// When there is none.
pub fn document(path: &str) -> Document {
    documents()
        .into_iter()
        .find(|document| document.path == Path::new(path))
        .unwrap_or_else(|| panic!("there is no {path}"))
}
