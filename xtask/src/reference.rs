//! The reference of libqtls, in English and Korean: what the header says, and the Korean texts that belong to it.
//!
//! Both languages are written with the same marks, those of Doxygen, and so can be held to each other: a function, a
//! parameter or an error that one of them lacks makes no document.

mod korean;
mod parse;

use std::fmt::Write as _;

use qtls_core::error::Result;

use crate::header;
pub use korean::Korean;
pub use parse::{Doc, Entry, Header};

/// `docs/API-REFERENCE.md`.
pub fn english() -> String {
    document(&Header::parse(&header::qtls()), &Header::parse(&header::crypto()), &ENGLISH)
}

/// `docs/API-REFERENCE.ko.md`.
pub fn korean() -> String {
    in_korean(&KOREAN_QTLS, &KOREAN_CRYPTO).unwrap_or_else(|error| panic!("{error}"))
}

/// A file of Korean texts, and the header that they are of.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// Its path from the root of the repository.
    pub path: &'static str,
    /// Its content.
    pub content: &'a str,
    /// Makes the header.
    pub header: fn() -> String,
}

/// The texts of `qtls/qtls.h`.
pub const KOREAN_QTLS: Texts<'static> = Texts {
    path: "crates/qtls-ffi/api.ko.md",
    content: include_str!("../../crates/qtls-ffi/api.ko.md"),
    header: header::qtls,
};

/// The texts of `qtls/crypto.h`.
pub const KOREAN_CRYPTO: Texts<'static> = Texts {
    path: "crates/qtls-ffi/crypto.ko.md",
    content: include_str!("../../crates/qtls-ffi/crypto.ko.md"),
    header: header::crypto,
};

/// The Korean document of the two headers.
///
/// # Errors
/// A function, a type, a value, a parameter or an error without a Korean text, and Korean texts of what is not there.
pub fn in_korean(qtls: &Texts<'_>, crypto: &Texts<'_>) -> Result<String> {
    let translated = |texts: &Texts<'_>| {
        let korean = Korean::parse(texts.content).and_then(|korean| korean.of(&Header::parse(&(texts.header)())));
        korean.map_err(|error| error.at(texts.path))
    };
    Ok(document(&translated(qtls)?, &translated(crypto)?, &KOREAN))
}

/// What stands between the texts.
struct Words {
    title: &'static str,
    other: &'static str,
    intro: &'static str,
    rules: &'static str,
    types: &'static str,
    parameter: &'static str,
    value: &'static str,
    field: &'static str,
    meaning: &'static str,
    returns: &'static str,
    error: &'static str,
    when: &'static str,
}

const ENGLISH: Words = Words {
    title: "API reference of libqtls",
    other: "[한국어](API-REFERENCE.ko.md)",
    intro: "What `#include <qtls/qtls.h>` and `#include <qtls/crypto.h>` declare. Generated from the headers, which say the same.",
    rules: "Rules",
    types: "Types",
    parameter: "Parameter",
    value: "Value",
    field: "Field",
    meaning: "Meaning",
    returns: "Returns",
    error: "Error",
    when: "When",
};

const KOREAN: Words = Words {
    title: "libqtls API 레퍼런스",
    other: "[English](API-REFERENCE.md)",
    intro: "`#include <qtls/qtls.h>`와 `#include <qtls/crypto.h>`가 선언하는 것들입니다. 헤더와 `crates/qtls-ffi/*.ko.md`에서 생성됩니다.",
    rules: "규칙",
    types: "타입",
    parameter: "매개변수",
    value: "값",
    field: "필드",
    meaning: "뜻",
    returns: "반환",
    error: "오류",
    when: "언제",
};

fn document(qtls: &Header, crypto: &Header, words: &Words) -> String {
    let Words { title, other, intro, rules, types, .. } = words;
    let mut text = format!("# {title}\n\n{other}\n\n{intro}\n\n");
    let groups = |header: &Header| header.groups.iter().map(|group| group.title.clone()).collect::<Vec<_>>();
    let titles =
        [vec![(*rules).to_owned(), (*types).to_owned()], groups(qtls), vec![CRYPTO.to_owned()], groups(crypto)];
    for title in titles.iter().flatten() {
        let _ = writeln!(text, "- [{title}](#{})", anchor(title));
    }
    let _ = write!(text, "\n## {rules}\n\n{}\n\n## {types}\n", qtls.rules.text);
    entries(&mut text, qtls, words);
    let _ = write!(text, "\n## {CRYPTO}\n\n{}\n", crypto.rules.text);
    entries(&mut text, crypto, words);
    text
}

/// The title of what the second header declares.
const CRYPTO: &str = "`qtls/crypto.h`";

fn entries(text: &mut String, header: &Header, words: &Words) {
    for entry in &header.types {
        describe(text, entry, words);
    }
    for group in &header.groups {
        let _ = write!(text, "\n## {}\n", group.title);
        for entry in &group.functions {
            describe(text, entry, words);
        }
    }
}

fn describe(text: &mut String, entry: &Entry, words: &Words) {
    let Entry { name, declaration, doc, members } = entry;
    let _ = write!(text, "\n### `{name}`\n\n```c\n{declaration}\n```\n\n{}\n", doc.text);
    let is_structure = declaration.starts_with("typedef struct");
    let first = if is_structure { words.field } else { words.value };
    let members = members.iter().map(|member| {
        let name = if is_structure { &member.declaration } else { &member.name };
        let number = member.declaration.split_once(" = ").map(|(_, number)| format!(" ({number})"));
        (format!("`{name}`{}", number.unwrap_or_default()), member.doc.text.clone())
    });
    table(text, first, words.meaning, members);
    let cells = |rows: &[(String, String)]| {
        rows.iter().map(|(name, meaning)| (format!("`{name}`"), meaning.clone())).collect::<Vec<_>>()
    };
    table(text, words.parameter, words.meaning, cells(&doc.parameters));
    if !doc.returns.is_empty() {
        let _ = write!(text, "\n**{}:** {}\n", words.returns, doc.returns);
    }
    table(text, words.error, words.when, cells(&doc.errors));
}

fn table(text: &mut String, left: &str, right: &str, rows: impl IntoIterator<Item = (String, String)>) {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_some() {
        let _ = write!(text, "\n| {left} | {right} |\n|---|---|\n");
    }
    for (left, right) in rows {
        let _ = writeln!(text, "| {left} | {} |", right.replace("\n\n", "<br>").replace('\n', " ").replace('|', "\\|"));
    }
}

/// As GitHub makes it of a title.
fn anchor(title: &str) -> String {
    let kept =
        title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-')).collect::<String>();
    kept.replace(' ', "-")
}
