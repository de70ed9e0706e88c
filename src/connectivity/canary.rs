//! The canary's matrix: what somebody who may not enter it, and the canary itself, get to reach.
//!
//! | from | to | expected | shown by |
//! |---|---|---|---|
//! | whoever asks | the canary's report port | answer | |
//! | the canary | its own terminal port | answer | |
//! | whoever asks | the canary's terminal port | refusal | both |
//! | the canary | the cluster's DNS | answer | |
//! | whoever asks | the API server | answer | |
//! | the canary | the API server | refusal | both |
//! | whoever asks | each other place | answer | |
//! | the canary | each other place | refusal | that, and the cluster's DNS |
//!
//! Other places are a probe's, which has a pod for them that nobody polices. One at a terminal port shows for the canary's own, too, that nothing
//! but a policy closes that port.

use super::dial::{Asks, Observed, Target, dial};
use super::matrix::{Attempt, Expected, Verdict, judge};
use super::place::Place;
use super::report::Report;
use futures::future::{OptionFuture, join_all};
use std::net::{IpAddr, SocketAddr};

/// Where a canary listens, and what it listens for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// As in every workspace: for the gateway's pods alone.
    pub terminal: u16,
    /// For those who ask.
    pub report: u16,
}

/// What came of asking a canary.
#[derive(Clone, Debug)]
pub struct Round {
    pub attempts: Vec<Attempt>,
    /// Why a canary has told nothing.
    pub trouble: Option<String>,
    /// Other places where nobody answers anybody, so that nothing is shown.
    pub not_shown: Vec<String>,
    /// What policies allow and the canary did not get, although who asks it did.
    pub refused_too_much: Vec<String>,
}

/// Whom to ask, and what else to try.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks, such as `the operator`.
    pub who: &'a str,
    /// Of the canary, one of each family.
    pub addresses: &'a [IpAddr],
    pub ports: Ports,
    pub api_server: SocketAddr,
    /// Which a canary that was told of them tries, too.
    pub places: &'a [Place],
    /// Where who asks resolves names.
    pub name_server: Option<SocketAddr>,
}

impl Round {
    /// What it shows. Why a canary has told nothing says more than what is missing then.
    pub fn verdict(&self) -> Verdict {
        match (judge(&self.attempts), &self.trouble) {
            (Verdict::Unknown { .. }, Some(trouble)) => Verdict::Unknown { why: trouble.clone() },
            (verdict, _) => verdict,
        }
    }

    /// Where nobody is who answers, there is nothing to refuse.
    fn look_at(&mut self, who: &str, place: &Place, report: Option<&Report>, from_here: Observed) {
        let tried = report.and_then(|report| report.places.iter().find(|tried| tried.place == *place));
        let observed = tried.map_or(Observed::Refused, |tried| tried.observed);
        let control = to_place(who, place);
        if [observed, from_here].contains(&Observed::Answered) {
            self.attempts.push(Attempt {
                name: to_place("the canary", place),
                expected: Expected::Refusal,
                observed,
                shown_by: vec![NAMES.to_owned(), control.clone()],
            });
            self.attempts.push(allowed(control, from_here));
        } else {
            self.not_shown.push(place.to_string());
        }
    }
}

/// Asks a canary, and tries itself what is forbidden to who asks, and what shows that a target answers.
pub async fn ask(question: Question<'_>) -> Round {
    let Question {
        who,
        addresses,
        ports,
        api_server,
        places,
        name_server,
    } = question;
    let to_api_server = Target {
        address: api_server,
        asks: Asks::Http,
    };
    let at_addresses = addresses.iter().map(|address| async move {
        let terminal = Target {
            address: (*address, ports.terminal).into(),
            asks: Asks::Nothing,
        };
        let report = Report::fetch((*address, ports.report).into());
        let (terminal, report) = tokio::join!(dial(terminal), report);
        (*address, terminal, report)
    });
    let to_places = places.iter().map(|place| dial(place.target(ports.terminal)));
    let to_names = name_server.map(|address| {
        dial(Target {
            address,
            asks: Asks::Name,
        })
    });
    let (at_addresses, to_api_server, to_places, to_names) = tokio::join!(
        join_all(at_addresses),
        dial(to_api_server),
        join_all(to_places),
        OptionFuture::from(to_names)
    );
    let mut round = Round {
        attempts: vec![],
        trouble: None,
        not_shown: vec![],
        refused_too_much: vec![],
    };
    // That who asks gets into another pod by the same port.
    let same_port = places.iter().find(|place| place.address.port() == ports.terminal);
    let same_port = same_port.map(|place| to_place(who, place));
    let mut reports = Vec::new();
    for (address, terminal, report) in at_addresses {
        let report = report.map_err(|error| round.trouble = Some(error.to_string())).ok();
        let mut attempts = into(who, address, terminal, report.as_ref());
        attempts[0].shown_by.extend(same_port.clone());
        round.attempts.extend(attempts);
        reports.extend(report);
    }
    // The same pod has made them: one is as good as another.
    let report = reports.first();
    round.attempts.extend(out_of(who, report, api_server, to_api_server));
    for (place, from_here) in places.iter().zip(to_places) {
        round.look_at(who, place, report, from_here);
    }
    if to_names == Some(Observed::Answered) && report.is_some_and(|report| report.names != Observed::Answered) {
        round.refused_too_much.push(NAMES.to_owned());
    }
    round
}

/// Whoever asks, into the canary.
fn into(who: &str, address: IpAddr, terminal: Observed, report: Option<&Report>) -> [Attempt; 3] {
    let asked = format!("{who} to the canary's report at {address}");
    let own = format!("the canary to its own terminal port, told at {address}");
    let told = match report {
        Some(_) => Observed::Answered,
        None => Observed::Refused,
    };
    [
        Attempt {
            name: format!("{who} to the canary's terminal port at {address}"),
            expected: Expected::Refusal,
            observed: terminal,
            shown_by: vec![asked.clone(), own.clone()],
        },
        allowed(asked, told),
        allowed(own, report.map_or(Observed::Refused, |report| report.own_terminal)),
    ]
}

/// The canary, to elsewhere.
fn out_of(who: &str, report: Option<&Report>, api_server: SocketAddr, from_here: Observed) -> [Attempt; 3] {
    let names = NAMES.to_owned();
    let control = format!("{who} to the API server at {api_server}");
    // Another address than the one that is known to answer shows nothing.
    let same = report.is_some_and(|report| report.api_server_address == api_server);
    let address = report.map_or(api_server, |report| report.api_server_address);
    [
        Attempt {
            name: format!("the canary to the API server at {address}"),
            expected: Expected::Refusal,
            observed: report.map_or(Observed::Refused, |report| report.api_server),
            shown_by: vec![names.clone(), control.clone()],
        },
        allowed(names, report.map_or(Observed::Refused, |report| report.names)),
        allowed(control, if same { from_here } else { Observed::Refused }),
    ]
}

const NAMES: &str = "the canary to the cluster's DNS";

fn to_place(who: &str, place: &Place) -> String {
    format!("{who} to {place}")
}

fn allowed(name: String, observed: Observed) -> Attempt {
    Attempt {
        name,
        expected: Expected::Answer,
        observed,
        shown_by: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Tried;
    use super::*;

    const CANARY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn api_server() -> SocketAddr {
        "192.0.2.1:443".parse().unwrap()
    }

    fn report() -> Report {
        Report {
            own_terminal: Observed::Answered,
            names: Observed::Answered,
            api_server: Observed::Refused,
            api_server_address: api_server(),
            places: vec![],
        }
    }

    fn verdict(terminal: Observed, report: Option<&Report>, from_here: Observed) -> Verdict {
        let mut attempts = Vec::from(into("the operator", CANARY, terminal, report));
        attempts.extend(out_of("the operator", report, api_server(), from_here));
        judge(&attempts)
    }

    #[test]
    fn enforced_takes_every_control() {
        use Observed::{Answered, Opened, Refused};
        assert_eq!(verdict(Refused, Some(&report()), Answered), Verdict::Enforced);
        let unknown = |verdict: Verdict, told: &str| match verdict {
            Verdict::Unknown { why } => assert!(why.contains(told), "{why}"),
            other => panic!("{other:?}"),
        };
        // The operator's own way to the API server, or to the canary, is closed.
        unknown(
            verdict(Refused, Some(&report()), Refused),
            "the canary to the API server at 192.0.2.1:443: refused, but so was what is allowed: the operator to the API server",
        );
        unknown(
            verdict(Refused, None, Answered),
            "the operator to the canary's terminal port at 192.0.2.7: refused, but so was what is allowed: the operator to the canary's report",
        );
        // Nothing listens, or the canary gets nowhere.
        let deaf = Report {
            own_terminal: Refused,
            ..report()
        };
        unknown(
            verdict(Refused, Some(&deaf), Answered),
            "the canary to its own terminal port",
        );
        let cut_off = Report {
            names: Refused,
            ..report()
        };
        unknown(
            verdict(Refused, Some(&cut_off), Answered),
            "the canary to the cluster's DNS",
        );
        let elsewhere = Report {
            api_server_address: "192.0.2.99:443".parse().unwrap(),
            ..report()
        };
        unknown(
            verdict(Refused, Some(&elsewhere), Answered),
            "the API server at 192.0.2.99:443",
        );
        unknown(verdict(Opened, Some(&report()), Answered), "nothing came back");
    }

    #[test]
    fn one_answer_is_enough_to_say_that_they_are_not() {
        use Observed::{Answered, Refused};
        let passed = |name: &str| Verdict::NotEnforced {
            passed: vec![name.to_owned()],
        };
        assert_eq!(
            verdict(Answered, None, Refused),
            passed("the operator to the canary's terminal port at 192.0.2.7")
        );
        let out = Report {
            api_server: Answered,
            ..report()
        };
        assert_eq!(
            verdict(Refused, Some(&out), Answered),
            passed("the canary to the API server at 192.0.2.1:443")
        );
    }

    #[test]
    fn another_place_counts_where_somebody_answers() {
        use Observed::{Answered, Refused};
        let place: Place = "a node's kubelet=192.0.2.9:10250".parse().unwrap();
        let look = |there, from_here| {
            let tried = Tried {
                place: place.clone(),
                observed: there,
            };
            let report = Report {
                places: vec![tried],
                ..report()
            };
            let mut round = Round {
                attempts: Vec::from(out_of("another pod", Some(&report), api_server(), Answered)),
                trouble: None,
                not_shown: vec![],
                refused_too_much: vec![],
            };
            round.look_at("another pod", &place, Some(&report), from_here);
            (round.verdict(), round.not_shown.len())
        };
        assert_eq!(look(Refused, Answered), (Verdict::Enforced, 0));
        assert_eq!(look(Refused, Refused), (Verdict::Enforced, 1), "there is nobody there");
        let passed = Verdict::NotEnforced {
            passed: vec!["the canary to a node's kubelet at 192.0.2.9:10250".to_owned()],
        };
        assert_eq!(look(Answered, Answered), (passed.clone(), 0));
        assert_eq!(look(Answered, Refused), (passed, 0));
    }
}
