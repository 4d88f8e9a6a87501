//! What is seen of a server: logs for people, metrics for machines.

pub mod exposition;
pub mod logs;
pub mod metrics;
