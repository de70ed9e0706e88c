//! `NAME=ADDRESS:PORT` becomes somewhere that no workspace may get, and back.

use super::dial::{Asks, Target};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Somewhere that no workspace may get, besides what is in every canary's matrix.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// In words, without `=`, such as `a node's kubelet`.
    pub name: String,
    pub address: SocketAddr,
}

impl Place {
    /// Who listens at `terminal` speaks first.
    pub fn target(&self, terminal: u16) -> Target {
        Target {
            address: self.address,
            asks: if self.address.port() == terminal {
                Asks::Nothing
            } else {
                Asks::Http
            },
        }
    }
}

/// `a node's kubelet at 192.0.2.1:10250`, as it is told.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("'{text}' is no NAME=ADDRESS:PORT, such as kubelet=192.0.2.1:10250");
        let (name, address) = text.split_once('=').ok_or_else(expected)?;
        Ok(Self {
            name: name.to_owned(),
            address: address.parse().map_err(|_| expected())?,
        })
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(Place { name, address }: Place) -> Self {
        format!("{name}={address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        for text in ["a node's kubelet=192.0.2.1:10250", "x=[2001:db8::1]:80"] {
            assert_eq!(String::from(text.parse::<Place>().unwrap()), text);
        }
        for none in ["", "192.0.2.1:80", "x=192.0.2.1", "x=kubelet:10250"] {
            assert!(none.parse::<Place>().is_err(), "{none}");
        }
    }
}
