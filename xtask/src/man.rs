//! Manual pages, from the same description that parses the command line. What `--help` says after the options is their
//! other sections.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// A page.
pub(crate) struct Page {
    command: fn() -> Command,
    section: &'static str,
    /// Programs, their sections, and documents.
    see_also: &'static [(&'static str, &'static str)],
}

pub(crate) const SERVER: Page = Page {
    command: qtls_cli::server::command,
    section: "8",
    see_also: &[("qtls", "1"), ("qtls-bench", "1"), ("qtls-client", "1"), ("qtls-version", "1")],
};
pub(crate) const CLIENT: Page = Page {
    command: qtls_cli::client::command,
    section: "1",
    see_also: &[("qtls", "1"), ("qtls-bench", "1"), ("qtls-version", "1"), ("qtls-server", "8")],
};
pub(crate) const TOOL: Page = Page {
    command: qtls_cli::qtls::command,
    section: "1",
    see_also: &[("qtls-bench", "1"), ("qtls-client", "1"), ("qtls-version", "1"), ("qtls-server", "8")],
};
pub(crate) const VERSION: Page = Page {
    command: qtls_cli::version::command,
    section: "1",
    see_also: &[("qtls", "1"), ("qtls-bench", "1"), ("qtls-client", "1"), ("qtls-server", "8")],
};
pub(crate) const BENCH: Page = Page {
    command: qtls_cli::bench::command,
    section: "1",
    see_also: &[("qtls", "1"), ("qtls-client", "1"), ("qtls-version", "1"), ("qtls-server", "8")],
};

/// The page in the language of man(7).
pub(crate) fn page(page: &Page) -> String {
    let mut command = (page.command)().disable_help_subcommand(true);
    command.build();
    let after = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let man = Man::new(command.clone());
    // Without a date, which would change; clap_mangen's own title has it left out, and what follows in its place.
    let title =
        format!(".TH {} {} \"\" \"Q\\-TLS {}\" \"\"\n", command.get_name(), page.section, qtls_core::version::VERSION);
    let mut out = title.into_bytes();
    // Writing into memory doesn't fail.
    let _ = man.render_name_section(&mut out);
    let _ = man.render_synopsis_section(&mut out);
    let _ = man.render_description_section(&mut out);
    let _ = man.render_options_section(&mut out);
    let mut roff = Roff::new();
    if command.has_subcommands() {
        roff.control("SH", ["COMMANDS"]);
    }
    let _ = roff.to_writer(&mut out);
    subcommands(&command, &mut out);
    let mut roff = Roff::new();
    sections(&after.unwrap_or_default(), &mut roff);
    see_also(page, &mut roff);
    let _ = roff.to_writer(&mut out);
    clean(&String::from_utf8_lossy(&out))
}

/// Each command with its synopsis, what it does, and its options; what has commands itself is those.
fn subcommands(command: &Command, out: &mut Vec<u8>) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.has_subcommands() {
            subcommands(sub, out);
            continue;
        }
        // The roff crate leaves hyphens of headings as they are, and a reader couldn't copy them.
        let name = sub.get_bin_name().unwrap_or(sub.get_name()).replace('-', "\\-");
        out.extend(format!(".SS \"{name}\"\n").into_bytes());
        let man = Man::new(sub.clone());
        let mut part = Vec::new();
        let _ = man.render_synopsis_section(&mut part);
        let _ = man.render_description_section(&mut part);
        let _ = man.render_options_section(&mut part);
        let part = String::from_utf8_lossy(&part).replace(".SH SYNOPSIS\n", "").replace(".SH DESCRIPTION\n", ".PP\n");
        // Headings that group options are not worth a section inside of one.
        let lines = part.lines().filter(|line| !line.starts_with(".SH "));
        out.extend(lines.flat_map(|line| [line.as_bytes(), b"\n"].concat()));
    }
}

/// Text in which a line without indent that ends in a colon is the heading of what follows, as sections. Text without a
/// heading is left out: it is what the sections say, in short.
fn sections(text: &str, roff: &mut Roff) {
    let mut inside = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            end(roff, inside);
            // What man(7) calls it.
            let heading = if heading == "Exit codes" { "Exit status" } else { heading };
            roff.control("SH", [heading.to_uppercase().as_str()]);
            roff.control("nf", []);
            inside = true;
        } else if inside {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
    }
    end(roff, inside);
}

fn end(roff: &mut Roff, inside: bool) {
    if inside {
        roff.control("fi", []);
    }
}

fn see_also(page: &Page, roff: &mut Roff) {
    roff.control("SH", ["SEE ALSO"]);
    for (index, (name, section)) in page.see_also.iter().enumerate() {
        let comma = if index + 1 < page.see_also.len() { "," } else { "" };
        roff.text([bold(*name), roman(format!("({section}){comma}"))]);
    }
    roff.control("PP", []);
    roff.text([roman("Every key of the configurations, and more: docs/ in the sources, installed as share/doc/qtls.")]);
}

/// The parts as one page: with one definition of apostrophes, which each part brings, and in ASCII, which every formatter
/// reads whatever the locale.
fn clean(text: &str) -> String {
    let mut page = String::from(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n");
    for line in text.lines().filter(|line| !line.contains(".ds Aq ")) {
        for character in line.trim_end().chars() {
            match character {
                ' '..='~' => page.push(character),
                '\u{2026}' => page.push_str("..."),
                other => page.push_str(&format!("\\[u{:04X}]", u32::from(other))),
            }
        }
        page.push('\n');
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_of_the_tool_is_in_its_page() {
        fn check(command: &Command, page: &str) {
            for sub in command.get_subcommands() {
                check(sub, page);
            }
            if command.has_subcommands() {
                return;
            }
            let name = command.get_bin_name().unwrap().replace('-', "\\-");
            let heading = format!("\n.SS \"{name}\"\n");
            let start = page.find(&heading).unwrap_or_else(|| panic!("{heading} is missing")) + heading.len();
            let section = page[start..].split("\n.S").next().unwrap();
            for option in command.get_arguments().filter_map(|option| option.get_long()) {
                let option = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(section.contains(&option), "{option} is missing in {heading}");
            }
        }
        let mut command = qtls_cli::qtls::command().disable_help_subcommand(true);
        command.build();
        check(&command, &page(&TOOL));
    }

    #[test]
    fn pages_have_the_sections_that_readers_look_for_and_no_date() {
        for (page, number) in [(&SERVER, 8), (&CLIENT, 1), (&TOOL, 1), (&VERSION, 1)] {
            let text = super::page(page);
            let title = text.lines().find(|line| line.starts_with(".TH ")).unwrap();
            assert!(title.contains(&format!(" {number} \"\" ")), "{title}");
            for heading in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
                let heading = [format!("\n.SH {heading}\n"), format!("\n.SH \"{heading}\"\n")];
                assert!(heading.iter().any(|heading| text.contains(heading)), "{heading:?} is missing in {title}");
            }
        }
    }
}
