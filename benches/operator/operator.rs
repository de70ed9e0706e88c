//! An operator's binary becomes a process under the chart's Role, and what it has used.

use crate::apiserver::free_ports;
use crate::cluster::{Cluster, NAMESPACE};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Operator {
    child: Child,
    started: Instant,
    log: tempfile::NamedTempFile,
}

impl Operator {
    /// Any program that takes the operator's settings from its environment; waits until it is ready. `command` is a path and
    /// arguments.
    pub async fn start(cluster: &Cluster, command: &str, user: &str) -> Self {
        let [metrics, probes] = free_ports();
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut words = command.split_whitespace();
        let child = Command::new(words.next().expect("a path"))
            .args(words)
            .env_clear()
            .env("KUBECONFIG", cluster.server.kubeconfig(user))
            .env("NAMESPACE", NAMESPACE)
            .env("POD_NAMESPACE", NAMESPACE)
            .env("GATEWAY_NAMESPACE", NAMESPACE)
            .env("WORKSPACE_IMAGE", "registry.test/devplane-workspace:1")
            .env("CLUSTER_CIDRS", "10.96.0.0/16,10.244.0.0/16")
            .env("METRICS_BIND_ADDRESS", format!("127.0.0.1:{metrics}"))
            .env("HEALTH_PROBE_BIND_ADDRESS", format!("127.0.0.1:{probes}"))
            .env("IDLE_TIMEOUT", "8h")
            .env("MIMALLOC_ALLOW_THP", "0")
            .stderr(Stdio::from(log.reopen().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let operator = Self {
            child,
            started: Instant::now(),
            log,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_ready(probes) {
            assert!(Instant::now() < deadline, "not ready: {}", operator.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        operator
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// User and system time (proc_pid_stat(5)): clock ticks of 10 ms.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        ticks as f64 / 100.0
    }

    pub fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Waits until it has used no processor time for two seconds; gives the time from its start to its last use.
    pub async fn quiet(&self) -> Duration {
        let (mut used, mut since) = (self.cpu_seconds(), Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.cpu_seconds();
            // A tick is what timers and probes use.
            if now > used + 0.011 {
                (used, since) = (now, Instant::now());
            }
        }
        since - self.started
    }

    /// SIGTERM, as Kubernetes does it.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(port: u16) -> bool {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    answer().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
