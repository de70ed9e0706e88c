//! The chart, installed on a real API server, and what stands in for the controllers that it has not.

use crate::apiserver::{self, ApiServer};
use crate::doctor_report;
use crate::way_to_api_server::WayIn;
use devplane::clock::{Clock, SystemClock};
use hyper::Response;
use hyper::body::Bytes;
use serde_json::Value;
use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One fault.
pub struct Row {
    pub name: &'static str,
    /// The claim that finds it, and no other.
    pub code: &'static str,
    /// A bash script that makes it. `kubectl`, `helm`, `devplane` and what [`Site::script`] says are there.
    pub fault: &'static str,
    /// Values over those of the site, for the doctor, and for Helm once they are mended.
    pub values: &'static str,
    pub mend: Mend,
    /// A bash script that takes away what is left of it.
    pub undo: &'static str,
}

/// How it is mended.
pub enum Mend {
    /// By what the doctor prints, a command or values, and then this script: what a controller would do.
    Printed(&'static str),
    /// By this script, where the doctor tells in words what to do.
    Script(&'static str),
    /// By these values, where the doctor tells in words what to do.
    Values(&'static str),
}

pub struct Site {
    server: &'static ApiServer,
    directory: tempfile::TempDir,
    base: PathBuf,
    renews: &'static Mutex<bool>,
    /// Helm has installed other values than the site's.
    is_changed: Cell<bool>,
}

/// Where the chart is installed.
pub const NAMESPACE: &str = "workspace-operator-system";

/// Shell functions for scripts.
const FUNCTIONS: &str = r#"
set -euo pipefail
status() { kubectl patch "$1" ${4+-n "$4"} --subresource=status --type "${3-merge}" -p "$2" >/dev/null; }
settle() {
  local name found
  for name in workspace-operator workspace-gateway; do
    found=$(kubectl get deployment "$name" -n workspace-operator-system -o 'jsonpath={.metadata.generation} {.spec.replicas}' 2>/dev/null) || continue
    set -- $found
    status "deployment/$name" "{\"status\":{\"observedGeneration\":$1,\"replicas\":$2,\"updatedReplicas\":$2,\"readyReplicas\":$2,\"availableReplicas\":$2}}" merge workspace-operator-system
  done
}
# An address that the API server connects to: it never does to loopback.
own_address() { ip -4 -o address show scope global | awk 'NR == 1 { sub("/.*", "", $4); print $4 }'; }
# A pod of this app, of which the address alone is real.
running_pod() { # APP
  # On the host's network, which `restricted` does not let in.
  enforce privileged
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Pod
metadata: {name: $1-0, namespace: workspace-operator-system, labels: {app: $1}}
spec: {hostNetwork: true, containers: [{name: a, image: "registry.example.test/a:1"}]}
END
  status "pod/$1-0" "{\"status\":{\"phase\":\"Running\",\"podIP\":\"$(own_address)\",\"podIPs\":[{\"ip\":\"$(own_address)\"}]}}" merge workspace-operator-system
  enforce restricted
}
enforce() { kubectl label --overwrite namespace workspace-operator-system "pod-security.kubernetes.io/enforce=$1" >/dev/null; }
delete_pods() { kubectl delete pod -n workspace-operator-system --force --grace-period=0 "$@" >/dev/null 2>&1; }
# Metrics of one name, on the port of operator and gateway.
serve() { # NAME
  stop_serving
  mkdir -p ~/metrics && echo "$1 1" > ~/metrics/metrics
  python3 -m http.server 8080 --bind "$(own_address)" --directory ~/metrics >/dev/null 2>&1 </dev/null &
  echo $! > ~/metrics.pid
  until curl -fs "http://$(own_address):8080/metrics" >/dev/null; do sleep 0.1; done
}
stop_serving() { if [ -e ~/metrics.pid ]; then kill "$(cat ~/metrics.pid)"; rm ~/metrics.pid; fi; }
with_cilium() {
  kubectl create -f ~/cilium.yaml >/dev/null
  until kubectl get ciliumnetworkpolicies.cilium.io -n workspaces >/dev/null 2>&1; do sleep 0.2; done
}
upgrade() { # VALUES...
  local files=() file
  for file in "$@"; do files+=(-f "$file"); done
  helm upgrade --install devplane "$CHART" -n workspace-operator-system --create-namespace "${files[@]}" >/dev/null
  settle
}
"#;

impl Site {
    /// Installs the chart with `values`.
    pub fn new(name: &str, values: &str) -> Self {
        let server = apiserver::shared();
        let directory = tempfile::Builder::new()
            .prefix(&format!("devplane-doctor-{name}-"))
            .tempdir()
            .unwrap();
        let base = directory.path().join("values.yaml");
        std::fs::write(&base, values).unwrap();
        let site = Self {
            server,
            directory,
            base,
            renews: Box::leak(Box::new(Mutex::new(true))),
            is_changed: Cell::new(false),
        };
        site.helm(&[]);
        site.renew_lease();
        site
    }

    fn chart() -> String {
        format!("{}/chart/devplane", env!("CARGO_MANIFEST_DIR"))
    }

    /// A file in the directory that scripts call `~`.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Installs or upgrades with the site's values and these over them.
    pub fn helm(&self, more: &[PathBuf]) {
        self.try_helm(more).unwrap_or_else(|said| panic!("{said}"));
    }

    fn try_helm(&self, more: &[PathBuf]) -> Result<(), String> {
        self.is_changed.set(!more.is_empty());
        let files = [&self.base]
            .into_iter()
            .chain(more)
            .map(|path| path.display().to_string());
        self.try_script(&format!("upgrade {}", files.collect::<Vec<_>>().join(" ")))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let binaries = self.server.binary("kubectl");
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_devplane"));
        let path = format!(
            "{}:{}:/usr/bin:/bin",
            binaries.parent().unwrap().display(),
            ours.parent().unwrap().display()
        );
        let home = self.directory.path();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", home)
            .env("CHART", Self::chart())
            .env("KUBECONFIG", self.server.kubeconfig("admin"));
        command
    }

    /// Runs a bash script with an administrator's rights. `status KIND/NAME PATCH [TYPE [NAMESPACE]]` patches a status, `upgrade FILE...` upgrades the
    /// release with these values (`~/values.yaml` are the site's, `~/fault.yaml` the row's).
    pub fn script(&self, text: &str) {
        self.try_script(text).unwrap_or_else(|said| panic!("{said}"));
    }

    /// The same, giving what it said when it fails.
    fn try_script(&self, text: &str) -> Result<(), String> {
        let output = self.run(text);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("{text}\n{said}"))
        }
    }

    fn run(&self, text: &str) -> Output {
        let mut child = self
            .command("bash")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(FUNCTIONS.as_bytes()).unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// Says of the Deployments that they are as they should be, as their controller would.
    pub fn settle(&self) {
        self.script("settle");
    }

    /// An operator that leads, until the process ends or [`Self::lead`] says otherwise.
    fn renew_lease(&self) {
        // Without the operator's label: it serves nothing.
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: workspace-operator-leader, namespace: {NAMESPACE}}}\nspec: {{containers: [{{name: operator, image: \"registry.example.test/devplane:2\"}}]}}\n"
        );
        self.server.kubectl_ok(&["apply", "-f", "-"], Some(&pod));
        self.script(&format!(
            "status pod/workspace-operator-leader '{{\"status\":{{\"phase\":\"Running\"}}}}' merge {NAMESPACE}"
        ));
        let lease = format!(
            "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {{name: workspace-operator, namespace: {NAMESPACE}}}\nspec: {{holderIdentity: workspace-operator-leader, leaseDurationSeconds: 15}}\n"
        );
        self.server.kubectl_ok(&["apply", "-f", "-"], Some(&lease));
        let (server, renews) = (self.server, self.renews);
        std::thread::spawn(move || {
            loop {
                // Held until it is renewed, so that none comes behind the end of it.
                let leads = renews.lock().unwrap();
                if *leads {
                    let patch = format!("{{\"spec\":{{\"renewTime\":\"{:.6}\"}}}}", SystemClock.now());
                    let arguments = [
                        "patch",
                        "lease",
                        "workspace-operator",
                        "-n",
                        NAMESPACE,
                        "--type",
                        "merge",
                        "-p",
                        &patch,
                    ];
                    server.kubectl(&arguments, None);
                }
                drop(leads);
                std::thread::sleep(Duration::from_millis(400));
            }
        });
    }

    /// Whether an operator leads.
    pub fn lead(&self, leads: bool) {
        *self.renews.lock().unwrap() = leads;
    }

    /// What the doctor reports, with values over those of the site.
    pub fn doctor(&self, groups: &str, more: &[PathBuf]) -> Value {
        self.doctor_at(&self.server.kubeconfig("admin"), groups, more)
    }

    /// The same by another way to the API server.
    pub fn doctor_at(&self, kubeconfig: &Path, groups: &str, more: &[PathBuf]) -> Value {
        let mut command = self.command(env!("CARGO_BIN_EXE_devplane"));
        command
            .env("KUBECONFIG", kubeconfig)
            .args([
                "doctor",
                "--only",
                groups,
                "-o",
                "json",
                "--namespace",
                NAMESPACE,
                "--values",
            ])
            .arg(&self.base);
        for path in more {
            command.arg("--values").arg(path);
        }
        let output = command.output().unwrap();
        assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let report = doctor_report::read(&output.stdout);
        let is_sound = report["summary"]["failed"] == 0;
        assert_eq!(output.status.code(), Some(i32::from(!is_sound)), "{report}");
        report
    }

    /// The same with the rights that the chart gives the doctor in the cluster. There it takes the domain from its own `/etc/resolv.conf`.
    pub fn doctor_in_the_cluster(&self, groups: &str) -> Value {
        self.script(&format!(
            "helm template devplane {} -n {NAMESPACE} -f {} --kube-version 1.36.0 --set doctor.clusterWide=true --show-only templates/doctor.yaml | kubectl apply -f - >/dev/null",
            Self::chart(),
            self.base.display()
        ));
        let admin = std::fs::read_to_string(self.server.kubeconfig("admin")).unwrap();
        let account = format!("\"user\":{{\"as\":\"system:serviceaccount:{NAMESPACE}:workspace-doctor\",");
        let kubeconfig = self.file("doctor.kubeconfig", &admin.replace("\"user\":{", &account));
        let output = self
            .command(env!("CARGO_BIN_EXE_devplane"))
            .env("KUBECONFIG", kubeconfig)
            .args([
                "doctor",
                "--only",
                groups,
                "--skip",
                "DP0301,DP0802",
                "-o",
                "json",
                "--values",
            ])
            .arg(&self.base)
            .output()
            .unwrap();
        doctor_report::read(&output.stdout)
    }

    /// The doctor with the one probe that makes a volume.
    fn trial_volume(&self) -> Command {
        let mut doctor = self.command(env!("CARGO_BIN_EXE_devplane"));
        doctor
            .args(["doctor", "--only", "DP0406", "--probe", "--namespace", NAMESPACE])
            .arg("--values")
            .arg(&self.base)
            .stdout(Stdio::piped());
        doctor
    }

    /// Interrupts a probe when it has made its volume, and gives what is left of it that is not being deleted.
    pub fn interrupt_probe(&self) -> String {
        let left = "kubectl get pvc,pod -n workspaces -l workspace.devplane.io/doctor-probe -o 'go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}'";
        let mut doctor = self.trial_volume().spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.run(left).stdout.is_empty() {
            assert!(Instant::now() < deadline, "the probe makes nothing");
            std::thread::sleep(Duration::from_millis(200));
        }
        let interrupted = Command::new("kill")
            .args(["-INT", &doctor.id().to_string()])
            .status()
            .unwrap();
        assert!(interrupted.success());
        assert_eq!(doctor.wait().unwrap().code(), Some(130));
        String::from_utf8(self.run(left).stdout).unwrap()
    }

    /// What the doctor reports of a trial volume while `provisioner`, a bash script, does what a driver would.
    pub fn try_volume(&self, provisioner: &str) -> Value {
        let doctor = self.trial_volume().args(["-o", "json"]).spawn().unwrap();
        self.script(provisioner);
        let output = doctor.wait_with_output().unwrap();
        doctor_report::read(&output.stdout)
    }

    /// The same where no volume is made, by another way to the API server.
    pub fn try_volume_at(&self, kubeconfig: &Path) -> Value {
        let mut doctor = self.trial_volume();
        let output = doctor.env("KUBECONFIG", kubeconfig).args(["-o", "json"]).output();
        doctor_report::read(&output.unwrap().stdout)
    }

    /// The real API server, with what it says of its version and time changed.
    pub fn api_server_that(&self, change: impl Fn(&mut Response<Bytes>) + Send + Sync + 'static) -> WayIn {
        WayIn::new(self.server, change)
    }

    /// Nothing is wrong, and that is known within the time that is promised: by the best of some runs, as others may use the machine meanwhile.
    pub fn expect_healthy(&self, groups: &str) {
        let mut took = Vec::new();
        while took.len() < 5 {
            let begin = Instant::now();
            let report = self.doctor(groups, &[]);
            assert_eq!(failures(&report), Vec::<String>::new(), "{report:#}");
            let elapsed = begin.elapsed();
            if elapsed < Duration::from_secs(20) {
                return;
            }
            took.push(elapsed);
        }
        panic!("{took:?}");
    }
}

/// What does not hold, in a line each.
fn told(report: &Value) -> String {
    let findings = report["findings"].as_array().unwrap().iter();
    let failed = findings.filter(|finding| finding["status"] == "failed");
    let lines = failed.map(|finding| {
        let failure = &finding["failure"];
        format!(
            "  {}: {} (found: {})\n",
            finding["code"], failure["problem"], failure["found"]
        )
    });
    lines.collect()
}

/// The codes of what does not hold.
pub fn failures(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let failed = findings.filter(|finding| finding["status"] == "failed");
    failed
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

pub fn failure<'a>(report: &'a Value, code: &str) -> &'a Value {
    let mut findings = report["findings"].as_array().unwrap().iter();
    &findings.find(|finding| finding["code"] == code).unwrap()["failure"]
}

/// Makes the fault, has it found, mends it, and has it gone. What is left of it is taken away in any case.
///
/// # Errors
/// What was not as it should be.
pub fn examine(site: &Site, groups: &str, row: &Row) -> Result<(), String> {
    let result = faulty(site, groups, row);
    site.lead(true);
    let result = result.and(site.try_script(row.undo));
    if site.is_changed.replace(false) {
        site.helm(&[]);
    }
    site.settle();
    let report = site.doctor(groups, &[]);
    let left = told(&report);
    result.and(if left.is_empty() {
        Ok(())
    } else {
        Err(format!("left behind:\n{left}"))
    })
}

fn faulty(site: &Site, groups: &str, row: &Row) -> Result<(), String> {
    let mut files = vec![site.file("fault.yaml", row.values)];
    if row.code == "DP1102" {
        site.lead(false);
    }
    site.is_changed.set(row.fault.contains("upgrade "));
    site.try_script(row.fault)?;
    let report = site.doctor(groups, &files);
    let found = failures(&report);
    if found != [row.code] {
        return Err(format!("found {found:?} instead of {}:\n{}", row.code, told(&report)));
    }
    let failure = failure(&report, row.code);
    for field in ["problem", "found", "expected"] {
        if failure[field].as_str().unwrap().is_empty() {
            return Err(format!("{field} is empty: {failure}"));
        }
    }
    let fix = &failure["fix"];
    let text = fix["text"].as_str().unwrap();
    match (&row.mend, fix["kind"].as_str().unwrap()) {
        (Mend::Printed(then), "command") => {
            site.try_script(text)?;
            site.lead(true);
            site.settle();
            site.try_script(then)?;
        }
        (Mend::Printed(then), "values") => {
            files.push(site.file("fix.yaml", text));
            site.try_helm(&files)?;
            site.try_script(then)?;
        }
        (Mend::Values(values), "words") => files.push(site.file("fix.yaml", values)),
        (Mend::Script(script), "words") => site.try_script(script)?,
        (_, kind) => return Err(format!("the fix is one of {kind}: {text}")),
    }
    // What the API server does a moment later, such as taking up a definition.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let report = site.doctor(groups, &files);
        let left = failures(&report);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("still there after\n{text}\n{}", told(&report)));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
