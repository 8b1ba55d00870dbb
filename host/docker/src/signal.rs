//! Signals to processes in containers.

/// What can be sent to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// INT: as by Ctrl-C.
    Interrupt,
    /// TERM: please end.
    Terminate,
    /// KILL.
    Kill,
}

impl Signal {
    /// As `kill` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
        }
    }
}
