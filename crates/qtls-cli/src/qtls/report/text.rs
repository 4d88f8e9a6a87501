//! The answer for people.

use std::fmt::Write;

use super::read::Read;
use super::tally::{Broken, Rows, Sum, Tally};
use super::tries::Tries;

/// The whole answer. `limit` is how many networks and names are shown for each cause.
pub(super) fn report(read: &Read, tally: &Tally, tries: &Tries<'_>, notes: &[String], limit: usize) -> String {
    let mut text = String::new();
    let Tally { connections, post_quantum, clients, networks, failed, .. } = tally;
    let period = match (tally.first, tally.last) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => String::new(),
    };
    line(&mut text, 0, &format!("{period}, {}", counted(read.files as u64, "log")));
    let refused: u64 = failed.values().sum();
    line(
        &mut text,
        0,
        &format!(
            "{}, {}; from {clients} addresses in {networks} networks; {} % post-quantum",
            counted(*connections, "connection"),
            bytes(tally.bytes),
            percent(*post_quantum, *connections)
        ),
    );
    if refused > 0 {
        let reasons: Vec<_> = failed.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let handshakes = counted(refused, "handshake");
        line(&mut text, 0, &format!("{handshakes} not completed as it is: {}", reasons.join(", ")));
    }
    for note in notes {
        line(&mut text, 0, &format!("note: {note}"));
    }
    for (name, broken) in tries.names().zip(&tally.broken) {
        text.push('\n');
        one(&mut text, name, broken, *connections, limit);
    }
    text
}

fn one(text: &mut String, name: &str, broken: &Broken, connections: u64, limit: usize) {
    if broken.connections == 0 {
        return line(text, 0, &format!("{name}: nobody would break"));
    }
    line(
        text,
        0,
        &format!(
            "{name}: {} of {} addresses would break ({} %), {}",
            counted(broken.connections, "connection"),
            broken.clients,
            percent(broken.connections, connections),
            bytes(broken.bytes)
        ),
    );
    for Rows { cause, sum, rows, others } in broken.rows() {
        let likely = if cause.likely.is_empty() {
            "a client that is not known by its offer".to_owned()
        } else {
            format!("like {}", cause.likely.join(" or "))
        };
        line(text, 2, &format!("{}, {likely}", counted(sum.connections, "connection")));
        for (lacks, advice) in cause.lacks.iter().zip(&cause.advice) {
            line(text, 4, lacks);
            line(text, 6, &format!("→ {advice}"));
        }
        for (network, server_name, sum) in rows.iter().take(limit) {
            let name = server_name.unwrap_or("(no name)");
            line(text, 4, &row(&format!("{network}"), name, *sum));
        }
        if let Some(rest) = rows.get(limit..).filter(|rest| !rest.is_empty()) {
            let sum = rest.iter().fold(Sum::default(), |sum, (_, _, one)| sum.plus(*one));
            line(text, 4, &row(&format!("and {} others", rest.len()), "", sum));
        }
        if others.connections > 0 {
            line(text, 4, &row("and more, too many to tell apart", "", others));
        }
    }
    if broken.others.connections > 0 {
        line(
            text,
            2,
            &format!("{} of more kinds than can be told apart", counted(broken.others.connections, "connection")),
        );
    }
}

fn row(network: &str, name: &str, sum: Sum) -> String {
    let place = format!("{network:<20} {name}");
    format!("{place:<51} {:>10} {:>12}", sum.connections, bytes(sum.bytes))
}

/// A line, indented, without blanks at its end.
fn line(text: &mut String, indent: usize, content: &str) {
    // Writing to a string never fails.
    let _ = writeln!(text, "{:indent$}{}", "", content.trim_end());
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// With one decimal; 100.0 and 0.0 only where it is all or none.
fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    let tenths = if part > 0 { tenths.max(1) } else { 0 };
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let exponent = (count.ilog2() / 10).min(5);
    let tenths = (u128::from(count) * 10) >> (10 * exponent);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[exponent as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_and_none_are_never_rounded_to() {
        assert_eq!(percent(0, 10), "0.0");
        assert_eq!(percent(1, 1_000_000), "0.1");
        assert_eq!(percent(999_999, 1_000_000), "99.9");
        assert_eq!(percent(10, 10), "100.0");
        assert_eq!(percent(0, 0), "0.0");
    }

    #[test]
    fn bytes_in_units_of_1024() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
        assert_eq!(bytes(u64::MAX), "16383.9 PiB");
    }
}
