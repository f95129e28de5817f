//! Who may use the control socket.

use std::fmt;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlPolicy {
    /// The socket's group; that of the process where there is none.
    pub group: Option<String>,
    /// Who may ask, beside those who may change something; without it everybody who can open the socket.
    pub read: Option<Vec<Principal>>,
    /// Who may change something; without it everybody who can open the socket, or nobody where `read` says who may ask.
    pub change: Option<Vec<Principal>>,
}

/// A name or a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    User(String),
    Group(String),
}

impl fmt::Display for Principal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => out.write_str(name),
            Self::Group(name) => write!(out, "@{name}"),
        }
    }
}
