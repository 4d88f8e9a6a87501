//! Reading a header that [`crate::header`] has written: it is in no other form.

/// What a header declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What holds for everything.
    pub rules: Doc,
    /// Enumerations, structures, and other types.
    pub types: Vec<Entry>,
    /// Functions.
    pub groups: Vec<Group>,
}

/// Functions that stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Their title.
    pub title: String,
    /// In the order of the header.
    pub functions: Vec<Entry>,
}

/// A function or a type, or a member of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What stands in the header, without its members' documentation.
    pub declaration: String,
    /// Its documentation.
    pub doc: Doc,
    /// Values and fields.
    pub members: Vec<Entry>,
}

/// A comment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doc {
    /// The text, in Markdown.
    pub text: String,
    /// `@param`
    pub parameters: Vec<(String, String)>,
    /// `@return`
    pub returns: String,
    /// `@retval`
    pub errors: Vec<(String, String)>,
    /// `@value`, which only the Korean texts have: elsewhere, members have comments of their own.
    pub values: Vec<(String, String)>,
}

impl Doc {
    /// Reads the lines of a comment, without what makes them one.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut doc = Self::default();
        let mut current: Option<(&str, String, Vec<&str>)> = None;
        let mut text = Vec::new();
        for line in lines {
            let tag = ["@param[in,out]", "@param[out]", "@param", "@return", "@retval", "@value"]
                .into_iter()
                .find_map(|tag| Some((tag, line.strip_prefix(tag)?.trim())));
            match (tag, &mut current) {
                (Some((tag, rest)), _) => {
                    doc.take(current.take());
                    let (name, rest) = match tag {
                        "@return" => ("", rest),
                        _ => rest.split_once(' ').unwrap_or((rest, "")),
                    };
                    current = Some((tag, name.to_owned(), vec![rest.trim()]));
                }
                (None, Some((_, _, lines))) => lines.push(line.trim()),
                (None, None) => text.push(line.trim_end()),
            }
        }
        doc.take(current);
        doc.text = text.join("\n").trim().to_owned();
        doc
    }

    fn take(&mut self, tagged: Option<(&str, String, Vec<&str>)>) {
        let Some((tag, name, lines)) = tagged else { return };
        let text = lines.join("\n").trim().to_owned();
        match tag {
            "@return" => self.returns = text,
            "@retval" => self.errors.push((name, text)),
            "@value" => self.values.push((name, text)),
            _ => self.parameters.push((name, text)),
        }
    }
}

impl Header {
    /// Reads a header.
    pub fn parse(text: &str) -> Self {
        let mut header = Self::default();
        let mut lines = text.lines();
        let mut doc = Vec::new();
        while let Some(line) = lines.next() {
            if line.starts_with("/**") {
                doc = comment(line, &mut lines);
                if let Some(title) = doc.iter().find_map(|line| line.strip_prefix("@name ")) {
                    header.groups.push(Group { title: title.to_owned(), functions: Vec::new() });
                    doc.clear();
                } else if doc.first() == Some(&"@file") {
                    header.rules = Doc::parse(doc.drain(..).skip(1));
                } else if doc == ["@}"] {
                    doc.clear();
                }
            } else if line.starts_with("#define") && !doc.is_empty() {
                let name = line.split([' ', '(']).nth(1).unwrap_or_default().to_owned();
                let doc = Doc::parse(doc.drain(..));
                header.types.push(Entry { name, declaration: line.to_owned(), doc, members: Vec::new() });
            } else if !doc.is_empty() && !line.is_empty() {
                let doc = Doc::parse(doc.drain(..));
                let entry = Entry { doc, ..declared(line, &mut lines) };
                match header.groups.last_mut() {
                    Some(group) => group.functions.push(entry),
                    None => header.types.push(entry),
                }
            }
        }
        header
    }
}

/// The lines of a comment that begins with `first`.
fn comment<'a>(first: &'a str, rest: &mut impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let first = first.trim_start();
    if let Some(only) = first.strip_prefix("/** ").and_then(|text| text.strip_suffix(" */")) {
        return vec![only];
    }
    let lines = rest.map(str::trim).take_while(|line| *line != "*/");
    lines.map(|line| line.strip_prefix("* ").or(line.strip_prefix('*')).unwrap_or(line)).collect()
}

/// What is declared from `first` on.
fn declared<'a>(first: &'a str, rest: &mut impl Iterator<Item = &'a str>) -> Entry {
    if let Some(before) = first.strip_suffix(" {") {
        return members(before, rest);
    }
    let mut declaration = first.to_owned();
    while !declaration.ends_with(';') {
        let Some(line) = rest.next() else { break };
        declaration.push('\n');
        declaration.push_str(line);
    }
    Entry { name: name(&declaration).to_owned(), declaration, ..Entry::default() }
}

fn members<'a>(before: &str, rest: &mut impl Iterator<Item = &'a str>) -> Entry {
    let mut members = Vec::new();
    let mut doc = Doc::default();
    let mut declaration = format!("{before} {{");
    while let Some(line) = rest.next() {
        if line.trim_start().starts_with("/**") {
            doc = Doc::parse(comment(line, rest));
        } else if line.starts_with('}') {
            declaration.push('\n');
            declaration.push_str(line);
            break;
        } else {
            declaration.push('\n');
            declaration.push_str(line);
            let line = line.trim().trim_end_matches([',', ';']);
            let (name, _) = line.split_once(" = ").unwrap_or((name(line), ""));
            let (name, declaration) = (name.to_owned(), line.to_owned());
            members.push(Entry { name, declaration, doc: std::mem::take(&mut doc), members: Vec::new() });
        }
    }
    Entry { name: before.rsplit(' ').next().unwrap_or_default().to_owned(), declaration, members, ..Entry::default() }
}

/// The name in a declaration: of a function what stands before its parameters, of anything else its last word.
fn name(declaration: &str) -> &str {
    let declaration = declaration.trim_end_matches(';');
    if let Some((_, pointer)) = declaration.split_once("(*") {
        return pointer.split(')').next().unwrap_or_default();
    }
    let before = declaration.split('(').next().unwrap_or_default();
    before.rsplit([' ', '*']).next().unwrap_or_default()
}
