//! The settings of the canary become a [`CanaryConfig`]; those of who watches it, a [`Watching`].

use super::reader::{Problems, Reader};
use super::setting::{Setting, setting};
use super::source::Source;
use super::syntax;
use crate::units::go_duration::GoDuration;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything that the canary is told from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct CanaryConfig {
    /// Where it listens.
    pub address: IpAddr,
    /// What no workspace may reach.
    pub api_server: SocketAddr,
    /// Where it asks for names; `None` is the first server of its resolver.
    pub name_server: Option<SocketAddr>,
}

/// How the operator watches whether policies are enforced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watching {
    /// Within this time it is told that a forbidden connection passes.
    pub interval: Duration,
    /// Whether workspaces start only while it is known that policies are enforced.
    pub required: bool,
    /// `None` outside a cluster, from where nothing can be shown.
    pub api_server: Option<SocketAddr>,
}

pub const CANARY_ENABLED: Setting = setting("CANARY_ENABLED", "canary.enabled")
    .default("false")
    .help("ask the pods of `devplane canary` in the Workspaces' namespace whether NetworkPolicies are enforced");
pub const CANARY_INTERVAL: Setting = setting("CANARY_INTERVAL", "canary.interval")
    .default("5m")
    .help("within which time it is found and told that a forbidden connection passes; at least 30s");
pub const POLICY_ENFORCEMENT_REQUIRED: Setting = setting("POLICY_ENFORCEMENT_REQUIRED", "canary.holdNewWorkspaces")
    .default("false")
    .help("start no workspace while it is not known that NetworkPolicies are enforced; those that run go on");
pub const KUBERNETES_SERVICE_HOST: Setting = setting("KUBERNETES_SERVICE_HOST", "kubernetes.serviceHost")
    .help("the API server's address in the cluster, which Kubernetes tells every pod; the canary must not reach it");
pub const KUBERNETES_SERVICE_PORT: Setting = setting("KUBERNETES_SERVICE_PORT", "kubernetes.servicePort")
    .default("443")
    .help("its port, which Kubernetes tells too");
pub const CANARY_ADDRESS: Setting = setting("CANARY_ADDRESS", "canary.address")
    .default("::")
    .help("the address that the canary listens on; :: is every one");
pub const CANARY_NAME_SERVER: Setting = setting("CANARY_NAME_SERVER", "canary.nameServer")
    .help("address:port of the DNS server that the canary asks; the first one of /etc/resolv.conf when unset");

/// Every setting of `devplane canary`, in the order that `--help` shows.
pub const SETTINGS: &[Setting] = &[
    KUBERNETES_SERVICE_HOST,
    KUBERNETES_SERVICE_PORT,
    CANARY_NAME_SERVER,
    CANARY_ADDRESS,
    super::setting::LOG_LEVEL,
    super::setting::LOG_FORMAT,
];

const SHORTEST_INTERVAL: Duration = Duration::from_secs(30);

impl CanaryConfig {
    /// # Errors
    /// [`Problems`] with one entry for each setting that is missing or not what it must be.
    pub fn read(source: &Source) -> Result<Self, Problems> {
        let mut r = Reader::new(source, SETTINGS);
        let address = r.parse(&CANARY_ADDRESS, ip_address);
        let name_server = r.optional(&CANARY_NAME_SERVER, syntax::bind_address);
        let api_server = api_server(&mut r);
        let config = (|| {
            Some(Self {
                address: address?,
                api_server: api_server?,
                name_server: name_server?,
            })
        })();
        r.finish(config)
    }
}

/// The inner `None` is without a canary.
pub(super) fn watching(r: &mut Reader<'_>) -> Option<Option<Watching>> {
    let enabled = r.parse(&CANARY_ENABLED, syntax::boolean);
    let interval = r.parse(&CANARY_INTERVAL, interval);
    let required = r.parse(&POLICY_ENFORCEMENT_REQUIRED, syntax::boolean);
    if !enabled? {
        if required? {
            r.problem(
                &POLICY_ENFORCEMENT_REQUIRED,
                "false without a canary: set CANARY_ENABLED, or no workspace would ever start".to_owned(),
            );
        }
        return Some(None);
    }
    let host = r.optional(&KUBERNETES_SERVICE_HOST, ip_address);
    let port = r.parse(&KUBERNETES_SERVICE_PORT, syntax::port);
    let api_server = host.zip(port).map(|(host, port)| Some((host?, port.get()).into()));
    Some(Some(Watching {
        interval: interval?,
        required: required?,
        api_server: api_server?,
    }))
}

fn api_server(r: &mut Reader<'_>) -> Option<SocketAddr> {
    let host = r.parse(&KUBERNETES_SERVICE_HOST, ip_address);
    let port = r.parse(&KUBERNETES_SERVICE_PORT, syntax::port);
    Some((host?, port?.get()).into())
}

fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "an IP address such as 10.96.0.1 or fd00::1".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = text.parse::<GoDuration>().map_err(|error| error.to_string())?.0;
    if interval < SHORTEST_INTERVAL {
        return Err(format!("a duration of at least {}", GoDuration(SHORTEST_INTERVAL)));
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::super::operator;
    use super::*;

    fn source(settings: &[Setting], given: &[(&str, &str)]) -> Source {
        Source::load(None, settings, |name| {
            let found = given.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
        .unwrap()
    }

    fn watching_of(given: &[(&str, &str)]) -> Result<Option<Watching>, Problems> {
        let source = source(operator::SETTINGS, given);
        let mut r = Reader::new(&source, operator::SETTINGS);
        let watching = watching(&mut r);
        r.finish(watching)
    }

    #[test]
    fn a_canary_knows_where_it_is() {
        let given = [("KUBERNETES_SERVICE_HOST", "10.96.0.1")];
        let config = CanaryConfig::read(&source(SETTINGS, &given)).unwrap();
        assert_eq!(config.api_server, "10.96.0.1:443".parse().unwrap());
        assert_eq!((config.address, config.name_server), ("::".parse().unwrap(), None));
        let problems = CanaryConfig::read(&source(SETTINGS, &[("CANARY_ADDRESS", "x")])).unwrap_err();
        assert_eq!(problems.0.len(), 2, "{problems}");
    }

    #[test]
    fn it_is_watched_when_that_is_asked_for() {
        assert_eq!(watching_of(&[]), Ok(None));
        let on = ("CANARY_ENABLED", "true");
        let host = ("KUBERNETES_SERVICE_HOST", "fd00::1");
        let watching = Watching {
            interval: Duration::from_secs(300),
            required: false,
            api_server: Some("[fd00::1]:443".parse().unwrap()),
        };
        assert_eq!(watching_of(&[on, host]), Ok(Some(watching)));
        let outside = Watching {
            api_server: None,
            ..watching
        };
        assert_eq!(watching_of(&[on]), Ok(Some(outside)));
        for (wrong, told) in [
            (
                vec![on, ("KUBERNETES_SERVICE_HOST", "kubernetes.default")],
                "an IP address",
            ),
            (vec![on, host, ("CANARY_INTERVAL", "29s")], "at least 30s"),
            (vec![("POLICY_ENFORCEMENT_REQUIRED", "true")], "CANARY_ENABLED"),
        ] {
            let problems = watching_of(&wrong).unwrap_err().to_string();
            assert!(problems.contains(told), "{problems}");
        }
    }
}
