//! A report for people.

use std::fmt::Write;

use qtls_pki::inspect::{CertificateReport, CrlReport, Item, KeyReport, PublicKeyReport, Report, RequestReport};

use super::server::Connection;

/// The longest list of revocations that is shown whole.
const SHOWN: usize = 20;

pub(super) fn render(connection: Option<&Connection>, report: &Report) -> String {
    let mut page = Page::default();
    if let Some(connection) = connection {
        page.title(&connection.address);
        let quantum = if connection.post_quantum { "post-quantum" } else { "not post-quantum" };
        page.row("group", &format!("{}, {quantum}", connection.group));
        page.row("suite", connection.suite);
        page.row("signature", &connection.scheme);
        page.row("verified", "no: this only shows what the server sent");
    }
    let certificates = report.items.iter().filter(|item| matches!(item, Item::Certificate(_))).count();
    let mut number = 0;
    for item in &report.items {
        match item {
            Item::Certificate(certificate) => {
                number += 1;
                page.title(&if certificates > 1 { format!("certificate {number}") } else { "certificate".to_owned() });
                page.certificate(certificate);
            }
            Item::Request(request) => page.request(request),
            Item::Crl(list) => page.list(list),
            Item::PrivateKey(key) => page.key("private key", key),
            Item::PublicKey(key) => page.key("public key", key),
            Item::Unreadable(other) => page.title(&other.label),
        }
        for problem in item.problems() {
            page.row("problem", problem);
        }
    }
    if !report.problems.is_empty() {
        page.title("together");
        for problem in &report.problems {
            page.row("problem", problem);
        }
    }
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn title(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(title);
        self.0.push('\n');
    }

    fn row(&mut self, name: &str, value: &str) {
        // Writing into a String never fails. A line break of a peer's making must not look like a row of ours.
        let _ = writeln!(self.0, "  {name:<11} {}", value.replace(['\n', '\r'], " "));
    }

    fn rows(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.row(name, &values.join(", "));
        }
    }

    fn certificate(&mut self, report: &CertificateReport) {
        self.row("subject", if report.subject.is_empty() { "none" } else { &report.subject });
        self.rows("names", &report.names);
        self.row("issuer", if report.self_issued { "itself" } else { &report.issuer });
        let left = match report.days_left {
            days if days < 0 => "over".to_owned(),
            1 => "1 day left".to_owned(),
            days => format!("{days} days left"),
        };
        self.row("valid", &format!("{} to {}, {left}", report.not_before, report.not_after));
        self.public_key(&report.key);
        self.row("signed with", &report.signature_algorithm);
        if report.authority {
            let below = report.path_length.map_or_else(
                || "any number of CAs below it".to_owned(),
                |count| if count == 0 { "no CA below it".to_owned() } else { format!("at most {count} CAs below it") },
            );
            self.row("CA", &below);
        }
        if let Some(usage) = &report.key_usage {
            self.row("usage", &usage.join(", "));
        }
        self.rows("purposes", report.extended_key_usage.as_deref().unwrap_or_default());
        self.rows("only names", &report.permitted_names);
        self.rows("no names", &report.excluded_names);
        self.rows("CRL", &report.crl_urls);
        self.rows("issuer at", &report.issuer_urls);
        self.rows("OCSP", &report.ocsp_urls);
        self.row("serial", &report.serial);
        self.row("SHA-256", &report.sha256);
        self.row("SPKI", &format!("SHA-256 {}", report.key.spki_sha256));
    }

    fn public_key(&mut self, key: &PublicKeyReport) {
        let quantum = if key.post_quantum { "post-quantum" } else { "not post-quantum" };
        let strength = key.strength.as_ref().map(|strength| format!(", {strength}, {quantum}")).unwrap_or_default();
        self.row("key", &format!("{}{strength}", key.kind));
    }

    fn request(&mut self, report: &RequestReport) {
        self.title("certification request");
        self.row("subject", if report.subject.is_empty() { "none" } else { &report.subject });
        self.rows("names", &report.names);
        self.public_key(&report.key);
        self.row("signed with", &format!("{}, by its own key: holds", report.signature_algorithm));
        self.rows("also asks", &report.ignored);
        self.row("SPKI", &format!("SHA-256 {}", report.key.spki_sha256));
    }

    fn list(&mut self, report: &CrlReport) {
        self.title("revocation list");
        self.row("issuer", &report.issuer);
        self.row("number", report.number.as_deref().unwrap_or("none"));
        self.row(
            "valid",
            &format!("{} to {}", report.this_update, report.next_update.as_deref().unwrap_or("not told")),
        );
        self.row("signed with", &report.signature_algorithm);
        self.row("revoked", &report.revoked.len().to_string());
        for entry in report.revoked.iter().take(SHOWN) {
            self.row("", &format!("{} on {}: {}", entry.serial, entry.at, entry.reason));
        }
        if report.revoked.len() > SHOWN {
            self.row("", &format!("and {} more: --json has them all", report.revoked.len() - SHOWN));
        }
    }

    fn key(&mut self, title: &str, report: &KeyReport) {
        self.title(title);
        self.row("format", report.format);
        if let Some(key) = &report.key {
            self.public_key(key);
            self.row("SPKI", &format!("SHA-256 {}", key.spki_sha256));
        }
    }
}
