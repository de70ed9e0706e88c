//! The operator's settings become an [`OperatorConfig`].

use super::canary::{self, Watching};
use super::classes;
use super::egress::{self, EgressCeilings};
use super::pod;
use super::reader::{Problems, Reader};
use super::setting::{Setting, setting};
use super::source::Source;
use super::syntax;
use crate::api::account_right::AccountRight;
use crate::api::egress::{Dns, EgressNamespace, Fqdn, PolicyBackend};
use crate::api::pod_settings::PodSettings;
use crate::units::cidr;
use crate::units::go_duration::GoDuration;
use crate::units::quantity::Quantity;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;

/// Everything that the operator is told from outside.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// See [`Source::digest`].
    pub digest: String,
    /// The namespace whose Workspaces it looks after.
    pub namespace: String,
    /// Its own namespace, where its Lease lies.
    pub pod_namespace: String,
    /// Its own name as a leader candidate.
    pub pod_name: String,
    pub leader_elect: bool,
    pub metrics_address: SocketAddr,
    pub probe_address: SocketAddr,
    /// Ranges of the cluster itself (pods, Services, nodes), which external egress never includes. Empty: found from the API.
    pub cluster_cidrs: Vec<IpNet>,
    /// Whether terminals are reached by mutual TLS.
    pub terminal_tls: bool,
    /// `None` is without a canary.
    pub watching: Option<Watching>,
    pub workspace: WorkspaceSettings,
}

/// What workspaces get.
#[derive(Clone, Debug)]
pub struct WorkspaceSettings {
    pub common: WorkspaceDefaults,
    /// In the order in which the gateway offers them.
    pub classes: Vec<Class>,
}

/// A class of workspaces, which a Workspace names.
#[derive(Clone, Debug)]
pub struct Class {
    pub name: String,
    /// The common settings with those of the class over them.
    pub defaults: WorkspaceDefaults,
}

/// Amounts of what a workspace may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amounts {
    pub cpu: Option<Quantity>,
    pub memory: Option<Quantity>,
    pub storage: Option<Quantity>,
}

/// What every workspace gets when its own spec does not say.
#[derive(Clone, Debug)]
pub struct WorkspaceDefaults {
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; empty leaves it to Kubernetes.
    pub image_pull_policy: Option<String>,
    /// Namespaces, or parts of them, that a workspace may reach.
    pub egress_namespaces: Vec<EgressNamespace>,
    /// TCP ports that a workspace may reach at external addresses; none is no external egress.
    pub egress_ports: Vec<NonZeroU16>,
    /// The external addresses that a workspace may reach; none is no external egress.
    pub egress_cidrs: Vec<IpNet>,
    /// Names outside the cluster that a workspace may reach, with the backend that knows them.
    pub egress_fqdns: Vec<Fqdn>,
    pub egress_ceilings: EgressCeilings,
    pub policy_backend: PolicyBackend,
    pub dns: Dns,
    /// `None` never stops a workspace.
    pub idle_timeout: Option<std::time::Duration>,
    /// With `updatePolicy: WhenIdle`, how long no terminal must have been open and nobody have typed.
    pub update_when_idle_for: std::time::Duration,
    /// Where the gateway's pods run.
    pub gateway_namespace: String,
    pub ca_bundle_config_map: Option<String>,
    pub pip_index_url: Option<String>,
    pub pip_trusted_host: Option<String>,
    pub npm_registry: Option<String>,
    /// The DNS domain of the cluster.
    pub cluster_domain: String,
    pub resources: Amounts,
    /// The most that a workspace gets, whatever its spec asks for.
    pub ceilings: Amounts,
    /// What every pod gets besides.
    pub pod: PodSettings,
    /// What the account of a workspace may do: nothing, but where a class says something.
    pub rights: BTreeSet<AccountRight>,
}

pub const NAMESPACE: Setting = setting("NAMESPACE", "namespace")
    .default("workspaces")
    .help("the namespace of the Workspaces");
pub const POD_NAMESPACE: Setting = setting("POD_NAMESPACE", "podNamespace")
    .default("workspace-operator-system")
    .help("the operator's own namespace, where its Lease lies");
pub const POD_NAME: Setting = setting("POD_NAME", "podName")
    .default("workspace-operator")
    .help("the operator's own name as a leader candidate");
pub const LEADER_ELECT: Setting = setting("LEADER_ELECT", "leaderElect")
    .default("false")
    .help("wait for the Lease workspace-operator before working; needed with two or more replicas");
pub const METRICS_BIND_ADDRESS: Setting = setting("METRICS_BIND_ADDRESS", "metricsBindAddress")
    .default(":8080")
    .help("host:port of /metrics; no host is every address");
pub const HEALTH_PROBE_BIND_ADDRESS: Setting = setting("HEALTH_PROBE_BIND_ADDRESS", "healthProbeBindAddress")
    .default(":8081")
    .help("host:port of /healthz and /readyz");
pub const WORKSPACE_IMAGE: Setting = setting("WORKSPACE_IMAGE", "workspace.image")
    .required()
    .help("the image of the workspaces");
pub const WORKSPACE_IMAGE_PULL_POLICY: Setting = setting("WORKSPACE_IMAGE_PULL_POLICY", "workspace.imagePullPolicy")
    .help("Always, IfNotPresent or Never; Kubernetes decides by the tag when unset");
pub const LLM_NAMESPACES: Setting = setting("LLM_NAMESPACES", "workspace.egressNamespaces")
    .default("ai-system")
    .help("namespaces that a workspace may reach, separated by commas; or a JSON list of names and of {name, ports, podLabels}, for TCP ports and pods alone");
pub const EGRESS_PORTS: Setting = setting("EGRESS_PORTS", "workspace.egressPorts")
    .default("22,80,443,5000,8000,8080,8081,11434")
    .help("TCP ports that a workspace may reach outside the cluster, separated by commas; a lone comma is none");
pub const EGRESS_CIDRS: Setting = setting("EGRESS_CIDRS", "workspace.egressCIDRs")
    .default("0.0.0.0/0,::/0")
    .help("address ranges outside the cluster that a workspace may reach on those ports, separated by commas; a lone comma is none");
pub const EGRESS_FQDNS: Setting = setting("EGRESS_FQDNS", "workspace.egressFQDNs")
    .help("names outside the cluster that a workspace may reach on those ports, such as git.corp.example or *.corp.example, separated by commas; needs NETWORK_POLICY_BACKEND=cilium");
pub const NETWORK_POLICY_BACKEND: Setting = setting("NETWORK_POLICY_BACKEND", "workspace.networkPolicyBackend")
    .default("kubernetes")
    .help("kubernetes: NetworkPolicies; cilium: a CiliumNetworkPolicy for what a workspace may reach, which knows names, and NetworkPolicies for the rest");
pub const CLUSTER_CIDRS: Setting = setting("CLUSTER_CIDRS", "workspace.clusterCIDRs")
    .help("address ranges of the cluster's pods, Services and nodes, separated by commas; never reachable as external addresses. Found from Nodes and ServiceCIDRs when unset; while they can't be found there is no external egress");
pub const DNS_NAMESPACE: Setting = setting("DNS_NAMESPACE", "workspace.dns.namespace")
    .default("kube-system")
    .help("the namespace of the cluster's DNS pods");
pub const DNS_POD_LABELS: Setting = setting("DNS_POD_LABELS", "workspace.dns.podLabels")
    .default("k8s-app=kube-dns")
    .help("the labels of the cluster's DNS pods, as key=value separated by commas");
pub const DNS_PORT: Setting = setting("DNS_PORT", "workspace.dns.port")
    .default("53")
    .help("the port that the DNS pods listen on, such as 5353 on OpenShift");
pub const DNS_NODE_LOCAL: Setting = setting("DNS_NODE_LOCAL", "workspace.dns.nodeLocal")
    .help("addresses that NodeLocal DNSCache listens on, such as 169.254.20.10, separated by commas");
pub const TERMINAL_TLS: Setting = setting("TERMINAL_TLS", "workspace.terminalTLS")
    .default("true")
    .help("gateways and workspaces show each other certificates that the operator issues; false for images of workspaces that can't");
pub const IDLE_TIMEOUT: Setting = setting("IDLE_TIMEOUT", "workspace.idleTimeout")
    .default("0")
    .help("stop a workspace after this long without input, such as 30m or 8h; 0 never");
pub const UPDATE_WHEN_IDLE_FOR: Setting = setting("UPDATE_WHEN_IDLE_FOR", "workspace.updateWhenIdleFor")
    .default("5m")
    .help("replace a pod that was made from older settings when no terminal has been open and nobody has typed for this long, unless the Workspace says otherwise");
pub const GATEWAY_NAMESPACE: Setting = setting("GATEWAY_NAMESPACE", "gatewayNamespace")
    .default("workspace-operator-system")
    .help("the namespace of the gateway's pods, the only ones that may reach a terminal");
pub const DEFAULT_CA_BUNDLE_CONFIGMAP: Setting = setting("DEFAULT_CA_BUNDLE_CONFIGMAP", "workspace.caBundleConfigMap")
    .help("a ConfigMap in the Workspaces' namespace with CA certificates that every workspace trusts");
pub const PIP_INDEX_URL: Setting =
    setting("PIP_INDEX_URL", "workspace.pip.indexURL").help("the Python package index of the workspaces");
pub const PIP_TRUSTED_HOST: Setting = setting("PIP_TRUSTED_HOST", "workspace.pip.trustedHost")
    .help("a host that pip may use without a certificate it trusts");
pub const NPM_REGISTRY: Setting =
    setting("NPM_REGISTRY", "workspace.npm.registry").help("the npm registry of the workspaces");
pub const WORKSPACE_POD: Setting = setting("WORKSPACE_POD", "workspace.pod")
    .default("{}")
    .help("more for every workspace's pod, as JSON: imagePullSecrets, nodeSelector, tolerations, affinity, priorityClassName, runtimeClassName, dnsConfig, labels, annotations, env, proxy, mounts, requests, extendedResources, automountServiceAccountToken, tmpSizeLimit");
pub const WORKSPACE_CEILINGS: Setting = setting("WORKSPACE_CEILINGS", "workspace.ceilings")
    .default("{}")
    .help("the most that a workspace gets, as JSON: {cpu, memory, storage} as quantities, and the lists {egressNamespaces, egressPorts, egressCIDRs}");
pub const WORKSPACE_CLASSES: Setting = setting("WORKSPACE_CLASSES", "workspace.classes")
    .default("[]")
    .help("classes that a Workspace may name, as a JSON list of {name, groups, image, imagePullPolicy, resources, ceilings, egressNamespaces, egressPorts, egressCIDRs, egressFQDNs, idleTimeout, pod}; what a class does not say is as for all");
pub const WORKSPACE_ALLOWED_IMAGES: Setting = setting("WORKSPACE_ALLOWED_IMAGES", "workspace.allowedImages")
    .help("images that workspaces may run, separated by commas, each with or without a * at its end; any when unset");
pub const CLUSTER_DOMAIN: Setting = setting("CLUSTER_DOMAIN", "clusterDomain")
    .default("cluster.local")
    .help("the DNS domain of the cluster");

/// Every setting of the operator, in the order that `--help` and the reference page show.
pub const SETTINGS: &[Setting] = &[
    WORKSPACE_IMAGE,
    WORKSPACE_IMAGE_PULL_POLICY,
    NAMESPACE,
    GATEWAY_NAMESPACE,
    LLM_NAMESPACES,
    EGRESS_PORTS,
    EGRESS_CIDRS,
    EGRESS_FQDNS,
    NETWORK_POLICY_BACKEND,
    CLUSTER_CIDRS,
    DNS_NAMESPACE,
    DNS_POD_LABELS,
    DNS_PORT,
    DNS_NODE_LOCAL,
    TERMINAL_TLS,
    IDLE_TIMEOUT,
    UPDATE_WHEN_IDLE_FOR,
    DEFAULT_CA_BUNDLE_CONFIGMAP,
    PIP_INDEX_URL,
    PIP_TRUSTED_HOST,
    NPM_REGISTRY,
    WORKSPACE_POD,
    WORKSPACE_CLASSES,
    WORKSPACE_CEILINGS,
    WORKSPACE_ALLOWED_IMAGES,
    CLUSTER_DOMAIN,
    super::canary::CANARY_ENABLED,
    super::canary::CANARY_INTERVAL,
    super::canary::POLICY_ENFORCEMENT_REQUIRED,
    super::canary::KUBERNETES_SERVICE_HOST,
    super::canary::KUBERNETES_SERVICE_PORT,
    LEADER_ELECT,
    METRICS_BIND_ADDRESS,
    HEALTH_PROBE_BIND_ADDRESS,
    POD_NAMESPACE,
    POD_NAME,
    super::setting::LOG_LEVEL,
    super::setting::LOG_FORMAT,
];

impl OperatorConfig {
    /// Checks every setting and reports all problems together.
    ///
    /// # Errors
    /// [`Problems`] with one entry for each setting that is missing or not what it must be.
    pub fn read(source: &Source) -> Result<Self, Problems> {
        let mut r = Reader::new(source, SETTINGS);
        let config = (|| {
            let namespace = r.parse(&NAMESPACE, syntax::dns_label);
            let pod_namespace = r.parse(&POD_NAMESPACE, syntax::dns_label);
            let pod_name = r.text(&POD_NAME);
            let leader_elect = r.parse(&LEADER_ELECT, syntax::boolean);
            let metrics_address = r.parse(&METRICS_BIND_ADDRESS, syntax::bind_address);
            let probe_address = r.parse(&HEALTH_PROBE_BIND_ADDRESS, syntax::bind_address);
            let image = r.text(&WORKSPACE_IMAGE);
            let image_pull_policy = r.optional(&WORKSPACE_IMAGE_PULL_POLICY, pull_policy);
            let egress_namespaces = r.parse(&LLM_NAMESPACES, egress::namespaces);
            let egress_ports = r.list(&EGRESS_PORTS, syntax::port);
            let egress_cidrs = r.list(&EGRESS_CIDRS, cidr::parse);
            let egress_fqdns = r.list(&EGRESS_FQDNS, |name| name.parse::<Fqdn>());
            let policy_backend = r.parse(&NETWORK_POLICY_BACKEND, policy_backend);
            let cluster_cidrs = r.list(&CLUSTER_CIDRS, cidr::parse);
            let terminal_tls = r.parse(&TERMINAL_TLS, syntax::boolean);
            let dns = dns(&mut r);
            let idle_timeout = r.parse(&IDLE_TIMEOUT, duration);
            let update_when_idle_for = r.parse(&UPDATE_WHEN_IDLE_FOR, duration);
            let gateway_namespace = r.parse(&GATEWAY_NAMESPACE, syntax::dns_label);
            let ca_bundle_config_map = r.optional(&DEFAULT_CA_BUNDLE_CONFIGMAP, syntax::dns_subdomain);
            let pip_index_url = r.optional(&PIP_INDEX_URL, syntax::http_url);
            let pip_trusted_host = r.optional(&PIP_TRUSTED_HOST, syntax::any_text);
            let npm_registry = r.optional(&NPM_REGISTRY, syntax::http_url);
            let pod = r.parse(&WORKSPACE_POD, pod::parse);
            let ceilings = r.parse(&WORKSPACE_CEILINGS, classes::ceilings);
            let allowed_images = r.list(&WORKSPACE_ALLOWED_IMAGES, syntax::any_text)?;
            let cluster_domain = r.parse(&CLUSTER_DOMAIN, syntax::dns_subdomain);
            let watching = canary::watching(&mut r);
            let common = (|| {
                let (ceilings, egress_ceilings) = ceilings?;
                Some(WorkspaceDefaults {
                    image: image?,
                    image_pull_policy: image_pull_policy?,
                    egress_namespaces: egress_namespaces?,
                    egress_ports: egress_ports?,
                    egress_cidrs: egress_cidrs?,
                    egress_fqdns: egress_fqdns?,
                    egress_ceilings,
                    policy_backend: policy_backend?,
                    dns: dns?,
                    idle_timeout: idle_timeout.map(|idle| (!idle.is_zero()).then_some(idle))?,
                    update_when_idle_for: update_when_idle_for?,
                    gateway_namespace: gateway_namespace?,
                    ca_bundle_config_map: ca_bundle_config_map?,
                    pip_index_url: pip_index_url?,
                    pip_trusted_host: pip_trusted_host?,
                    npm_registry: npm_registry?,
                    cluster_domain: cluster_domain?,
                    resources: Amounts::default(),
                    ceilings,
                    pod: pod?,
                    rights: BTreeSet::new(),
                })
            })()?;
            if common.policy_backend == PolicyBackend::Kubernetes && !common.egress_fqdns.is_empty() {
                r.problem(&EGRESS_FQDNS, NAMES_NEED_CILIUM.to_owned());
            }
            if !classes::is_allowed(&common.image, &allowed_images) {
                r.problem(
                    &WORKSPACE_IMAGE,
                    format!("an image of WORKSPACE_ALLOWED_IMAGES: {}", allowed_images.join(", ")),
                );
            }
            let classes = r.parse(&WORKSPACE_CLASSES, |text| {
                classes::parse(text, &common, &allowed_images)
            });
            Some(Self {
                digest: source.digest(SETTINGS),
                namespace: namespace?,
                pod_namespace: pod_namespace?,
                pod_name: pod_name?,
                leader_elect: leader_elect?,
                metrics_address: metrics_address?,
                probe_address: probe_address?,
                cluster_cidrs: cluster_cidrs?,
                terminal_tls: terminal_tls?,
                watching: watching?,
                workspace: WorkspaceSettings {
                    common,
                    classes: classes?,
                },
            })
        })();
        r.finish(config)
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    let parsed = text.parse::<GoDuration>();
    parsed.map(|duration| duration.0).map_err(|error| error.to_string())
}

fn dns(r: &mut Reader<'_>) -> Option<Dns> {
    let namespace = r.parse(&DNS_NAMESPACE, syntax::dns_label);
    let pod_labels = r.parse(&DNS_POD_LABELS, egress::labels);
    let port = r.parse(&DNS_PORT, syntax::port);
    let node_local = r.list(&DNS_NODE_LOCAL, egress::resolver);
    Some(Dns {
        namespace: namespace?,
        pod_labels: pod_labels?,
        port: port?,
        node_local: node_local?,
    })
}

pub(super) const NAMES_NEED_CILIUM: &str =
    "no names while NETWORK_POLICY_BACKEND is kubernetes: a NetworkPolicy knows addresses alone (EGRESS_CIDRS)";

fn policy_backend(text: &str) -> Result<PolicyBackend, String> {
    match text {
        "kubernetes" => Ok(PolicyBackend::Kubernetes),
        "cilium" => Ok(PolicyBackend::Cilium),
        _ => Err("kubernetes or cilium".to_owned()),
    }
}

pub(super) fn pull_policy(text: &str) -> Result<String, String> {
    match text {
        "Always" | "IfNotPresent" | "Never" => Ok(text.to_owned()),
        _ => Err("Always, IfNotPresent or Never".to_owned()),
    }
}
