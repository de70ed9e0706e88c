//! What the system knows of a process: the time that it has taken, and its memory.

/// User and system time (proc_pid_stat(5)): clock ticks of 10 ms.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// What a process has done, or did for each of some things.
#[derive(Clone, Copy)]
pub struct Work {
    /// In seconds.
    pub cpu: f64,
    /// How often a thread waited, and was woken.
    pub waits: f64,
}

impl Work {
    pub fn since(self, before: Self, things: usize) -> Self {
        Self {
            cpu: (self.cpu - before.cpu) / things as f64,
            waits: (self.waits - before.waits) / things as f64,
        }
    }
}

/// That of all threads: nanoseconds of /proc/PID/task/TID/schedstat, and voluntary context switches.
pub fn work(pid: u32) -> Work {
    let mut all = Work { cpu: 0.0, waits: 0.0 };
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let read = |name: &str| std::fs::read_to_string(thread.as_ref().unwrap().path().join(name)).unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0);
        all.cpu += number(read("schedstat").split(' ').next()) / 1e9;
        let status = read("status");
        all.waits += number(
            status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")),
        );
    }
    all
}

pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The one in the middle.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
