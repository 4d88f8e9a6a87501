//! The metrics at one moment, to be written out or added up.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily};
use prometheus::{Encoder, TextEncoder};

use super::table::{Kind, Row};

/// The metrics at one moment.
#[derive(Debug)]
pub struct Reading(Vec<MetricFamily>);

impl Reading {
    /// The content type of [`text`](Self::text).
    pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

    pub(super) fn new(families: Vec<MetricFamily>) -> Self {
        Self(families)
    }

    /// The text format of Prometheus.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory fails for metrics without a name only.
        let _ = TextEncoder::new().encode(&self.0, &mut text);
        text
    }

    /// The sum of a counter or gauge over all samples that have `labels`; 0 where there is none.
    pub fn sum(&self, row: &Row, labels: &[(&str, &str)]) -> f64 {
        self.samples(row).filter(|sample| has(sample, labels)).map(|sample| value(row, sample)).sum()
    }

    /// The sums of a counter or gauge over all samples that have `labels`, by the value of one more label.
    pub fn by(&self, row: &Row, label: &str, labels: &[(&str, &str)]) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.samples(row).filter(|sample| has(sample, labels)) {
            let key = sample.get_label().iter().find(|pair| pair.name() == label).map_or("", |pair| pair.value());
            *sums.entry(key.to_owned()).or_insert(0.0) += value(row, sample);
        }
        sums
    }

    /// How many values a histogram has seen that have `labels`, and their sum.
    pub fn seen(&self, row: &Row, labels: &[(&str, &str)]) -> (u64, f64) {
        self.samples(row).filter(|sample| has(sample, labels)).fold((0, 0.0), |(count, sum), sample| {
            let histogram = sample.get_histogram();
            (count + histogram.get_sample_count(), sum + histogram.get_sample_sum())
        })
    }

    fn samples(&self, row: &Row) -> impl Iterator<Item = &Metric> {
        let family = self.0.iter().find(|family| family.name() == row.name);
        family.into_iter().flat_map(MetricFamily::get_metric)
    }
}

fn has(sample: &Metric, labels: &[(&str, &str)]) -> bool {
    let there = |(name, value): &(&str, &str)| {
        sample.get_label().iter().any(|pair| pair.name() == *name && pair.value() == *value)
    };
    labels.iter().all(there)
}

fn value(row: &Row, sample: &Metric) -> f64 {
    match row.kind {
        Kind::Counter => sample.get_counter().get_value(),
        Kind::Gauge => sample.get_gauge().get_value(),
        Kind::Histogram(_) => 0.0,
    }
}
