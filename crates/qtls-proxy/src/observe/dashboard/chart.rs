//! Bars over time, as SVG that needs no script; and the same as a table, for those who don't see them.

use std::fmt::Write;

use super::figures::Line;
use super::format::escape;
use super::grid::{Grid, numbers, words};

/// A chart of stacked bars, one a slot.
pub(super) struct Chart<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    /// What is counted: `Handshakes`.
    pub(super) what: &'a str,
    pub(super) slot_seconds: u64,
    pub(super) series: Vec<Bars<'a>>,
    /// How a value is written.
    pub(super) shown: fn(u64) -> String,
}

/// One part of each bar.
#[derive(Clone, Copy)]
pub(super) struct Bars<'a> {
    pub(super) name: &'a str,
    pub(super) fill: Fill,
    pub(super) counts: &'a [u64],
}

/// How a part is drawn. What is classical has stripes: colours are not the only signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Plain(u8),
    Striped(u8),
}

/// Colours that have stripes.
const STRIPED: [u8; 11] = [5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16];
/// Neither good nor bad.
const NEUTRAL: u8 = 17;
/// The colours of all that is post-quantum, and of all that is classical.
pub(super) const POST_QUANTUM: Fill = Fill::Plain(14);
pub(super) const CLASSICAL: Fill = Fill::Striped(15);
pub(super) const FAILED: Fill = Fill::Plain(16);

impl Fill {
    /// The one of a line: its colour stays the same, whichever others are there.
    pub(super) fn of(line: &Line) -> Self {
        let colour = match line.name {
            "X25519MLKEM768" | "mldsa65" => 0,
            "SecP384r1MLKEM1024" | "mldsa87" => 1,
            "SecP256r1MLKEM768" | "mldsa44" => 2,
            "MLKEM768" => 3,
            "MLKEM1024" => 4,
            "x25519" | "ed25519" => 5,
            "secp384r1" | "ecdsa_secp384r1_sha384" => 6,
            "secp256r1" | "ecdsa_secp256r1_sha256" => 7,
            "ecdsa_secp521r1_sha512" => 9,
            "rsa_pss_rsae_sha256" => 10,
            "rsa_pss_rsae_sha384" => 11,
            "rsa_pss_rsae_sha512" => 12,
            "rsa_pkcs1_sha256" | "rsa_pkcs1_sha384" | "rsa_pkcs1_sha512" => 13,
            "none" => NEUTRAL,
            _ => 8,
        };
        if line.post_quantum == Some(true) || colour == NEUTRAL { Self::Plain(colour) } else { Self::Striped(colour) }
    }

    fn attribute(self) -> String {
        match self {
            Self::Plain(colour) => format!("class=\"k{colour}\""),
            Self::Striped(colour) => format!("fill=\"url(#stripes-{colour})\""),
        }
    }
}

/// The patterns that all charts of a page refer to.
pub(super) fn patterns() -> String {
    let mut html = String::from("<svg class=\"patterns\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>");
    for colour in STRIPED {
        let _ = write!(
            html,
            "<pattern id=\"stripes-{colour}\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\">\
             <rect class=\"k{colour} faint\" width=\"4\" height=\"4\"/><rect class=\"k{colour}\" width=\"4\" height=\"2\"/>\
             </pattern>"
        );
    }
    html.push_str("</defs></svg>\n");
    html
}

/// What the colours mean.
pub(super) fn legend<'a>(entries: impl Iterator<Item = (&'a str, Fill)>) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (name, fill) in entries {
        let _ = write!(html, "<li>{}{}</li>", swatch(fill), escape(name));
    }
    html.push_str("</ul>\n");
    html
}

fn swatch(fill: Fill) -> String {
    format!(
        "<svg class=\"swatch\" width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" {}/></svg>",
        fill.attribute()
    )
}

/// A whole divided in two, as one bar.
pub(super) fn share(parts: &[(u64, Fill)], label: &str) -> String {
    let whole: u64 = parts.iter().map(|(part, _)| part).sum();
    let mut html = format!(
        "<svg class=\"share\" viewBox=\"0 0 1000 16\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">\
         <rect class=\"track\" width=\"1000\" height=\"16\"/>"
    );
    let mut x = 0;
    for (part, fill) in parts.iter().filter(|(part, _)| *part > 0) {
        let width = scaled(*part, whole, 1000).min(1000 - x);
        let _ = write!(html, "<rect x=\"{x}\" width=\"{width}\" height=\"16\" {}/>", fill.attribute());
        x += width;
    }
    html.push_str("</svg>");
    html
}

/// A part of a whole, as a bar that is as long as the part.
pub(super) fn partial(part: u64, whole: u64, fill: Fill, label: &str) -> String {
    format!(
        "<svg class=\"share\" viewBox=\"0 0 1000 16\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">\
         <rect class=\"track\" width=\"1000\" height=\"16\"/><rect width=\"{}\" height=\"16\" {}/></svg>",
        scaled(part, whole, 1000),
        fill.attribute()
    )
}

impl Chart<'_> {
    /// The chart with its caption and axes.
    pub(super) fn svg(&self) -> String {
        let slots = self.slots();
        let most = (0..slots).map(|slot| self.sum(slot)).max().unwrap_or(0);
        let hours = self.slot_seconds * slots as u64 / 3600;
        let (span, ago) = match hours {
            1 => ("hour".to_owned(), "1 hour".to_owned()),
            hours => (format!("{hours} hours"), format!("{hours} hours")),
        };
        let each = span_one(self.slot_seconds);
        let mut html = format!(
            "<figure id=\"{id}\"><figcaption><span>Last {span}, a bar each {each}</span>\
             <span class=\"most\">{shown}</span></figcaption>\n<div class=\"plot\">\
             <svg viewBox=\"0 0 {width} 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">\n",
            id = self.id,
            width = slots.max(1) * 10,
            shown = if most == 0 { "nothing".to_owned() } else { format!("up to {}", (self.shown)(most)) },
            label = self.label(&span, most, &each),
        );
        for slot in (0..slots).filter(|slot| self.sum(*slot) > 0) {
            self.bar(slot, slots, most, &mut html);
        }
        let _ = write!(
            html,
            "</svg></div>\n<div class=\"axis\" aria-hidden=\"true\"><span>{ago} ago</span><span>now</span></div></figure>\n"
        );
        html
    }

    fn bar(&self, slot: usize, slots: usize, most: u64, html: &mut String) {
        let _ = write!(html, "<g><title>{}:", self.when(slot, slots));
        for bars in self.series.iter().filter(|bars| bars.counts[slot] > 0) {
            let _ = write!(html, " {} {};", escape(bars.name), (self.shown)(bars.counts[slot]));
        }
        html.push_str("</title>");
        let mut top = 100;
        for bars in self.series.iter().filter(|bars| bars.counts[slot] > 0) {
            let height = scaled(bars.counts[slot], most, 100).min(top);
            top -= height;
            let _ = write!(
                html,
                "<rect x=\"{}\" y=\"{top}\" width=\"9\" height=\"{height}\" {}/>",
                slot * 10,
                bars.fill.attribute()
            );
        }
        html.push_str("</g>\n");
    }

    /// The same figures as rows, the latest first; those of nothing are left out.
    pub(super) fn table(&self, caption: &str) -> String {
        let slots = self.slots();
        let names: Vec<_> = self.series.iter().map(|bars| escape(bars.name)).collect();
        let columns: Vec<_> = std::iter::once(words("When")).chain(names.iter().map(|name| numbers(name))).collect();
        let rows = (0..slots).rev().filter(|slot| self.sum(*slot) > 0).map(|slot| {
            let counts = self.series.iter().map(|bars| (self.shown)(bars.counts[slot]));
            std::iter::once(self.when(slot, slots)).chain(counts).collect()
        });
        let id = format!("{}-table", self.id);
        Grid { id: &id, caption, columns: &columns, rows: rows.collect(), stacks: false }.html()
    }

    fn slots(&self) -> usize {
        self.series.iter().map(|bars| bars.counts.len()).max().unwrap_or(0)
    }

    fn sum(&self, slot: usize) -> u64 {
        self.series.iter().map(|bars| bars.counts[slot]).sum()
    }

    fn when(&self, slot: usize, slots: usize) -> String {
        let minutes = self.slot_seconds / 60;
        let (from, until) = ((slots - slot) as u64 * minutes, (slots - slot - 1) as u64 * minutes);
        match until {
            0 => format!("the last {from} min"),
            _ if from > 120 => format!("{} to {} h ago", hours(from), hours(until)),
            _ => format!("{from} to {until} min ago"),
        }
    }

    fn label(&self, span: &str, most: u64, each: &str) -> String {
        let mut label = format!("{} in the last {span}: ", self.what);
        let sums: Vec<_> = self
            .series
            .iter()
            .map(|bars| format!("{} {}", escape(bars.name), (self.shown)(bars.counts.iter().sum())))
            .collect();
        if most == 0 {
            label.push_str("none.");
        } else {
            let _ = write!(label, "{}. At most {} in one {each}.", sums.join(", "), (self.shown)(most));
        }
        label
    }
}

fn span_one(seconds: u64) -> String {
    match seconds / 60 {
        1 => "minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

/// `2.25` of minutes, without zeros at the end.
fn hours(minutes: u64) -> String {
    let text = format!("{:.2}", minutes as f64 / 60.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `part` of `whole`, on a scale. Nothing that is there is too small to be seen.
fn scaled(part: u64, whole: u64, scale: u64) -> u64 {
    if part == 0 || whole == 0 {
        return 0;
    }
    let exact = u128::from(part) * u128::from(scale) / u128::from(whole);
    u64::try_from(exact).unwrap_or(scale).clamp(scale / 100, scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::dashboard::format::number;

    #[test]
    fn bars_stand_on_each_other_and_small_ones_are_seen() {
        let chart = Chart {
            id: "x",
            what: "Handshakes",
            slot_seconds: 60,
            series: vec![
                Bars { name: "<a>", fill: Fill::Plain(0), counts: &[0, 999, 50] },
                Bars { name: "b", fill: Fill::Striped(5), counts: &[0, 1, 50] },
            ],
            shown: number,
        };
        let svg = chart.svg();
        for part in [
            "<rect x=\"10\" y=\"1\" width=\"9\" height=\"99\" class=\"k0\"/>",
            "<rect x=\"10\" y=\"0\" width=\"9\" height=\"1\" fill=\"url(#stripes-5)\"/>",
            "<rect x=\"20\" y=\"95\" width=\"9\" height=\"5\" class=\"k0\"/>",
            "<rect x=\"20\" y=\"90\" width=\"9\" height=\"5\" fill=\"url(#stripes-5)\"/>",
            "<title>2 to 1 min ago: &lt;a&gt; 999; b 1;</title>",
            ": &lt;a&gt; 1,049, b 51. At most 1,000 in one minute.\"",
        ] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 4, "nothing for a slot of nothing");
        let table = chart.table("All");
        assert!(table.contains("the last 1 min</th><td role=\"cell\" data-label=\"&lt;a&gt;\""), "{table}");
        assert_eq!(table.matches("<tr ").count(), 3, "nothing for a slot of nothing");
    }

    #[test]
    fn every_striped_colour_has_its_pattern() {
        let patterns = patterns();
        let names = super::super::history::group_names().chain(super::super::history::scheme_names());
        for name in names.filter(|name| !name.contains("MLKEM") && !name.starts_with("mldsa")) {
            for post_quantum in [None, Some(false)] {
                let line = Line { name, post_quantum, counts: Vec::new() };
                if let Fill::Striped(colour) = Fill::of(&line) {
                    assert!(patterns.contains(&format!("id=\"stripes-{colour}\"")), "{name}");
                }
            }
        }
        assert!(patterns.contains("stripes-15"));
    }

    #[test]
    fn a_share_fills_the_bar() {
        let bar = share(&[(999, POST_QUANTUM), (1, CLASSICAL)], "x");
        assert!(bar.contains("width=\"999\"") && bar.contains("<rect x=\"999\" width=\"1\""), "{bar}");
        assert!(!share(&[(0, POST_QUANTUM), (0, CLASSICAL)], "x").contains("k14"));
    }
}
