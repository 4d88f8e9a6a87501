//! `qtls-client` as a program, against servers that these tests make from plain rustls.
//!
//! Marked as tests throughout, so that the lints' leave for tests holds in their helpers too.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod conversation;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod http;
#[cfg(test)]
mod program;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod server;
