//! From a name to its addresses: /etc/hosts, then DNS, as /etc/resolv.conf says.
//!
//! The files are read for each lookup: they are small, lookups are rare, and whoever changes them wants to see it.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use resolv_conf::{Config, ScopedIp};
use rustix::net::netdevice::name_to_index;
use simple_dns::TYPE;
use socket2::{Domain, Socket, Type};

use super::super::own::{LOOPBACK, is_localhost};
use super::exchange::{Outcome, Servers, ask};

/// How long what no DNS server told is kept: as long as a change of the file may go unseen.
const OF_FILES: Duration = Duration::from_secs(30);
/// As many as glibc asks (resolv.conf(5)).
const MOST_SERVERS: usize = 3;
/// As many as glibc tries.
const MOST_SUFFIXES: usize = 6;
/// The port of DNS.
const DNS: u16 = 53;

/// The addresses of a name, and how long they are good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct Answer {
    pub(in crate::upstream) addresses: Vec<IpAddr>,
    pub(in crate::upstream) ttl: Duration,
}

/// Looks names up.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct Resolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    /// The one DNS server to ask, whatever the files say.
    server: Option<SocketAddr>,
}

impl Resolver {
    /// One that asks `server`, or those of /etc/resolv.conf.
    pub(in crate::upstream) fn new(server: Option<SocketAddr>) -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into(), server }
    }

    #[cfg(test)]
    pub(super) fn with_files(directory: &Path, server: Option<SocketAddr>) -> Self {
        Self { hosts: directory.join("hosts"), resolv_conf: directory.join("resolv.conf"), server }
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// Why there is no address, in words.
    pub(in crate::upstream) async fn look_up(&self, host: &str) -> Result<Answer, String> {
        let of_files = |addresses| Ok(Answer { addresses, ttl: OF_FILES });
        let listed = self.listed(host);
        if !listed.is_empty() {
            return of_files(listed);
        }
        if is_localhost(host) {
            return of_files(LOOPBACK.to_vec());
        }
        let config = self.config();
        let servers = self.servers(&config);
        let mut trouble = None;
        for name in candidates(host, &config) {
            let (v4, v6) = tokio::join!(ask(&servers, &name, TYPE::A), ask(&servers, &name, TYPE::AAAA));
            let mut addresses = Vec::new();
            let mut ttl = Duration::MAX;
            for outcome in [v4, v6] {
                match outcome {
                    Outcome::Addresses(found, time) => {
                        addresses.extend(found);
                        ttl = ttl.min(time);
                    }
                    Outcome::None => {}
                    Outcome::Failed(why) => trouble = Some(why),
                }
            }
            if !addresses.is_empty() {
                return Ok(Answer { addresses, ttl });
            }
        }
        Err(trouble.unwrap_or_else(|| "there is no such name, or it has no address".to_owned()))
    }

    /// What /etc/hosts says (hosts(5)).
    fn listed(&self, host: &str) -> Vec<IpAddr> {
        let name = host.strip_suffix('.').unwrap_or(host);
        let text = fs::read(&self.hosts).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().split_ascii_whitespace());
        let named = lines.filter_map(|mut words| {
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        });
        named.collect()
    }

    fn config(&self) -> Config {
        let text = fs::read(&self.resolv_conf).unwrap_or_default();
        // What it doesn't understand, a resolver passes over.
        Config::parse_with_errors(&text).0
    }

    fn servers(&self, config: &Config) -> Servers {
        let addresses = match self.server {
            Some(server) => vec![server],
            None => {
                let all = config.get_nameservers_or_local();
                all.iter().filter_map(address).take(MOST_SERVERS).collect()
            }
        };
        Servers {
            addresses,
            timeout: Duration::from_secs(u64::from(config.timeout.clamp(1, 30))),
            attempts: config.attempts.clamp(1, 5),
        }
    }
}

fn address(server: &ScopedIp) -> Option<SocketAddr> {
    match server {
        ScopedIp::V4(address) => Some(SocketAddr::new((*address).into(), DNS)),
        ScopedIp::V6(address, None) => Some(SocketAddr::new((*address).into(), DNS)),
        // Of a link, by the number of its interface or by its name.
        ScopedIp::V6(address, Some(scope)) => {
            let by_name = || {
                let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).ok()?;
                name_to_index(&socket, scope).ok()
            };
            let index = scope.parse().ok().or_else(by_name)?;
            Some(SocketAddr::V6(SocketAddrV6::new(*address, DNS, 0, index)))
        }
    }
}

/// The full names that a name may stand for, in the order in which they are asked for (resolv.conf(5)).
fn candidates(host: &str, config: &Config) -> Vec<String> {
    if let Some(full) = host.strip_suffix('.') {
        return vec![full.to_owned()];
    }
    let suffixes = config.get_last_search_or_domain().take(MOST_SUFFIXES);
    let suffixes = suffixes.map(|suffix| suffix.trim_end_matches('.')).filter(|suffix| !suffix.is_empty());
    let mut names: Vec<_> = suffixes.map(|suffix| format!("{host}.{suffix}")).collect();
    let has_enough_dots = host.bytes().filter(|byte| *byte == b'.').count() >= config.ndots as usize;
    names.insert(if has_enough_dots { 0 } else { names.len() }, host.to_owned());
    names.retain(|name| name.len() <= 253);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse_with_errors(text.as_bytes()).0
    }

    #[test]
    fn names_are_completed_as_resolv_conf_says() {
        let search = config("search a.example b.example.\noptions ndots:2\n");
        assert_eq!(candidates("db", &search), ["db.a.example", "db.b.example", "db"]);
        assert_eq!(candidates("db.x", &search), ["db.x.a.example", "db.x.b.example", "db.x"]);
        assert_eq!(candidates("db.x.y", &search), ["db.x.y", "db.x.y.a.example", "db.x.y.b.example"]);
        assert_eq!(candidates("db.", &search), ["db"]);
        assert_eq!(candidates("db", &config("domain c.example\n")), ["db.c.example", "db"]);
        assert_eq!(candidates("db.x", &config("nonsense\nnameserver 192.0.2.1\n")), ["db.x"]);
    }

    #[test]
    fn servers_are_those_of_the_file_or_the_one_that_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let of = |text: &str, server: Option<&str>| {
            fs::write(directory.path().join("resolv.conf"), text).unwrap();
            let resolver = Resolver::with_files(directory.path(), server.map(|server| server.parse().unwrap()));
            let servers = resolver.servers(&resolver.config());
            servers.addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of("", None), ["127.0.0.1:53", "[::1]:53"], "as glibc has it");
        let many = "nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        assert_eq!(of(many, None), ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.3:53"]);
        assert_eq!(of("nameserver fe80::1%7\n", None), ["[fe80::1%7]:53"]);
        assert_eq!(of("nameserver fe80::1%lo\n", None), ["[fe80::1%1]:53"]);
        assert_eq!(of(many, Some("127.0.0.1:5353")), ["127.0.0.1:5353"]);
    }

    #[tokio::test]
    async fn hosts_come_first_and_localhost_needs_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = "127.0.0.1 localhost # a.test\n192.0.2.1\tA.test b.test\n2001:db8::1 a.test\nnonsense a.test\n";
        fs::write(directory.path().join("hosts"), hosts).unwrap();
        let resolver = Resolver::with_files(directory.path(), Some("127.0.0.1:1".parse().unwrap()));
        let answer = resolver.look_up("a.TEST.").await.unwrap();
        let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(answer, Answer { addresses: expected.to_vec(), ttl: OF_FILES });
        assert_eq!(resolver.look_up("x.localhost").await.unwrap().addresses, LOOPBACK);
    }
}
