//! `Strict-Transport-Security` (RFC 6797): browsers that have seen it ask by https only.

use bytes::Bytes;
use http::HeaderValue;

use crate::config::Hsts;

/// The field's value.
pub(super) fn value(hsts: &Hsts) -> HeaderValue {
    let Hsts { max_age, include_subdomains, preload } = hsts;
    let mut text = format!("max-age={}", max_age.as_secs());
    if *include_subdomains {
        text.push_str("; includeSubDomains");
    }
    if *preload {
        text.push_str("; preload");
    }
    // Digits and letters are always valid.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("max-age=0"))
}
