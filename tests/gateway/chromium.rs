//! The terminal page in a real Chromium, with a real ttyd, tmux, bash and vim behind it: what people do at a terminal, without a cluster.

use crate::apiserver::free_ports;
use crate::balancer::Balancer;
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, address, made_by, ttyd_with};
use crate::rolling::{Tmux, keeping_lines};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::time::sleep;

/// The workspace's tmux, as the image sets it up, with bash in zsh's place.
const TMUX_CONF: &str = include_str!("../../deploy/images/workspace/skel/.tmux.conf");

/// A script that begins a terminal in `home`.
fn start(home: &Path) -> String {
    let bash = "set -g default-command 'PS1=\"$ \" exec bash --norc --noprofile -i'\n";
    std::fs::write(home.join(".tmux.conf"), format!("{TMUX_CONF}{bash}")).unwrap();
    let home = home.to_str().unwrap();
    format!(
        "cd {home} && exec env -i HOME={home} LANG=C.UTF-8 TERM=xterm-256color SHELL=/bin/bash PATH=/usr/local/bin:/usr/bin:/bin tmux -S {home}/tmux -f {home}/.tmux.conf new-session -A -s workspace"
    )
}

/// What `node` needs to use the page of a site.
fn node(site: &Site, home: &Path, program: &[&str], tests: &str) -> Command {
    let directory = made_by("tests/browser/programs.sh");
    let command = [program, &["node", "--test", "--test-reporter=spec", tests]].concat();
    let mut node = Command::new(command[0]);
    node.args(&command[1..])
        .current_dir(&directory)
        .env("CHROMIUM", directory.join("chromium"))
        .env("URL", site.origin())
        .env("KUBECTL", site.server.binary("kubectl"))
        .env("KUBECONFIG", site.server.kubeconfig("admin"))
        .env("NAMESPACE", &site.namespace)
        .env("NAME", site.name("dev1"))
        .env("WORKSPACE", home);
    node
}

async fn passes(mut node: Command) {
    let ran = tokio::task::spawn_blocking(move || node.output())
        .await
        .unwrap()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{told}\n{}", String::from_utf8_lossy(&ran.stderr));
}

/// Runs tests of the page against a workspace of one's own, with what `program` adds to `node`.
async fn run(namespace: &str, address: &str, program: &[&str], tests: &str) {
    let site = Site::new(namespace).await;
    let _gateway = site.gateway(&[]).await;
    let home = site.directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let _tmux = Tmux(home.join("tmux"));
    let _ttyd = ttyd_with(address, &["sh", "-c", &start(&home)]);
    site.create_running("dev1", address).await;
    passes(node(&site, &home, program, tests)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_work_in_a_terminal_as_they_are_used_to() {
    run("chromium", address(), &[], "terminal.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_tell_how_the_workspace_is() {
    run("chromium-workspace", address(), &[], "workspace.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_types_through_an_update_of_the_gateway_goes_on_at_the_other_one() {
    let site = Site::new("chromium-rolling").await;
    let ports: [u16; 2] = free_ports();
    let settings = [("GATEWAY_DRAIN_TIMEOUT", "2s")];
    let mut gateways = [
        site.gateway_at(ports[0], &settings).await,
        site.gateway_at(ports[1], &settings).await,
    ];
    let _balancer = Balancer::at(site.port(), ports.map(|port| format!("127.0.0.1:{port}"))).await;
    let home = site.directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let tmux = Tmux(home.join("tmux"));
    let kept = home.join("kept");
    let place = address();
    site.create_running("dev1", place).await;
    let program = keeping_lines(&kept);
    let _ttyd = ttyd_with(place, &tmux.attach(&program));
    let lines = || std::fs::read_to_string(&kept).unwrap_or_default().lines().count();
    let exchange = async {
        // A browser takes a while to start.
        while lines() < 3 {
            sleep(Duration::from_millis(50)).await;
        }
        let has_terminal = |gateway: &Gateway| !gateway.audited("ws.session.start").is_empty();
        let (old, new) = match has_terminal(&gateways[0]) {
            true => (0, 1),
            false => (1, 0),
        };
        assert!(!has_terminal(&gateways[new]));
        gateways[old].terminate();
        assert_eq!(gateways[old].exit_code(), Some(0));
        assert!(
            eventually(async || has_terminal(&gateways[new])).await,
            "{}",
            gateways[new].log()
        );
        std::fs::write(home.join("exchanged"), "").unwrap();
    };
    tokio::join!(passes(node(&site, &home, &[], "rolling.test.mjs")), exchange);
}

/// Keys that are made by scripts are never the browser's own: so there is an X server here, and somebody who presses them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_browser_reach_the_shell_in_an_app_window() {
    run(
        "app-window",
        address(),
        &["xvfb-run", "--auto-servernum"],
        "app-window.test.mjs",
    )
    .await;
}
