//! The text of a pod's resolv.conf(5) becomes where it asks for names, and in which domain.

use std::net::IpAddr;

/// Where the resolver of a pod is configured.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The first of the resolver's servers.
pub fn name_server(text: &str) -> Option<IpAddr> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| match words.next() {
        Some("nameserver") => words.next()?.parse().ok(),
        _ => None,
    })
}

/// The cluster's domain, which a pod alone has: `search NAMESPACE.svc.DOMAIN svc.DOMAIN DOMAIN`.
pub fn cluster_domain(text: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("search "));
    let mut domains = lines.flat_map(str::split_whitespace);
    domains.find_map(|domain| {
        domain
            .strip_prefix("svc.")
            .map(|domain| domain.trim_end_matches('.').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_s_first_server_is_asked() {
        let text = "# nameserver 192.0.2.1\nsearch workspaces.svc.cluster.local\nnameserver 10.96.0.10\nnameserver 10.96.0.11\noptions ndots:5\n";
        assert_eq!(name_server(text), Some("10.96.0.10".parse().unwrap()));
        assert_eq!(name_server("nameserver fd00::a"), Some("fd00::a".parse().unwrap()));
        for none in ["", "nameserver", "search nameserver", "; nameserver 10.0.0.1"] {
            assert_eq!(name_server(none), None, "{none:?}");
        }
    }

    #[test]
    fn only_a_pod_knows_the_cluster_s_domain() {
        let pod = "search a.svc.corp.internal svc.corp.internal corp.internal\nnameserver 10.96.0.10\n";
        assert_eq!(cluster_domain(pod).as_deref(), Some("corp.internal"));
        assert_eq!(cluster_domain("search corp.internal\nnameserver 192.0.2.1\n"), None);
    }
}
