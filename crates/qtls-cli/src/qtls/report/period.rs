//! The period that a report is about.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use qtls_core::credentials::date;
use qtls_core::{Error, Result};

use super::line::Time;

/// A point in time as the command line gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(Time),
    Ago(Duration),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ago = || {
            let (number, seconds) = [('d', 86_400), ('h', 3600), ('m', 60)]
                .iter()
                .find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)))?;
            Some(Duration::from_secs(number.parse::<u32>().ok()?.checked_mul(seconds)?.into()))
        };
        if let Some(ago) = ago() {
            return Ok(Self::Ago(ago));
        }
        // What is left out at the end is zero.
        let full = match text.len() {
            10 => format!("{text}T00:00:00.000Z"),
            17 if text.ends_with('Z') => format!("{}:00.000Z", &text[..16]),
            20 if text.ends_with('Z') => format!("{}.000Z", &text[..19]),
            _ => text.to_owned(),
        };
        let in_range = |range: std::ops::Range<usize>, least: u32, most: u32| {
            full.get(range)
                .and_then(|digits| digits.parse().ok())
                .is_some_and(|number| (least..=most).contains(&number))
        };
        let possible = in_range(5..7, 1, 12) && in_range(8..10, 1, 31) && in_range(11..13, 0, 23);
        let possible = possible && in_range(14..16, 0, 59) && in_range(17..19, 0, 59);
        Time::read(&full).filter(|_| possible).map(Self::At).ok_or_else(|| {
            "give a day (2026-11-22), a time in UTC (2026-11-22T10:00:00Z), or how long ago (7d, 12h, 30m)".to_owned()
        })
    }
}

/// From a time on, and up to but without another.
#[derive(Debug)]
pub(super) struct Period {
    since: Option<Time>,
    until: Option<Time>,
}

impl Period {
    /// # Errors
    /// It ends before it begins.
    pub(super) fn new(since: Option<Moment>, until: Option<Moment>) -> Result<Self> {
        let now = SystemTime::now();
        let time = |moment: Moment| match moment {
            Moment::At(time) => Some(time),
            // Before 1970 nothing was logged.
            Moment::Ago(ago) => Time::read(&date(now.checked_sub(ago)?).replace('Z', ".000Z")),
        };
        let (since, until) = (since.and_then(time), until.and_then(time));
        match (since, until) {
            (Some(first), Some(last)) if first >= last => {
                Err(Error::configuration(format!("the period ends ({last}) before it begins ({first})"))
                    .at("--until")
                    .hint("exchange --since and --until"))
            }
            _ => Ok(Self { since, until }),
        }
    }

    /// Whether a time is within.
    pub(super) fn has(&self, time: Time) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> String {
        match text.parse::<Moment>().unwrap() {
            Moment::At(time) => time.to_string(),
            Moment::Ago(ago) => format!("{} s ago", ago.as_secs()),
        }
    }

    #[test]
    fn days_times_and_how_long_ago() {
        for (text, time) in [
            ("2026-11-22", "2026-11-22T00:00:00.000Z"),
            ("2026-11-22T10:05Z", "2026-11-22T10:05:00.000Z"),
            ("2026-11-22T10:05:07Z", "2026-11-22T10:05:07.000Z"),
            ("2026-11-22T10:05:07.089Z", "2026-11-22T10:05:07.089Z"),
            ("7d", "604800 s ago"),
            ("12h", "43200 s ago"),
            ("30m", "1800 s ago"),
        ] {
            assert_eq!(at(text), time);
        }
        for text in ["", "yesterday", "2026-13-01", "2026-11-22T25:00:00Z", "2026-11-22 10:00", "d", "-1d", "99999999d"]
        {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_end_is_not_within() {
        let period = Period::new("2026-11-22".parse().ok(), "2026-11-23".parse().ok()).unwrap();
        let has = |text: &str| period.has(Time::read(text).unwrap());
        assert!(has("2026-11-22T00:00:00.000Z") && has("2026-11-22T23:59:59.999Z"));
        assert!(!has("2026-11-21T23:59:59.999Z") && !has("2026-11-23T00:00:00.000Z"));
        let error = Period::new("2026-11-23".parse().ok(), "2026-11-23".parse().ok()).unwrap_err();
        assert!(error.to_string().starts_with("--until: the period ends (2026-11-23T00:00:00.000Z) before it begins"));
    }
}
