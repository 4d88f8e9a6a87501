//! `server.json` and `client.json`, ready to be used and to be edited.

use std::path::{Path, PathBuf};

use qtls_core::policy::{KeyAlgorithm, Named};
use qtls_core::{Error, Result};

use super::{ALGORITHMS, CA_BUNDLE, CLIENT_CONFIG, Options, SERVER_CONFIG};
use crate::directory::{Content, Target};
use crate::names::ServerName;

/// Both configurations, with absolute paths.
pub(super) fn configurations(target: &Target, options: &Options, names: &[ServerName]) -> Result<[Content; 2]> {
    let path = |file: &str| quoted_path(&target.path(file));
    let connect_to = &names.first().ok_or_else(|| Error::internal("no name to configure"))?.example();
    let (made, ca_bundle, signature) = (made_for(names), path(CA_BUNDLE)?, signatures(options.algorithm));
    let port = options.listen.port().to_string();
    let server = fill(
        SERVER,
        &[
            ("made", &made),
            ("listen_address", &quoted(&options.listen.ip().to_string())),
            ("listen_port", &port),
            ("server_cert", &path("server-cert.pem")?),
            ("server_key", &path("server-key.pem")?),
            ("ca_bundle", &ca_bundle),
            ("signature", &signature),
            ("metrics_address", &quoted(&options.metrics.ip().to_string())),
            ("metrics_port", &options.metrics.port().to_string()),
        ],
    )?;
    let client = fill(
        CLIENT,
        &[
            ("made", &made),
            ("server_host", &quoted(&connect_to.to_string())),
            ("server_port", &port),
            ("client_cert", &path("client-cert.pem")?),
            ("client_key", &path("client-key.pem")?),
            ("ca_bundle", &ca_bundle),
            ("signature", &signature),
        ],
    )?;
    Ok([Content::public(SERVER_CONFIG, server), Content::public(CLIENT_CONFIG, client)])
}

const SERVER: &str = r#"// A Q-TLS server, made by `qtls quickstart` for @made@.
// Check it after every change: qtls-server --test-config --config THIS_FILE
{
  "server": {
    "listen_address": @listen_address@,
    "listen_port": @listen_port@
  },
  "tls": {
    "protocol_version": "1.3",
    "hybrid_mode": true,                      // post-quantum and classical key exchange combined
    "pqc_only": false                         // true refuses clients without post-quantum key exchange
  },
  "certificates": {
    "server_cert": @server_cert@,
    "server_key": @server_key@,
    "ca_bundle": @ca_bundle@,
    "verify_client": false                    // true lets in only clients with a certificate of this CA
  },
  "algorithms": {
    "signature": @signature@
  },
  // Without an upstream the server answers by itself, with a page on the visitor's own connection. To serve a program:
  // "upstream": { "protocol": "http", "servers": ["127.0.0.1:8080"] },
  "metrics": {
    "enabled": true,
    "address": @metrics_address@,
    "port": @metrics_port@,
    "path": "/metrics"
  }
}
"#;

const CLIENT: &str = r#"// A Q-TLS client, made by `qtls quickstart` for @made@.
{
  "client": {
    "server_host": @server_host@,
    "server_port": @server_port@
  },
  "tls": {
    "protocol_version": "1.3",
    "hybrid_mode": true,                      // post-quantum and classical key exchange combined
    "pqc_only": false,                        // true refuses servers without post-quantum key exchange
    "server_name_indication": true,
    "verify_peer": true
  },
  "certificates": {
    "client_cert": @client_cert@,
    "client_key": @client_key@,
    "ca_bundle": @ca_bundle@
  },
  "algorithms": {
    "signature": @signature@
  }
}
"#;

/// Puts the values in between the `@`s, in one pass: what a value holds is never taken for a place.
fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    template
        .split('@')
        .enumerate()
        .map(|(index, part)| match index % 2 {
            0 => Ok(part),
            _ => values
                .iter()
                .find(|(key, _)| *key == part)
                .map(|(_, value)| *value)
                .ok_or_else(|| Error::internal(format!("a configuration template asks for `{part}`"))),
        })
        .collect()
}

/// All the algorithms of this infrastructure, that of the plain names first: whichever certificate is put in, it is
/// allowed.
fn signatures(plain: KeyAlgorithm) -> String {
    let mut names = vec![quoted(plain.name())];
    names.extend(ALGORITHMS.iter().filter(|algorithm| **algorithm != plain).map(|algorithm| quoted(algorithm.name())));
    format!("[{}]", names.join(", "))
}

fn made_for(names: &[ServerName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> Result<String> {
    let unusable = |why: &str| {
        Error::configuration(format!("can't be written in a configuration: {why}"))
            .at(path.parent().map_or_else(PathBuf::new, PathBuf::from).display())
            .hint("choose another directory")
    };
    let text = path.to_str().ok_or_else(|| unusable("the path is not UTF-8"))?;
    if text.contains("${") {
        return Err(unusable("`${` would be taken for a variable"));
    }
    Ok(quoted(text))
}
