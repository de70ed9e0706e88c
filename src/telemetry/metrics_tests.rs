//! The page lists what is exposed, and the chart's dashboard and alerts ask for nothing else. That it is OpenMetrics, the tests
//! of the processes show with a parser.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A family as it is exposed.
#[derive(Debug, Default)]
struct Told {
    kind: String,
    unit: String,
    /// The values of each label that were seen.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Every family. One that is not touched here does not compile.
fn operator() -> String {
    let metrics = OperatorMetrics::default();
    metrics.set_phases(|| vec![("None", 0), ("Running", 3)]);
    let OperatorMetrics {
        registry: _,
        phase_transitions,
        status_patch_failures,
        leader,
        workspaces: _,
        count_phases: _,
        stops,
        create_to_running,
        reconcile_duration,
        reconcile_errors,
        queue_depth,
        cluster_ranges_known,
        terminal_authorities_usable,
        policy_enforcement: _,
    } = &metrics;
    metrics.set_enforcement(Some("enforced"));
    let transition = PhaseTransition {
        from_phase: "None",
        to_phase: "Pending",
    };
    phase_transitions.get_or_create(&transition).inc();
    status_patch_failures.inc();
    leader.set(1);
    // They begin with every value that there is.
    let _ = (stops, reconcile_errors, reconcile_duration);
    create_to_running.observe(3.0);
    queue_depth.set(2);
    cluster_ranges_known.set(1);
    terminal_authorities_usable.set(1);
    metrics.encode()
}

fn gateway() -> String {
    let metrics = GatewayMetrics::default();
    let GatewayMetrics {
        registry: _,
        json_api_errors,
        rate_limit_hits,
        session_refreshes,
        backchannel_logouts,
        open_sessions,
        // All of them are there from the start.
        recording_failures: _,
        refusals: _,
        terminal_bytes: _,
        terminal_first_byte,
        terminal_closes,
    } = &metrics;
    // They begin with every value that there is.
    let _ = (session_refreshes, backchannel_logouts);
    terminal_first_byte.observe(0.1);
    let close = TerminalClose {
        reason: "client_closed",
    };
    terminal_closes.get_or_create(&close).inc();
    let error = JsonApiError {
        http_status: 401,
        error_code: "unauthorized",
    };
    json_api_errors.get_or_create(&error).inc();
    // One of those that are there from the start.
    let hit = RateLimitHit {
        endpoint: RateLimitEndpoint::Websocket,
        scope: RateLimitScope::User,
    };
    rate_limit_hits.get_or_create(&hit).inc();
    open_sessions.set(1);
    metrics.encode()
}

/// Reads what the encoder writes, which is less than the format allows.
fn read_families(text: &str, families: &mut BTreeMap<String, Told>) {
    let mut current = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            current = if kind == "counter" {
                format!("{name}_total")
            } else {
                name.to_owned()
            };
            families.entry(current.clone()).or_default().kind = kind.to_owned();
        } else if let Some(described) = line.strip_prefix("# UNIT ") {
            let (_, unit) = described.split_once(' ').unwrap();
            families.get_mut(&current).unwrap().unit = unit.to_owned();
        } else if !line.starts_with('#') {
            let Some((_, labels)) = line.split_once('{') else {
                continue;
            };
            let (labels, _) = labels.split_once('}').unwrap();
            for label in labels.split(',') {
                let (label, value) = label.split_once('=').unwrap();
                if label != "le" {
                    let seen = &mut families.get_mut(&current).unwrap().labels;
                    seen.entry(label.to_owned())
                        .or_default()
                        .insert(value.trim_matches('"').to_owned());
                }
            }
        }
    }
}

fn all() -> BTreeMap<String, Told> {
    let mut families = BTreeMap::new();
    read_families(&operator(), &mut families);
    read_families(&gateway(), &mut families);
    families
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn names_that_existing_dashboards_rely_on_stay() {
    let (operator, gateway) = (operator(), gateway());
    for (text, line) in [
        (
            &operator,
            r#"devplane_workspace_phase_transitions_total{from_phase="None",to_phase="Pending"} 1"#,
        ),
        (&operator, "devplane_workspace_status_patch_failures_total 1"),
        (
            &gateway,
            r#"devplane_gateway_json_api_errors_total{http_status="401",error_code="unauthorized"} 1"#,
        ),
        (
            &gateway,
            r#"devplane_gateway_rate_limit_hits_total{endpoint="websocket",scope="user"} 1"#,
        ),
    ] {
        assert!(text.lines().any(|told| told == line), "no {line} in {text}");
    }
}

#[test]
fn a_stage_that_is_given_up_is_timed_too() {
    let metrics = OperatorMetrics::default();
    {
        let _timed = metrics.time(TimedStage::Apply);
        assert!(!metrics.encode().contains(r#"_count{stage="apply"} 1"#));
    }
    assert!(metrics.encode().contains(r#"_count{stage="apply"} 1"#));
}

#[test]
fn the_page_lists_every_family() {
    let page = read("docs/reference/metrics.md");
    let code = |text: &str| -> Vec<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut listed = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `devplane_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, unit, meaning] = cells.as_slice() else {
            panic!("{row}");
        };
        assert!(meaning.len() > 10, "{row}");
        let labels: BTreeSet<String> = code(labels).into_iter().collect();
        let told = ((*kind).to_owned(), (*unit).to_owned(), labels);
        assert_eq!(listed.insert(code(name).concat(), told), None, "{row} is there twice");
    }
    let exposed: BTreeMap<_, _> = all()
        .into_iter()
        .map(|(name, told)| (name, (told.kind, told.unit, told.labels.into_keys().collect())))
        .collect();
    assert_eq!(listed, exposed);

    let values: BTreeMap<String, BTreeSet<String>> = page
        .lines()
        .filter(|line| line.starts_with("| `") && !line.starts_with("| `devplane_"))
        .filter_map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            Some((
                format!("{} of {}", code(cells.first()?).concat(), code(cells.get(1)?).concat()),
                code(cells.get(2)?).into_iter().collect(),
            ))
        })
        .collect();
    for (name, told) in all() {
        for (label, seen) in told.labels {
            let of = format!("{label} of {name}");
            let listed = values
                .get(&of)
                .unwrap_or_else(|| panic!("docs/reference/metrics.md does not list the values of {of}"));
            assert!(seen.is_subset(listed), "{of}: {seen:?} are exposed, {listed:?} listed");
        }
    }
}

/// Names like `devplane_x` in `text`, without what a histogram adds to them.
fn asked_for(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("devplane_"));
    names
        .map(|name| {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            base.unwrap_or(name).to_owned()
        })
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let known: BTreeSet<String> = all().into_keys().collect();
    let (dashboard, alerts) = (
        asked_for(&read("chart/devplane/dashboards/devplane.json")),
        asked_for(&read("chart/devplane/alerts/devplane.yaml")),
    );
    assert_eq!(alerts.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(dashboard, known, "the dashboard shows every family");
}
