//! Systems without any of it.

use qtls_core::Result;

use super::Settings;
use super::fence::Fence;
use super::needs::Needs;
use super::state::{InForce, Part, State};
use super::user::{self, Target};
use crate::config::Sandbox;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Process,
    Thread,
}

pub(super) fn apply(settings: &Settings, _: &Needs, _: Extent) -> Result<(State, Fence)> {
    if let Some(target) = &settings.target {
        return Err(user::refused(target, "this is done on Linux only"));
    }
    let state = State::new(|part| match (part, settings.mode) {
        (Part::User, _) => InForce::No(settings.account.to_string()),
        (_, Sandbox::Off) => InForce::No("not restricted".to_owned()),
        _ => InForce::Refused { why: "this is not Linux".to_owned(), hint: "run the server on Linux" },
    });
    Ok((state, Fence::none()))
}

pub(super) fn with_later_rights<T>(_: Option<&Target>, act: impl FnOnce() -> T) -> Result<T> {
    Ok(act())
}
