//! Authorities of our own become the certificates by which gateways and workspaces know each other (mutual TLS, RFC 8446).
//!
//! `authority` makes them and issues certificates, `authorities` says which of several does what at a time, `handshake` is a gateway's
//! side of a connection. A workspace's certificate
//! names the uid of its Workspace, so that no other can stand in for it, whatever address it has. Workspaces and gateways have
//! authorities apart: what a workspace holds never opens another one.

mod authorities;
mod authority;
mod handshake;

pub use authorities::Authorities;
pub use authority::{Authority, CertificateError, Issued};
pub use handshake::{HandshakeError, client};

/// The DNS name in the certificate of a Workspace. It is in no DNS: a connection is made to an address, and then must show this name.
pub fn terminal_name(workspace_uid: &str) -> String {
    format!("{workspace_uid}.terminal.workspace.devplane.io")
}
