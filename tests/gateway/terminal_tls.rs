//! Mutual TLS between gateways and workspaces: a terminal is entered by a gateway alone, and a gateway enters no other terminal than that
//! of the Workspace that it means, whatever is at its address.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Gateway, Process, Site, address, ttyd, ttyd_behind_tls};
use devplane::certificates::{Authorities, Issued, terminal_name};
use devplane::clock::{Clock, SystemClock};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use std::fs;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// A terminal behind TLS that shows a certificate.
struct Pod {
    _processes: [Process; 2],
    _directory: tempfile::TempDir,
}

impl Pod {
    fn at(address: &str, authorities: &Authorities, own: &Issued) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("ca.crt"), authorities.of_gateways()).unwrap();
        fs::write(path("tls.crt"), &own.certificate).unwrap();
        fs::write(path("tls.key"), &own.key).unwrap();
        Self {
            _processes: ttyd_behind_tls(address, directory.path()),
            _directory: directory,
        }
    }
}

/// Until the gateway has taken up as many certificates as it was given.
async fn has_certificates(gateway: &Gateway, count: usize) {
    let taken = async || {
        gateway
            .log()
            .matches("terminals are entered with this certificate")
            .count()
            == count
    };
    assert!(eventually(taken).await, "{}", gateway.log());
}

/// What the operator would write for gateways.
async fn give(site: &Site, authorities: &Authorities) {
    let own = authorities.for_gateways().gateway().unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "workspace-gateway-terminal-tls"}, "type": "kubernetes.io/tls",
        "stringData": {"ca.crt": authorities.of_workspaces(), "tls.crt": own.certificate, "tls.key": own.key},
    });
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), &site.namespace);
    let parameters = PatchParams::apply("test").force();
    secrets
        .patch("workspace-gateway-terminal-tls", &parameters, &Patch::Apply(secret))
        .await
        .unwrap();
}

/// A user's own Workspace that runs at `address` behind TLS, and the certificate of its terminal.
async fn create(site: &Site, subject: &str, address: &str, authorities: &Authorities) -> Issued {
    site.create_running(subject, address).await;
    let name = site.name(subject);
    site.set_status(&name, json!({"terminalAuthority": "0123456789abcdef"}))
        .await;
    let authority = authorities.for_workspaces(SystemClock.now());
    authority.workspace(&name_of(site, subject).await).unwrap()
}

/// What the terminal of a user's own Workspace has to be called.
async fn name_of(site: &Site, subject: &str) -> String {
    let workspace = site.workspaces().get(&site.name(subject)).await.unwrap();
    terminal_name(&workspace.metadata.uid.unwrap())
}

/// What a gateway says whose Workspace does not let it in.
async fn refused(browser: &Browser, origin: &str) -> u16 {
    let answer = browser.terminal(origin, &[("origin", origin)]).await;
    answer.err().expect("no terminal").status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_entered_through_tls_and_outlives_a_rotation() {
    let address = address();
    let site = Site::new("tls").await;
    let now = SystemClock.now();
    let first = Authorities::make(now - SignedDuration::from_hours(24)).unwrap();
    let own = create(&site, "dev1", address, &first).await;
    let pod = Pod::at(address, &first, &own);
    let gateway = site.gateway(&[]).await;
    let (browser, origin) = (Browser::default(), site.origin());
    browser.sign_in(&origin, "dev1").await;
    assert_eq!(refused(&browser, &origin).await, 503, "without a certificate");
    assert!(
        gateway
            .log()
            .contains("this gateway has no certificate for terminals yet")
    );

    give(&site, &first).await;
    has_certificates(&gateway, 1).await;
    let mut terminal = browser.own_shell(&origin).await;
    terminal.type_keys("echo through-$((6*7))\r").await;
    terminal.until("through-42").await;

    let both = first.tended(
        Some(now - SignedDuration::from_mins(10)),
        now - SignedDuration::from_mins(5),
    );
    let both = both.unwrap().unwrap();
    give(&site, &both).await;
    has_certificates(&gateway, 2).await;
    terminal.type_keys("echo still-$((6*7))\r").await;
    terminal.until("still-42").await;
    browser.own_shell(&origin).await;
    drop(pod);
    let next = both
        .for_workspaces(now)
        .workspace(&name_of(&site, "dev1").await)
        .unwrap();
    let _pod = Pod::at(address, &both, &next);
    browser.own_shell(&origin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_an_address_gets_no_keystroke() {
    let (address, others) = (address(), address());
    let site = Site::new("tls-takeover").await;
    let now = SystemClock.now();
    let authorities = Authorities::make(now).unwrap();
    create(&site, "dev1", address, &authorities).await;
    let other = create(&site, "dev2", others, &authorities).await;
    give(&site, &authorities).await;
    let gateway = site.gateway(&[]).await;
    let (browser, origin) = (Browser::default(), site.origin());
    browser.sign_in(&origin, "dev1").await;
    has_certificates(&gateway, 1).await;

    let pod = Pod::at(address, &authorities, &other);
    assert_eq!(refused(&browser, &origin).await, 503, "another's pod");
    assert!(gateway.log().contains("does not prove to be this workspace"));
    drop(pod);
    let stranger = Authorities::make(now).unwrap();
    let forged = stranger
        .for_workspaces(now)
        .workspace(&name_of(&site, "dev1").await)
        .unwrap();
    let pod = Pod::at(address, &authorities, &forged);
    assert_eq!(refused(&browser, &origin).await, 503, "a certificate of its own making");
    drop(pod);
    let pod = ttyd(address);
    assert_eq!(refused(&browser, &origin).await, 503, "a pod without TLS");
    drop(pod);

    // Whatever it is, it hears the beginning of a handshake (RFC 8446: a record of type 22) and no request.
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let listener = TcpListener::bind((address, 7681)).await.unwrap();
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(listen(stream, Arc::clone(&hears)));
        }
    });
    assert_eq!(refused(&browser, &origin).await, 503);
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.first(), Some(&22));
    assert!(!heard.windows(3).any(|bytes| bytes == b"GET"));
}

async fn listen(mut stream: TcpStream, heard: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        heard.lock().unwrap().extend(&buffer[..read]);
    }
}
