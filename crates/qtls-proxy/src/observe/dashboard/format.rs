//! Figures as people read them, in HTML.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

use qtls_core::credentials::date;

pub(super) use crate::http::escape;

/// A figure as it is shown, with its exact value for programs, and its place in `/dashboard.json` as a JSON pointer.
pub(super) fn figure(pointer: &str, value: impl Display, shown: &str) -> String {
    format!("<data data-figure=\"{pointer}\" value=\"{value}\">{shown}</data>")
}

/// A count in `/dashboard.json`.
pub(super) fn count_figure(pointer: &str, count: u64) -> String {
    figure(pointer, count, &number(count))
}

/// `1,234,567`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1.5 KiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 has the next unit.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `98.7 %`. Neither all nor nothing where it isn't.
pub(super) fn percent(part: u64, of: u64) -> String {
    match (part, of) {
        (_, 0) => "–".to_owned(),
        (0, _) => "0 %".to_owned(),
        (part, of) if part >= of => "100 %".to_owned(),
        (part, of) => {
            let share = part as f64 / of as f64 * 100.0;
            if share < 0.1 {
                "&lt; 0.1 %".to_owned()
            } else if share > 99.9 {
                "&gt; 99.9 %".to_owned()
            } else {
                format!("{share:.1} %")
            }
        }
    }
}

/// `3 d 4 h`, in the two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// `1.3 ms`.
pub(super) fn short_time(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

/// A moment, as `2026-11-22 09:30:00 UTC`.
pub(super) fn moment(seconds: u64) -> String {
    let exact = date(UNIX_EPOCH + Duration::from_secs(seconds));
    let shown = exact.replace('T', " ").replace('Z', " UTC");
    format!("<time datetime=\"{exact}\">{shown}</time>")
}

/// How long ago a moment was.
pub(super) fn ago(seconds: u64, now: u64) -> String {
    let exact = date(UNIX_EPOCH + Duration::from_secs(seconds));
    format!("<time datetime=\"{exact}\">{} ago</time>", duration(now.saturating_sub(seconds)))
}

/// Text that may be long, as HTML.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    escape(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_rounded_as_people_expect() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 1_048_570, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "1.0 MiB", "5.0 GiB"]);
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!([59, 61, 3660, 90_000].map(duration), ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([0.00042, 0.0123, 2.0].map(short_time), ["420 µs", "12.3 ms", "2.0 s"]);
    }

    #[test]
    fn a_share_is_never_rounded_to_all_or_nothing() {
        assert_eq!(percent(0, 0), "–");
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(10, 10), "100 %");
        assert_eq!(percent(99_999, 100_000), "&gt; 99.9 %");
        assert_eq!(percent(1, 100_000), "&lt; 0.1 %");
        assert_eq!(percent(1, 3), "33.3 %");
    }

    #[test]
    fn moments_say_their_zone() {
        assert_eq!(moment(0), "<time datetime=\"1970-01-01T00:00:00Z\">1970-01-01 00:00:00 UTC</time>");
    }
}
