//! The harness of the interop suites: runs the binaries of Q-TLS and real peers, and reads what each side says was
//! negotiated.
//!
//! Everything is on the loopback interface, on ports that the kernel chose, and within bounded time. A program that a
//! test started ends with the value that stands for it. `peers/setup.sh` installs the peers beforehand.

pub mod client;
pub mod curl;
pub mod metrics;
pub mod negotiated;
pub mod openssl;
pub mod peers;
pub mod pki;
pub mod process;
pub mod programs;
pub mod server;
pub mod trace;
pub mod upstreams;
pub mod wire;

pub use negotiated::Negotiated;
pub use pki::{Algorithm, Pki};
pub use process::{Finished, Running};
pub use server::Server;
