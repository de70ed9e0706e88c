//! A user id becomes the names of the objects that the user owns: the only place that builds one.
//!
//! Each kind of object has a type of its own, so that a Pod's name can't be given where a Service's is wanted. The
//! lengths hold by construction: a [`UserId`] has at most 49 characters and no suffix makes more than 63 of it, but for
//! NetworkPolicies, whose names are DNS subdomains of up to 253 characters.

use crate::identity::UserId;
use std::fmt;

/// The port that ttyd listens on in every workspace.
pub const TERMINAL_PORT: u16 = 7681;

/// The port at which a canary tells what it has tried.
pub const CANARY_REPORT_PORT: u16 = 7680;

/// The canary's pods, their ServiceAccount and what else is theirs, in the namespace of the Workspaces.
pub const CANARY: &str = "workspace-canary";

/// The Secret with the keys that sign the certificates of workspaces and gateways, in the operator's namespace.
pub const TERMINAL_AUTHORITIES_SECRET: &str = "workspace-terminal-authorities";

/// The Secret with what gateways show to workspaces, and whom they trust; in their namespace.
pub const GATEWAY_TERMINAL_SECRET: &str = "workspace-gateway-terminal-tls";

/// The entries of both Secrets with a certificate, each in PEM form: whom to trust, who one is, and the key to that.
pub const CERTIFICATE_ENTRIES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $suffix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn of(user: &UserId) -> Self {
                Self(format!(concat!("{}", $suffix), user))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    PvcName = "-workspace-pvc";
    PodName = "-workspace-pod";
    ServiceName = "-workspace-svc";
    /// The ServiceAccount, Role and RoleBinding share this name.
    AccountName = "-workspace";
    DenyAllPolicyName = "-workspace-deny-all";
    EgressPolicyName = "-workspace-egress";
    IngressPolicyName = "-workspace-ingress-gateway";
    /// The Secret with the certificate of the terminal.
    TerminalSecretName = "-workspace-tls";
}

impl ServiceName {
    /// The DNS name of the Service: `<service>.<namespace>.svc.<cluster domain>`.
    pub fn endpoint(&self, namespace: &str, cluster_domain: &str) -> String {
        format!("{self}.{namespace}.svc.{cluster_domain}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_user_id_fits_every_label() {
        let user: UserId = "a".repeat(crate::identity::MAX_LENGTH).parse().unwrap();
        for name in [
            PvcName::of(&user).to_string(),
            PodName::of(&user).to_string(),
            ServiceName::of(&user).to_string(),
            AccountName::of(&user).to_string(),
            TerminalSecretName::of(&user).to_string(),
        ] {
            assert!(name.len() <= 63, "{name} has {} characters", name.len());
        }
    }
}
