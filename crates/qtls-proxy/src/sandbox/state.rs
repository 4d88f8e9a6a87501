//! Which parts of the sandbox are in force, and why the others are not.

use std::fmt;

/// What can be taken from a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Being root.
    User,
    /// Capabilities, and every way to get some.
    Capabilities,
    /// Getting privileges by running a program.
    NewPrivileges,
    /// Files outside of the directories that the configuration names (Landlock).
    Files,
    /// Listening on TCP ports, and connecting to others than the upstream's (Landlock).
    Network,
    /// System calls that a server has no use for (seccomp).
    SystemCalls,
    /// Leaving memory behind in a core dump, or showing it to a debugger.
    CoreDumps,
}

impl Part {
    /// All of them, in the order of the log line.
    pub const ALL: [Self; 7] = [
        Self::User,
        Self::Capabilities,
        Self::NewPrivileges,
        Self::Files,
        Self::Network,
        Self::SystemCalls,
        Self::CoreDumps,
    ];

    /// The name in the log and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Capabilities => "capabilities",
            Self::NewPrivileges => "no_new_privileges",
            Self::Files => "files",
            Self::Network => "network",
            Self::SystemCalls => "system_calls",
            Self::CoreDumps => "no_core_dumps",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether one part is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InForce {
    /// It is; in what form, in a few words.
    Yes(String),
    /// Nobody asked for it; what is the case instead, in a few words.
    No(String),
    /// It was asked for, and the system refuses it: why, and the way out.
    Refused {
        /// Why.
        why: String,
        /// The way out.
        hint: &'static str,
    },
}

/// The state of all parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    parts: Vec<(Part, InForce)>,
}

impl State {
    /// The state in which `of` says of each part what is the case.
    pub(crate) fn new(of: impl Fn(Part) -> InForce) -> Self {
        Self { parts: Part::ALL.into_iter().map(|part| (part, of(part))).collect() }
    }

    /// Every part with what is the case.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &InForce)> {
        self.parts.iter().map(|(part, state)| (*part, state))
    }

    /// Whether a part is in force.
    pub fn has(&self, part: Part) -> bool {
        self.parts.iter().any(|(one, state)| *one == part && matches!(state, InForce::Yes(_)))
    }

    /// What was asked for and refused: which part, why, and the way out.
    pub fn refused(&self) -> impl Iterator<Item = (Part, &str, &'static str)> {
        self.parts.iter().filter_map(|(part, state)| match state {
            InForce::Refused { why, hint } => Some((*part, why.as_str(), *hint)),
            InForce::Yes(_) | InForce::No(_) => None,
        })
    }

    /// What was refused, with the reasons, and the ways out, each as one text; `None` where nothing was.
    pub fn refusals(&self) -> Option<(String, String)> {
        let mut reasons: Vec<String> = Vec::new();
        let mut hints: Vec<&str> = Vec::new();
        for (part, why, hint) in self.refused() {
            reasons.push(format!("{part} ({why})"));
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        (!reasons.is_empty()).then(|| (reasons.join(", "), hints.join("; ")))
    }
}

/// Part by part, as `user: qtls; capabilities: none; …`.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (part, state)) in self.parts.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            match state {
                InForce::Yes(what) | InForce::No(what) => write!(f, "{separator}{part}: {what}")?,
                InForce::Refused { .. } => write!(f, "{separator}{part}: refused")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_by_its_part_and_a_remedy_once() {
        let state = State::new(|part| match part {
            Part::Files | Part::Network => InForce::Refused { why: "ENOSYS".to_owned(), hint: "run a newer kernel" },
            Part::User => InForce::No("root".to_owned()),
            _ => InForce::Yes("in force".to_owned()),
        });
        assert!(!state.has(Part::Files) && !state.has(Part::User) && state.has(Part::SystemCalls));
        let expected = ("files (ENOSYS), network (ENOSYS)".to_owned(), "run a newer kernel".to_owned());
        assert_eq!(state.refusals(), Some(expected));
        assert_eq!(
            state.to_string(),
            "user: root; capabilities: in force; no_new_privileges: in force; files: refused; network: refused; \
             system_calls: in force; no_core_dumps: in force"
        );
        assert_eq!(State::new(|_| InForce::No("off".to_owned())).refusals(), None);
    }
}
