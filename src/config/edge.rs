//! Settings become how the gateway meets the network: whom it believes, where it connects to, and how long it waits.

use super::reader::Reader;
use super::setting::{Setting, setting};
use super::syntax;
use crate::units::cidr;
use crate::units::go_duration::GoDuration;
use ipnet::IpNet;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Edge {
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    pub workspace_address: WorkspaceAddress,
    /// Whether a certificate for terminals is followed.
    pub terminal_tls: bool,
    /// For a request's head to come in, and for its body; and for an idle connection that is kept alive.
    pub request_timeout: Duration,
    /// From SIGTERM until open terminals are closed.
    pub drain_timeout: Duration,
}

/// By what a workspace's terminal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkspaceAddress {
    /// The DNS name of its Service.
    Service,
    /// The IP of its pod, as the Workspace's status tells it.
    PodIp,
}

pub const GATEWAY_TRUSTED_PROXIES: Setting = setting("GATEWAY_TRUSTED_PROXIES", "trustedProxies")
    .help("address ranges of the proxies in front, separated by commas, whose X-Forwarded-For is believed, such as 10.244.0.0/16; nobody's when unset");
pub const GATEWAY_WORKSPACE_ADDRESS: Setting = setting("GATEWAY_WORKSPACE_ADDRESS", "workspaceAddress")
    .default("service")
    .help("how terminals are reached: service, by the DNS name of the workspace's Service, or podIP, by the address that its status tells, without any DNS");
pub const TERMINAL_TLS: Setting = setting("TERMINAL_TLS", "terminalTLS")
    .default("true")
    .help("follow the certificate by which gateways and workspaces know each other, which the operator issues; as it is set for the operator");
pub const GATEWAY_REQUEST_TIMEOUT: Setting = setting("GATEWAY_REQUEST_TIMEOUT", "requestTimeout")
    .default("30s")
    .help("how long a request's head may take to come in, and its body, as a duration; a connection that is idle, or takes nothing of its answer, is closed after as long");
pub const GATEWAY_DRAIN_TIMEOUT: Setting = setting("GATEWAY_DRAIN_TIMEOUT", "drainTimeout")
    .default("20s")
    .help("how long after SIGTERM pages have to move their terminals to another replica before these are closed; 0 closes them at once");

/// Kubernetes itself gives a pod no longer without being told so.
const LONGEST_DRAIN: Duration = Duration::from_secs(3600);
const LONGEST_REQUEST: Duration = Duration::from_secs(600);

impl Edge {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let trusted_proxies = r.list(&GATEWAY_TRUSTED_PROXIES, cidr::parse);
        let workspace_address = r.parse(&GATEWAY_WORKSPACE_ADDRESS, workspace_address);
        let terminal_tls = r.parse(&TERMINAL_TLS, syntax::boolean);
        let request_timeout = r.parse(&GATEWAY_REQUEST_TIMEOUT, |text| {
            between(text, Duration::from_millis(100), LONGEST_REQUEST)
        });
        let drain_timeout = r.parse(&GATEWAY_DRAIN_TIMEOUT, |text| {
            between(text, Duration::ZERO, LONGEST_DRAIN)
        });
        Some(Self {
            trusted_proxies: trusted_proxies?,
            workspace_address: workspace_address?,
            terminal_tls: terminal_tls?,
            request_timeout: request_timeout?,
            drain_timeout: drain_timeout?,
        })
    }
}

fn workspace_address(text: &str) -> Result<WorkspaceAddress, String> {
    match text {
        "service" => Ok(WorkspaceAddress::Service),
        "podIP" => Ok(WorkspaceAddress::PodIp),
        _ => Err("service or podIP".to_owned()),
    }
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let GoDuration(duration) = text.parse::<GoDuration>().map_err(|error| error.to_string())?;
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    Err(format!("a duration between {least:?} and {most:?}, such as 30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded() {
        let most = Duration::from_secs(60);
        assert_eq!(between("0", Duration::ZERO, most), Ok(Duration::ZERO));
        assert_eq!(between("1m", Duration::from_secs(1), most), Ok(most));
        for wrong in ["0", "61s", "soon", "-1s", "10"] {
            assert!(between(wrong, Duration::from_secs(1), most).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_workspace_is_reached_one_way_or_the_other() {
        assert_eq!(workspace_address("podIP"), Ok(WorkspaceAddress::PodIp));
        assert!(workspace_address("podip").is_err());
    }
}
