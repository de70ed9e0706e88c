//! Which labels and annotations a platform team may give to the pods of workspaces.

use super::syntax;

const OWN_LABELS: &[&str] = &["app", "managed-by", "user"];
const OWN_DOMAIN: &str = "workspace.devplane.io";
/// Domains, each with those below it, from which the kubelet, container runtimes (containerd, CRI-O, crun), their plug-ins (NRI, CDI) and those of the
/// network (Multus, Calico, Cilium, OVN) read what a container may do or which networks it is in.
const NODE_DOMAINS: &[&str] = &[
    "kubernetes.io",
    "k8s.io",
    "crio.io",
    "cri-o.io",
    "containerd.io",
    "nri.io",
    "wasm.image",
    "cncf.io",
    "multus-cni.io",
    "projectcalico.org",
    "cilium.io",
    "ovn.org",
    "networking.gke.io",
];
/// How container runtimes' own names begin: reversed domains (Open Container Initiative, image-spec, annotations), which some follow by `/` and a container.
const REVERSED_DOMAINS: &[&str] = &["io.", "run.oci.", "dev.gvisor."];
/// What weakens nothing all the same: what the autoscaler, the descheduler, kubectl and the limits of bandwidth go by.
const HARMLESS: &[&str] = &[
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes",
    "descheduler.alpha.kubernetes.io/evict",
    "descheduler.alpha.kubernetes.io/prefer-no-eviction",
    "kubectl.kubernetes.io/default-container",
    "kubernetes.io/egress-bandwidth",
    "kubernetes.io/ingress-bandwidth",
];

/// # Errors
/// What was expected.
pub fn label(key: &str) -> Result<(), String> {
    let (domain, name) = syntax::qualified_name(key).map_err(|expected| format!("{expected}, not {key:?}"))?;
    if domain == Some(OWN_DOMAIN) || (domain.is_none() && OWN_LABELS.contains(&name)) {
        return Err(format!("no label or annotation {key}: it is the operator's own"));
    }
    Ok(())
}

/// # Errors
/// What was expected.
pub fn annotation(key: &str) -> Result<(), String> {
    label(key)?;
    if is_read_by_nodes(key) {
        return Err(format!(
            "no annotation {key}: nodes might read from it what would change the security context or the network, which are the operator's own"
        ));
    }
    Ok(())
}

fn is_read_by_nodes(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return key.contains('.');
    };
    let is_below = |parent: &&str| {
        domain
            .strip_suffix(*parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let begins = |beginning: &&str| domain.starts_with(*beginning);
    (NODE_DOMAINS.iter().any(is_below) || REVERSED_DOMAINS.iter().any(begins)) && !HARMLESS.contains(&key)
}

/// All that the rules above name.
#[cfg(test)]
pub fn known() -> impl Iterator<Item = &'static str> {
    let lists = [OWN_LABELS, &[OWN_DOMAIN], NODE_DOMAINS, REVERSED_DOMAINS, HARMLESS];
    lists.into_iter().flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_read_is_refused() {
        for key in [
            // Kubernetes, from before there were fields.
            "container.apparmor.security.beta.kubernetes.io/workspace",
            "container.seccomp.security.alpha.kubernetes.io/workspace",
            "seccomp.security.alpha.kubernetes.io/pod",
            "security.alpha.kubernetes.io/unsafe-sysctls",
            "kubernetes.io/config.mirror",
            // CRI-O, by its earlier and present names.
            "seccomp-profile.kubernetes.cri-o.io/POD",
            "seccomp-profile.crio.io/POD",
            "unified-cgroup.crio.io/workspace",
            "devices.crio.io",
            "userns-mode.crio.io",
            "io.kubernetes.cri-o.Devices",
            "io.kubernetes.cri-o.umask/workspace",
            // containerd, crun, runc, Kata, gVisor.
            "io.containerd.rdt-class",
            "rdt.resources.beta.kubernetes.io/pod",
            "run.oci.keep_original_groups",
            "run.oci.handler/workspace",
            "module.wasm.image/variant",
            "org.systemd.property.DeviceAllow",
            "io.katacontainers.config.hypervisor.kernel",
            "dev.gvisor.internal.hostinet",
            "dev.gvisor.spec.mount.home/type",
            // Devices by CDI and NRI.
            "cdi.k8s.io/gpu",
            "nvidia.cdi.k8s.io/gpu",
            "devices.nri.io/container.workspace",
            "devices.noderesource.dev.nri.containerd.io/pod",
            // Networks that no policy of a workspace holds.
            "k8s.v1.cni.cncf.io/networks",
            "v1.multus-cni.io/default-network",
            "cni.projectcalico.org/allowedSourcePrefixes",
            "io.cilium.no-track-port",
            "policy.cilium.io/no-track-port",
            "ipam.cilium.io/ip-pool",
            "k8s.ovn.org/pod-networks",
            "networking.gke.io/interfaces",
        ] {
            let told = annotation(key).unwrap_err();
            assert!(
                told.contains(key) && told.contains("the security context"),
                "{key}: {told}"
            );
            assert_eq!(label(key), Ok(()), "{key}: nodes read no label");
        }
    }

    #[test]
    fn what_others_read_is_taken() {
        for key in [
            "sidecar.istio.io/inject",
            "traffic.sidecar.istio.io/excludeOutboundPorts",
            "linkerd.io/inject",
            "prometheus.io/scrape",
            "backup.velero.io/backup-volumes",
            "karpenter.sh/do-not-disrupt",
            "vault.hashicorp.com/agent-inject",
            "ad.datadoghq.com/workspace.logs",
            "co.elastic.logs/enabled",
            "notcrio.io/x",
            "dev.corp.example/team",
            "team",
        ]
        .iter()
        .chain(HARMLESS)
        {
            assert_eq!(annotation(key), Ok(()), "{key}");
        }
    }
}
