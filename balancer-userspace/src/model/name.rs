//! Names of services and backends. They become metric labels, file names and command arguments, so their
//! alphabet is small.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

const LONGEST: usize = 63;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name is 1 to {LONGEST} characters long")]
    Length,
    #[error(
        "a name holds letters, digits, `-`, `_` and `.`, and starts with a letter or digit; {0:?} is none of these"
    )]
    Character(char),
    #[error("{0:?} names no backend; write SERVICE/BACKEND, for example web/web-1")]
    NoSlash(String),
}

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() || text.len() > LONGEST {
        return Err(NameError::Length);
    }
    let allowed = |(i, c): &(usize, char)| c.is_ascii_alphanumeric() || (*i > 0 && "-_.".contains(*c));
    match text.char_indices().find(|at| !allowed(at)) {
        Some((_, c)) => Err(NameError::Character(c)),
        None => Ok(text.into()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name! {
    /// Unique in a configuration.
    ServiceName
}

name! {
    /// Unique in its service.
    BackendName
}

/// `service/backend`, as operators write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendId {
    pub service: ServiceName,
    pub backend: BackendName,
}

impl BackendId {
    /// Not after any backend of the service, in the order of names: no name comes before "0".
    pub fn first_of(service: &ServiceName) -> Self {
        Self { service: service.clone(), backend: BackendName("0".into()) }
    }
}

impl FromStr for BackendId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (service, backend) = text.split_once('/').ok_or_else(|| NameError::NoSlash(text.to_owned()))?;
        Ok(Self { service: service.parse()?, backend: backend.parse()? })
    }
}

impl TryFrom<String> for BackendId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<BackendId> for String {
    fn from(id: BackendId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_wrong_with_them() {
        assert_eq!("web".parse::<ServiceName>().unwrap().as_str(), "web");
        assert_eq!("".parse::<ServiceName>(), Err(NameError::Length));
        assert_eq!("-web".parse::<ServiceName>(), Err(NameError::Character('-')));
        assert_eq!("we/b".parse::<BackendName>(), Err(NameError::Character('/')));
        assert!(matches!("web".parse::<BackendId>(), Err(NameError::NoSlash(_))));
        assert_eq!("web/web-1".parse::<BackendId>().unwrap().to_string(), "web/web-1");
    }
}
