//! The new process' side of a hand-over, spoken by a test, which may stop at any word.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketType, connect, recvmsg, sendmsg, socket,
};
use serde_json::{Value, json};

use crate::process::PATIENCE;

/// A process that asks to take over.
#[derive(Debug)]
pub struct Guest {
    socket: OwnedFd,
    /// The descriptors that it was given.
    pub descriptors: Vec<OwnedFd>,
}

impl Guest {
    /// Connects to the hand-over socket at `path`.
    ///
    /// # Panics
    /// When nobody listens there.
    #[track_caller]
    pub fn connect(path: &Path) -> Self {
        let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).expect("there are descriptors left");
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).expect("a time-out above 0");
        let address = SocketAddrUnix::new(path).expect("a short path");
        connect(&socket, &address).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { socket, descriptors: Vec::new() }
    }

    /// Introduces itself.
    pub fn hello(&self) {
        self.say(&json!({ "message": "hello", "protocols": [1], "version": "0.0.1", "control_group": null }));
    }

    /// Takes what is offered, with all descriptors, and returns the roles of these.
    ///
    /// # Panics
    /// When nothing is offered.
    #[track_caller]
    pub fn offer(&mut self) -> Vec<String> {
        let offer = self.hear();
        assert_eq!(offer["message"], "offer", "{offer}");
        let count = offer["descriptors"].as_u64().expect("a number");
        let mut roles = Vec::new();
        while (roles.len() as u64) < count {
            let message = self.hear();
            let what = message["what"].as_array().unwrap_or_else(|| panic!("no descriptors: {message}"));
            roles.extend(what.iter().map(|role| role.as_str().unwrap_or_default().to_owned()));
        }
        assert_eq!(self.descriptors.len(), roles.len());
        roles
    }

    /// Says anything.
    pub fn say(&self, message: &Value) {
        let packet = message.to_string();
        let mut nothing = SendAncillaryBuffer::default();
        sendmsg(&self.socket, &[IoSlice::new(packet.as_bytes())], &mut nothing, SendFlags::NOSIGNAL)
            .expect("the old process listens");
    }

    /// The next thing that the old process says.
    ///
    /// # Panics
    /// When it says nothing within [`PATIENCE`].
    #[track_caller]
    pub fn hear(&mut self) -> Value {
        let mut packet = vec![0; 65_536];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut packet)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
                .unwrap_or_else(|error| panic!("the old process is silent: {error}"));
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        assert!(received.bytes > 0, "the old process has ended the conversation");
        serde_json::from_slice(&packet[..received.bytes]).expect("JSON")
    }
}
