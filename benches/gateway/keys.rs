//! Keys become the round trip of each, and what each costs the process that it goes through.

use crate::browser::{Browser, Terminal};
use crate::process::{Work, median, work};
use crate::{Place, binary, terminal};
use std::time::{Duration, Instant};

const KEYS_PER_SESSION: usize = 100;
/// How fast each of them types.
const KEY_EVERY: Duration = Duration::from_millis(50);
/// Places are measured in turns, so that what else happens meanwhile happens to all of them.
const ROUNDS: usize = 3;

/// One round, in seconds.
struct Round {
    p50: f64,
    p99: f64,
    /// Of one key, with its share of the opening of its session.
    work: Option<Work>,
}

pub async fn ratios(browser: &Browser, places: &[Place], origin: &str, sessions: usize) {
    println!(
        "keystroke round trip, {KEYS_PER_SESSION} keys in each session, one every {} ms, median of {ROUNDS}",
        KEY_EVERY.as_millis()
    );
    let mut rounds: Vec<Vec<Round>> = places.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (place, rounds) in places.iter().zip(&mut rounds) {
            rounds.push(round(browser, place, origin, sessions).await);
        }
    }
    let middle = |rounds: &[Round], of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let direct = (
        middle(&rounds[0], |round| round.p50),
        middle(&rounds[0], |round| round.p99),
    );
    for (place, rounds) in places.iter().zip(&rounds) {
        let (p50, p99) = (middle(rounds, |round| round.p50), middle(rounds, |round| round.p99));
        let work = |of: fn(Work) -> f64| median(rounds.iter().filter_map(|round| round.work.map(of)).collect());
        let work = place.pid.map_or(String::new(), |_| {
            format!(
                "   a key: {:>5.1} us CPU, {:.2} waits",
                work(|work| work.cpu) * 1e6,
                work(|work| work.waits)
            )
        });
        println!(
            "  {sessions:>5} sessions  {:<10} p50 {:>7.1} us ({:.2} x direct)   p99 {:>8.1} us ({:.2} x){work}",
            place.name,
            p50 * 1e6,
            p50 / direct.0,
            p99 * 1e6,
            p99 / direct.1,
        );
    }
}

/// Each types as soon as it is open.
async fn round(browser: &Browser, place: &Place, origin: &str, sessions: usize) -> Round {
    let before = place.pid.map(work);
    let mut typing = Vec::new();
    for _ in 0..sessions {
        let terminal = terminal(browser, &place.address, origin).await;
        typing.push(tokio::spawn(keys(terminal)));
    }
    let mut times = Vec::new();
    for one in typing {
        times.extend(one.await.unwrap());
    }
    let work = before
        .zip(place.pid)
        .map(|(before, pid)| work(pid).since(before, times.len()));
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64();
    Round {
        p50: at(0.5),
        p99: at(0.99),
        work,
    }
}

/// The round trip of every key of one session.
async fn keys(mut terminal: Terminal) -> Vec<Duration> {
    let mut times = Vec::with_capacity(KEYS_PER_SESSION);
    let mut tick = tokio::time::interval(KEY_EVERY);
    for _ in 0..KEYS_PER_SESSION {
        tick.tick().await;
        let started = Instant::now();
        terminal.send(b"0k").await;
        binary(&mut terminal).await;
        times.push(started.elapsed());
    }
    times
}
