//! Many sessions become the CPU time of each one's beginning and the memory of each that does nothing; many requests, the CPU time
//! of each.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Gateway, Site};
use crate::process::{cpu_seconds, resident_kib};
use crate::{Place, backend, terminal};
use devplane::certificates::{Authorities, terminal_name};
use devplane::clock::{Clock, SystemClock};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::time::{Duration, Instant};

const SESSIONS: usize = 500;
/// So many that the ticks of 10 ms in which the system counts matter little.
const REQUESTS: usize = 8000;
/// Where a terminal is behind TLS.
const TLS_BACKEND: &str = "127.0.7.11";
/// At once.
const TOGETHER: usize = 8;

pub async fn rates(browser: &Browser, place: &Place, origin: &str) {
    let (address, pid) = (&place.address, place.pid.unwrap());
    println!("rates of the {}, {TOGETHER} at once", place.name);
    rate("sessions opened and left", SESSIONS, pid, async |count| {
        for _ in 0..count {
            drop(terminal(browser, address, origin).await);
        }
    })
    .await;
    for path in ["/api/workspace", "/health"] {
        let url = format!("{address}{path}");
        let kept = format!("{path}, on a connection that is kept alive");
        rate(&kept, REQUESTS, pid, async |count| {
            browser.keep_asking(&url, count).await
        })
        .await;
        let own = format!("{path}, each on a connection of its own");
        rate(&own, REQUESTS, pid, async |count| {
            for _ in 0..count {
                browser.keep_asking(&url, 1).await;
            }
        })
        .await;
    }
}

/// `several` does as many of them as it is told, one after the other.
async fn rate(what: &str, count: usize, pid: u32, several: impl AsyncFn(usize)) {
    let (before, started) = (cpu_seconds(pid), Instant::now());
    join_all((0..TOGETHER).map(|_| several(count / TOGETHER))).await;
    let elapsed = started.elapsed().as_secs_f64();
    // What they leave behind.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = (cpu_seconds(pid) - before) / count as f64;
    println!(
        "  {what}: {:.0} a second, {:.0} us CPU each",
        count as f64 / elapsed,
        cpu * 1e6
    );
}

/// Of sessions that stay open, and of more with TLS to their workspace.
pub async fn memory(site: &Site, browser: &Browser, gateway: &Gateway, most: usize) {
    println!("memory of open sessions that do nothing");
    let (origin, pid) = (site.origin(), gateway.pid());
    let mut open = Vec::new();
    let mut grown = async |browser: &Browser, kind: &str, counts: [usize; 2]| {
        let (empty, before) = (resident_kib(pid), open.len());
        for count in counts {
            while open.len() - before < count {
                open.push(terminal(browser, &origin, &origin).await);
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            let full = resident_kib(pid);
            println!(
                "  {kind}: {empty} KiB before, {full} KiB with {count}: {:.1} KiB each",
                full.saturating_sub(empty) as f64 / count as f64
            );
        }
    };
    grown(browser, "plain to the workspace", [1000, most.max(1000)]).await;
    let other = behind_tls(site, gateway).await;
    grown(&other, "TLS to the workspace", [1000, 2000]).await;
}

/// Someone whose terminal is behind TLS.
async fn behind_tls(site: &Site, gateway: &Gateway) -> Browser {
    let (browser, origin, name) = (Browser::default(), site.origin(), site.name("dev2"));
    browser.sign_in(&origin, "dev2").await;
    browser.page(&origin).await;
    let authorities = Authorities::make(SystemClock.now()).unwrap();
    let workspace = site.workspaces().get(&name).await.unwrap();
    let own = authorities.for_workspaces(SystemClock.now());
    let own = own.workspace(&terminal_name(&workspace.metadata.uid.unwrap())).unwrap();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(own.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth();
    backend::start(
        (TLS_BACKEND, 7681),
        Some(server.with_single_cert(chain.unwrap(), key).unwrap()),
    )
    .await;
    let own = authorities.for_gateways().gateway().unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "workspace-gateway-terminal-tls"}, "type": "kubernetes.io/tls",
        "stringData": {"ca.crt": authorities.of_workspaces(), "tls.crt": own.certificate, "tls.key": own.key},
    });
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), &site.namespace);
    let parameters = PatchParams::apply("bench").force();
    secrets
        .patch("workspace-gateway-terminal-tls", &parameters, &Patch::Apply(secret))
        .await
        .unwrap();
    site.set_running(&name, TLS_BACKEND).await;
    site.set_status(&name, json!({"terminalAuthority": "0123456789abcdef"}))
        .await;
    let opens = async || browser.terminal(&origin, &[("origin", &origin)]).await.is_ok();
    assert!(eventually(opens).await, "{}", gateway.log());
    browser
}
