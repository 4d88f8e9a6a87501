//! From a client's bytes to an upstream's and back, over a pipe in place of TLS on one side and loopback TCP on the other.

mod failures;
mod flow;
mod forward;
mod h2_wire;
mod harness;
mod life;
mod limits;
mod multiplexed;
mod pages;
mod refusals;
mod resting;
mod walls;
mod websocket;
