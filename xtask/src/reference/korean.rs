//! The Korean texts: `crates/qtls-ffi/api.ko.md` and `crypto.ko.md`.
//!
//! ```text
//! # rules
//! What holds for everything, in Markdown.
//!
//! # group Connections
//! 연결
//!
//! # shared
//! @param config 설정.
//! @retval QTLS_E_FROZEN 설정이 동결되어 있습니다.
//!
//! # qtls_config_set_groups
//! The text, then @param, @return and @retval as in the header, but for what `shared` has; of types, @value.
//! ```

use std::collections::BTreeMap;

use qtls_core::error::{Error, Result};

use super::parse::{Doc, Entry, Group, Header};

/// The content of the file.
#[derive(Clone, Debug, Default)]
pub struct Korean {
    sections: BTreeMap<String, Doc>,
}

impl Korean {
    /// Reads the file.
    ///
    /// # Errors
    /// A section twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut korean = Self::default();
        for section in text.split("\n# ").skip(1) {
            let (title, lines) = section.split_once('\n').unwrap_or((section, ""));
            if korean.sections.insert(title.trim().to_owned(), Doc::parse(lines.lines())).is_some() {
                return Err(wrong(format!("{title} stands there twice")));
            }
        }
        Ok(korean)
    }

    /// The header in Korean.
    ///
    /// # Errors
    /// What has no Korean text, and Korean texts of what is not in the header.
    pub fn of(mut self, header: &Header) -> Result<Header> {
        let shared = self.section("shared")?;
        let rules = self.section("rules")?;
        let mut entry = |entry: &Entry| {
            let own = self.section(&entry.name)?;
            translated(entry, own, &shared)
        };
        let types = header.types.iter().map(&mut entry).collect::<Result<Vec<_>>>()?;
        let functions = |group: &Group| group.functions.iter().map(&mut entry).collect::<Result<Vec<_>>>();
        let functions = header.groups.iter().map(functions).collect::<Result<Vec<_>>>()?;
        let groups = header.groups.iter().zip(functions).map(|(group, functions)| {
            Ok(Group { title: self.section(&format!("group {}", group.title))?.text, functions })
        });
        let groups = groups.collect::<Result<Vec<_>>>()?;
        match self.sections.keys().next() {
            None => Ok(Header { rules, types, groups }),
            Some(gone) => Err(wrong(format!("the header has no {gone} any more"))),
        }
    }

    fn section(&mut self, title: &str) -> Result<Doc> {
        self.sections.remove(title).ok_or_else(|| wrong(format!("{title} has no Korean text")))
    }
}

fn translated(entry: &Entry, own: Doc, shared: &Doc) -> Result<Entry> {
    let about = |what: &str| format!("{}: {what}", entry.name);
    if own.text.is_empty() {
        return Err(wrong(about("there is no text")));
    }
    if own.returns.is_empty() != entry.doc.returns.is_empty() {
        return Err(wrong(about("@return stands in one language only")));
    }
    let list = |what: &str, there: &[(String, String)], own: &[(String, String)], shared: &[(String, String)]| {
        if let Some((gone, _)) = own.iter().find(|(name, _)| there.iter().all(|(known, _)| known != name)) {
            return Err(wrong(about(&format!("the header has no {what} {gone} there"))));
        }
        let find = |name: &String| {
            let text = own.iter().chain(shared).find(|(known, _)| known == name);
            let text = text.ok_or_else(|| wrong(about(&format!("the {what} {name} has no Korean text"))))?;
            Ok((name.clone(), text.1.clone()))
        };
        there.iter().map(|(name, _)| find(name)).collect::<Result<Vec<_>>>()
    };
    let members: Vec<_> = entry.members.iter().map(|member| (member.name.clone(), String::new())).collect();
    let values = list("value", &members, &own.values, &[])?;
    let doc = Doc {
        parameters: list("parameter", &entry.doc.parameters, &own.parameters, &shared.parameters)?,
        errors: list("error", &entry.doc.errors, &own.errors, &shared.errors)?,
        values: Vec::new(),
        ..own
    };
    let members = entry
        .members
        .iter()
        .zip(values)
        .map(|(member, (_, text))| Entry { doc: Doc { text, ..Doc::default() }, ..member.clone() });
    Ok(Entry { doc, members: members.collect(), ..entry.clone() })
}

fn wrong(message: String) -> Error {
    Error::internal(message).hint("write the Korean text of what is new in the header, and remove that of what is gone")
}
