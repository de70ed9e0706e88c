//! The settings of session recording become a [`RecordingConfig`], or none.

use super::reader::Reader;
use super::setting::{Setting, setting};
use super::syntax;
use crate::units::go_duration::GoDuration;
use crate::units::quantity::Quantity;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// How sessions are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingConfig {
    pub mode: Mode,
    pub directory: PathBuf,
    pub on_failure: OnFailure,
    pub input: Input,
    pub sync: Sync,
    pub checkpoint_records: NonZeroU64,
    pub checkpoint_every: Duration,
    pub key: Option<PathBuf>,
    pub compress: bool,
    /// `None` keeps them for ever.
    pub keep_for: Option<Duration>,
    pub max_bytes: Option<u64>,
    pub notice: Notice,
}

/// How much of a session is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// When, which way, how long, and a hash.
    Metadata,
    /// The payloads too.
    Full,
}

/// What is kept of what a user types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// What the mode says.
    All,
    /// How long it was, never what: passwords that a program asks for are typed too, and the hash of one key, or of its echo, gives it away.
    Lengths,
}

/// When written bytes must have reached the disk itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the system sees fit.
    Never,
    /// Before each checkpoint and at the end of a session.
    Checkpoint,
    /// After each batch of records.
    Batch,
}

/// What becomes of a session that can't be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    EndSession,
    GoOn,
}

/// Where users are told that they are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    pub in_bar: bool,
    pub in_title: bool,
}

pub const SESSION_RECORDING_ENABLED: Setting = setting("SESSION_RECORDING_ENABLED", "sessionRecording.enabled")
    .default("false")
    .help("whether terminals are recorded");
pub const SESSION_RECORDING_MODE: Setting = setting("SESSION_RECORDING_MODE", "sessionRecording.mode")
    .default("metadata")
    .help("off; metadata: when, which way, how long, and a hash; full: what was shown and typed too");
pub const SESSION_RECORDING_DIR: Setting = setting("SESSION_RECORDING_DIR", "sessionRecording.directory")
    .help("the directory for recordings, needed to record; gateways may share it");
pub const SESSION_RECORDING_ON_FAILURE: Setting = setting("SESSION_RECORDING_ON_FAILURE", "sessionRecording.onFailure")
    .default("closed")
    .help("closed: a session that can't be recorded is ended; open: it goes on, with an audit event and an alert");
pub const SESSION_RECORDING_INPUT: Setting = setting("SESSION_RECORDING_INPUT", "sessionRecording.input")
    .default("all")
    .help("all: what is typed is kept as the mode says; lengths: only how much was typed, so no password is kept (what is echoed is output: full keeps it, metadata not even a hash of it)");
pub const SESSION_RECORDING_FSYNC: Setting = setting("SESSION_RECORDING_FSYNC", "sessionRecording.fsync")
    .default("checkpoint")
    .help("when records must have reached the disk: never, checkpoint or batch");
pub const SESSION_RECORDING_CHECKPOINT_RECORDS: Setting = setting(
    "SESSION_RECORDING_CHECKPOINT_RECORDS",
    "sessionRecording.checkpoint.records",
)
.default("1000")
.help("a checkpoint is signed after this many records");
pub const SESSION_RECORDING_CHECKPOINT_INTERVAL: Setting = setting(
    "SESSION_RECORDING_CHECKPOINT_INTERVAL",
    "sessionRecording.checkpoint.interval",
)
.default("30s")
.help("a checkpoint is signed after this long, if there are new records");
pub const SESSION_RECORDING_KEY_FILE: Setting = setting("SESSION_RECORDING_KEY_FILE", "sessionRecording.keyFile")
    .help("an Ed25519 private key (PKCS#8, PEM) that signs; unsigned recordings show damage, not forgery");
pub const SESSION_RECORDING_COMPRESS: Setting = setting("SESSION_RECORDING_COMPRESS", "sessionRecording.compress")
    .default("true")
    .help("whether recordings are compressed (zstd) when their sessions have ended");
pub const SESSION_RECORDING_KEEP_FOR: Setting = setting("SESSION_RECORDING_KEEP_FOR", "sessionRecording.keepFor")
    .default("0")
    .help("recordings are removed this long after their sessions ended, such as 2160h; 0 keeps them");
pub const SESSION_RECORDING_MAX_SIZE: Setting = setting("SESSION_RECORDING_MAX_SIZE", "sessionRecording.maxSize")
    .default("0")
    .help(
        "the oldest ended recordings are removed while all together are larger than this, such as 50Gi; 0 is unlimited",
    );
pub const SESSION_RECORDING_NOTICE: Setting = setting("SESSION_RECORDING_NOTICE", "sessionRecording.notice")
    .default("both")
    .help("where users see that they are recorded: bar, title, both or none");

/// One of a few words.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    })
}

impl RecordingConfig {
    /// The outer `None` is a problem, the inner one that nothing is recorded. Settings are checked whether they are used or not.
    pub fn read(r: &mut Reader<'_>) -> Option<Option<Self>> {
        let enabled = r.parse(&SESSION_RECORDING_ENABLED, syntax::boolean);
        let modes = [
            ("off", None),
            ("metadata", Some(Mode::Metadata)),
            ("full", Some(Mode::Full)),
        ];
        let mode = r.parse(&SESSION_RECORDING_MODE, |text| word(text, &modes));
        let directory = r.optional(&SESSION_RECORDING_DIR, absolute);
        let failure = [("closed", OnFailure::EndSession), ("open", OnFailure::GoOn)];
        let on_failure = r.parse(&SESSION_RECORDING_ON_FAILURE, |text| word(text, &failure));
        let inputs = [("all", Input::All), ("lengths", Input::Lengths)];
        let input = r.parse(&SESSION_RECORDING_INPUT, |text| word(text, &inputs));
        let syncs = [
            ("never", Sync::Never),
            ("checkpoint", Sync::Checkpoint),
            ("batch", Sync::Batch),
        ];
        let sync = r.parse(&SESSION_RECORDING_FSYNC, |text| word(text, &syncs));
        let checkpoint_records = r.parse(&SESSION_RECORDING_CHECKPOINT_RECORDS, |text| {
            text.parse::<NonZeroU64>()
                .map_err(|_| "a whole number from 1".to_owned())
        });
        let checkpoint_every = r.parse(&SESSION_RECORDING_CHECKPOINT_INTERVAL, |text| match duration(text)? {
            Some(every) => Ok(every),
            None => Err("a duration above 0, such as 30s".to_owned()),
        });
        let key = r.optional(&SESSION_RECORDING_KEY_FILE, absolute);
        let compress = r.parse(&SESSION_RECORDING_COMPRESS, syntax::boolean);
        let keep_for = r.parse(&SESSION_RECORDING_KEEP_FOR, duration);
        let max_bytes = r.parse(&SESSION_RECORDING_MAX_SIZE, size);
        let notices = [
            ("bar", (true, false)),
            ("title", (false, true)),
            ("both", (true, true)),
            ("none", (false, false)),
        ];
        let notice = r.parse(&SESSION_RECORDING_NOTICE, |text| word(text, &notices));
        let is_on = enabled == Some(true) && mode.is_some_and(|mode| mode.is_some());
        if is_on && directory == Some(None) {
            let expected = "a directory on a volume that outlives the gateway, since SESSION_RECORDING_ENABLED is true";
            r.problem(&SESSION_RECORDING_DIR, expected.to_owned());
            return None;
        }
        let (in_bar, in_title) = notice?;
        let (enabled, mode, directory) = (enabled?, mode?, directory?);
        let (on_failure, input, sync, key) = (on_failure?, input?, sync?, key?);
        let (checkpoint_records, checkpoint_every) = (checkpoint_records?, checkpoint_every?);
        let (compress, keep_for, max_bytes) = (compress?, keep_for?, max_bytes?);
        let (true, Some(mode), Some(directory)) = (enabled, mode, directory) else {
            return Some(None);
        };
        Some(Some(Self {
            mode,
            directory,
            on_failure,
            input,
            sync,
            checkpoint_records,
            checkpoint_every,
            key,
            compress,
            keep_for,
            max_bytes,
            notice: Notice { in_bar, in_title },
        }))
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = syntax::path(text)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("a path from the root, such as /var/lib/devplane/recordings".to_owned())
    }
}

/// `None` for zero.
fn duration(text: &str) -> Result<Option<Duration>, String> {
    let GoDuration(duration) = text
        .parse()
        .map_err(|error: crate::units::go_duration::ParseError| error.to_string())?;
    Ok((!duration.is_zero()).then_some(duration))
}

/// `None` for zero.
fn size(text: &str) -> Result<Option<u64>, String> {
    if text == "0" {
        return Ok(None);
    }
    let quantity: Quantity = text
        .parse()
        .map_err(|_| "a size such as 50Gi, or 0 for no limit".to_owned())?;
    quantity
        .bytes()
        .map(Some)
        .ok_or_else(|| "a size of at least one byte, such as 50Gi, or 0 for no limit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Problems, Source};

    const SETTINGS: [Setting; 13] = [
        SESSION_RECORDING_ENABLED,
        SESSION_RECORDING_MODE,
        SESSION_RECORDING_DIR,
        SESSION_RECORDING_ON_FAILURE,
        SESSION_RECORDING_INPUT,
        SESSION_RECORDING_FSYNC,
        SESSION_RECORDING_CHECKPOINT_RECORDS,
        SESSION_RECORDING_CHECKPOINT_INTERVAL,
        SESSION_RECORDING_KEY_FILE,
        SESSION_RECORDING_COMPRESS,
        SESSION_RECORDING_KEEP_FOR,
        SESSION_RECORDING_MAX_SIZE,
        SESSION_RECORDING_NOTICE,
    ];

    fn read(env: &[(&str, &str)]) -> Result<Option<RecordingConfig>, Problems> {
        let find = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let source = Source::load(None, &SETTINGS, find).unwrap();
        let mut reader = Reader::new(&source, &SETTINGS);
        let config = RecordingConfig::read(&mut reader);
        reader.finish(config)
    }

    #[test]
    fn nothing_is_recorded_unless_it_is_asked_for() {
        assert_eq!(read(&[]), Ok(None));
        let off = [("SESSION_RECORDING_ENABLED", "true"), ("SESSION_RECORDING_MODE", "off")];
        assert_eq!(read(&off), Ok(None));
    }

    #[test]
    fn a_session_that_can_t_be_recorded_ends_unless_told_otherwise() {
        let on = [
            ("SESSION_RECORDING_ENABLED", "true"),
            ("SESSION_RECORDING_DIR", "/recordings"),
        ];
        let config = read(&on).unwrap().unwrap();
        assert_eq!(
            (config.mode, config.on_failure),
            (Mode::Metadata, OnFailure::EndSession)
        );
        assert_eq!((config.keep_for, config.max_bytes), (None, None));
    }

    #[test]
    fn sizes_and_times_are_read() {
        let config = read(&[
            ("SESSION_RECORDING_ENABLED", "true"),
            ("SESSION_RECORDING_DIR", "/recordings"),
            ("SESSION_RECORDING_MAX_SIZE", "50Gi"),
            ("SESSION_RECORDING_KEEP_FOR", "2160h"),
            ("SESSION_RECORDING_NOTICE", "bar"),
        ]);
        let config = config.unwrap().unwrap();
        assert_eq!(config.max_bytes, Some(50 << 30));
        assert_eq!(config.keep_for, Some(Duration::from_secs(90 * 86400)));
        assert!(config.notice.in_bar && !config.notice.in_title);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let problems = read(&[
            ("SESSION_RECORDING_ENABLED", "true"),
            ("SESSION_RECORDING_MODE", "everything"),
            ("SESSION_RECORDING_DIR", "recordings"),
            ("SESSION_RECORDING_ON_FAILURE", "ignore"),
            ("SESSION_RECORDING_INPUT", "some"),
            ("SESSION_RECORDING_FSYNC", "often"),
            ("SESSION_RECORDING_CHECKPOINT_RECORDS", "0"),
            ("SESSION_RECORDING_CHECKPOINT_INTERVAL", "0"),
            ("SESSION_RECORDING_COMPRESS", "zstd"),
            ("SESSION_RECORDING_KEEP_FOR", "90 days"),
            ("SESSION_RECORDING_MAX_SIZE", "much"),
            ("SESSION_RECORDING_NOTICE", "mail"),
        ]);
        assert_eq!(problems.unwrap_err().0.len(), 11);
        let problems = read(&[("SESSION_RECORDING_ENABLED", "true")]).unwrap_err();
        assert!(problems.to_string().contains("SESSION_RECORDING_DIR"), "{problems}");
    }
}
