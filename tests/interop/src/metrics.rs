//! The Prometheus endpoint as a scraper sees it.

use std::collections::BTreeMap;

use crate::wire;

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Scrapes `127.0.0.1:port/metrics`.
    ///
    /// # Panics
    /// When there is no answer, or it isn't the text format.
    #[track_caller]
    pub fn scrape(port: u16) -> Self {
        let response = wire::http_get(port, "/metrics");
        assert!(response.status == 200, "status {} from /metrics:\n{}", response.status, response.body);
        Self::read(&response.body)
    }

    /// Takes apart what was scraped in another way.
    ///
    /// # Panics
    /// When it is damaged.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self { samples: samples.map(Sample::parse).collect(), text: text.to_owned() }
    }

    /// The sum over every sample of `name` that has all of `labels`; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has =
            |sample: &Sample| labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value));
        self.samples.iter().filter(|sample| sample.name == name && has(sample)).map(|sample| sample.value).sum()
    }

    /// Whether there is any sample of `name`.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// The values of one label, over the samples of `name` that aren't 0.
    pub fn labels(&self, name: &str, label: &str) -> Vec<&str> {
        let counted = self.samples.iter().filter(|sample| sample.name == name && sample.value != 0.0);
        counted.filter_map(|sample| sample.labels.get(label).map(String::as_str)).collect()
    }

    /// Every value of every label: the names of metric and label, and the value.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.samples.iter().flat_map(|sample| {
            sample.labels.iter().map(|(label, value)| (sample.name.as_str(), label.as_str(), value.as_str()))
        })
    }

    /// The text as it came, for messages.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("not a value: {line}"));
        let Some((name, labels)) = series.split_once('{') else {
            return Self { name: series.to_owned(), labels: BTreeMap::new(), value };
        };
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("labels don't end: {line}"));
        Self { name: name.to_owned(), labels: parse_labels(labels), value }
    }
}

/// `a="x",b="y \"z\""`.
fn parse_labels(mut rest: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((key, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        rest = loop {
            match characters.next() {
                Some((end, '"')) => break &quoted[end + 1..],
                Some((_, '\\')) => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => panic!("a label ends in an escape: {quoted}"),
                },
                Some((_, character)) => value.push(character),
                None => panic!("a label doesn't end: {quoted}"),
            }
        };
        labels.insert(key.trim_start_matches(',').to_owned(), value);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_label() {
        let lines = ["a{x=\"1\",y=\"p, \\\"q\\\"\"} 2", "a{x=\"2\",y=\"\"} 3", "b 4.5"];
        let metrics = Metrics { samples: lines.into_iter().map(Sample::parse).collect(), text: String::new() };
        assert_eq!(metrics.sum("a", &[]), 5.0);
        assert_eq!(metrics.sum("a", &[("y", "p, \"q\"")]), 2.0);
        assert_eq!(metrics.sum("b", &[]), 4.5);
        assert_eq!(metrics.sum("a", &[("z", "1")]), 0.0);
        assert_eq!(metrics.labels("a", "x"), ["1", "2"]);
        assert!(metrics.has("b") && !metrics.has("c"));
    }
}
