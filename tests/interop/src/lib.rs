//! The harness of the interop suites: runs the binaries of Q-TLS and real peers, and reads what each side says was
//! negotiated.
//!
//! Everything is on the loopback interface, on ports that the kernel chose, and within bounded time. A program that a
//! test started ends with the value that stands for it. `peers/setup.sh` installs the peers beforehand.

pub mod authority;
pub mod backends;
pub mod c_programs;
pub mod client;
pub mod clock;
pub mod cmake;
pub mod curl;
pub mod documents;
pub mod handover;
pub mod haproxy;
pub mod hosts;
pub mod load;
pub mod log;
pub mod metrics;
pub mod negotiated;
pub mod openssl;
pub mod peers;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod proxy_protocol;
pub mod rogue;
pub mod secrets;
pub mod server;
pub mod siege;
pub mod systemd;
pub mod tls_nginx;
pub mod trace;
pub mod tunnel;
pub mod upstreams;
pub mod wire;

pub use negotiated::Negotiated;
pub use pki::{Algorithm, Pki};
pub use process::{Finished, Running};
pub use server::Server;
pub use tunnel::Tunnel;
