//! What is seen of a server: logs for people, metrics for machines.

pub(crate) mod access;
pub mod audit;
pub(crate) mod dashboard;
pub(crate) mod exposition;
pub mod health;
pub mod logs;
pub mod metrics;
pub(crate) mod repeats;
pub mod view;
