//! Recordings become what a person asks of them: whether they are genuine, which there are, and what was seen.

use crate::recording::asciicast::{Cast, Version};
use crate::recording::chain::Record;
use crate::recording::layout::{Contents, Files, session_of};
use crate::recording::manifest::Manifest;
use crate::recording::playback;
use crate::recording::read::{Line, Lines};
use crate::recording::seal::TrustedKeys;
use crate::recording::transcript::Transcript;
use crate::recording::verify::{self, SessionReport, Verdict};
use jiff::Timestamp;
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a recording can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Asciicast,
    AsciicastV3,
    Text,
}

/// Why nothing can be said, or exported.
#[derive(Debug, Snafu)]
pub enum RecordingError {
    #[snafu(display("{} is no directory with recordings, and no file of one", path.display()))]
    NoRecording { path: PathBuf },
    #[snafu(display("can't read {}: {source}", path.display()))]
    Read { path: PathBuf, source: io::Error },
    #[snafu(display("the recording does not verify: {problem}"))]
    NotGenuine { problem: String },
    #[snafu(display("the recording has no payloads to show: it was made in the mode `metadata`"))]
    NoPayload,
    #[snafu(display("can't write: {source}"))]
    Write { source: io::Error },
}

impl RecordingError {
    /// Whether what was asked for is not there, rather than not as it should be.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoRecording { .. } | Self::Read { .. })
    }
}

/// A session by any of its files, or by their common beginning.
fn session_at(path: &Path) -> Result<Files, RecordingError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let directory = path.parent().unwrap_or(Path::new(""));
    let files = Files::new(directory, session_of(name).unwrap_or(name));
    ensure!(files.all().iter().any(|file| file.is_file()), NoRecordingSnafu { path });
    Ok(files)
}

/// Verifies a directory, or one session. The text says what was found; whether all of it is as it must be comes beside it.
///
/// # Errors
/// When there is nothing to verify.
pub fn verify(path: &Path, keys: &TrustedKeys) -> Result<(String, bool), RecordingError> {
    let verdict = if path.is_dir() {
        verify::directory(path, keys).context(ReadSnafu { path })?
    } else {
        let session = verify::session(&session_at(path)?, keys);
        Verdict {
            notes: vec!["one session alone: whether others are missing beside it was not looked at".to_owned()],
            sessions: vec![session],
            ..Verdict::default()
        }
    };
    Ok((report(&verdict), verdict.is_sound()))
}

fn report(verdict: &Verdict) -> String {
    let Verdict {
        sessions,
        ledgers,
        problems,
        notes,
    } = verdict;
    let mut out = String::new();
    for session in sessions {
        let word = if session.problems.is_empty() { "ok" } else { "FAIL" };
        // Writing to a String can't fail.
        let _ = writeln!(out, "{word:<5}{}  {}", session.id, state(session));
        let problems = session.problems.iter().map(|problem| ("problem", problem));
        for (kind, line) in problems.chain(session.notes.iter().map(|note| ("note", note))) {
            let _ = writeln!(out, "     {kind}: {}", shown(line));
        }
    }
    for problem in problems {
        let _ = writeln!(out, "FAIL {}", shown(problem));
    }
    for note in notes {
        let _ = writeln!(out, "note {}", shown(note));
    }
    let failed = sessions.iter().filter(|session| !session.problems.is_empty()).count();
    let _ = writeln!(
        out,
        "{} sessions: {} ok, {failed} failed; {ledgers} ledgers, {} problems between sessions",
        sessions.len(),
        sessions.len() - failed,
        problems.len()
    );
    out
}

fn state(session: &SessionReport) -> String {
    let SessionReport { records, sealed, .. } = session;
    let end = session
        .manifest
        .as_ref()
        .and_then(|manifest| manifest.close_reason.as_deref());
    let end = end.map_or_else(|| "no end".to_owned(), |reason| format!("ended: {}", shown(reason)));
    format!("{records} records, {sealed} of them under a checkpoint; {end}")
}

/// Someone else's text, without what a terminal would act on.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// Which sessions are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The user id or the exact subject.
    pub user: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Sessions that were open at some time between `since` and `until`.
    fn wants(&self, manifest: &Manifest) -> bool {
        let Self { user, since, until } = self;
        let meta = &manifest.meta;
        let opened: Option<Timestamp> = meta.opened_at.parse().ok();
        let closed: Option<Timestamp> = manifest.closed_at.as_ref().and_then(|closed| closed.parse().ok());
        user.as_ref()
            .is_none_or(|user| *user == meta.user_id || *user == meta.subject)
            && since.is_none_or(|since| closed.is_none_or(|closed| closed >= since))
            && until.is_none_or(|until| opened.is_none_or(|opened| opened < until))
    }
}

/// A line for each session, columns apart by tabs.
///
/// # Errors
/// When the directory can't be read.
pub fn list(path: &Path, filter: &Filter) -> Result<String, RecordingError> {
    let contents = Contents::of(path).context(ReadSnafu { path })?;
    let mut out = String::from("SESSION\tUSER\tSUBJECT\tWORKSPACE\tOPENED\tCLOSED\tREASON\tMODE\tRECORDS\tREQUEST\n");
    for id in &contents.sessions {
        let text = Files::new(path, id).read_manifest().ok();
        let manifest = text.and_then(|text| serde_json::from_slice::<Manifest>(&text).ok());
        let Some(manifest) = manifest else {
            // Without a manifest it is nobody's: shown when everyone's are asked for.
            if filter.user.is_none() {
                let _ = writeln!(out, "{id}\t-\t-\t-\t-\t-\tno manifest\t-\t-\t-");
            }
            continue;
        };
        if !filter.wants(&manifest) {
            continue;
        }
        let meta = &manifest.meta;
        let closed = manifest.closed_at.as_deref().unwrap_or("-");
        let reason = manifest.close_reason.as_deref().unwrap_or("-");
        let mode = match manifest.mode {
            crate::config::recording::Mode::Metadata => "metadata",
            crate::config::recording::Mode::Full => "full",
        };
        let records = match manifest.closed_at {
            Some(_) => manifest.frame_count.to_string(),
            None => "-".to_owned(),
        };
        let columns = [
            id,
            &meta.user_id,
            &meta.subject,
            &meta.workspace,
            &meta.opened_at,
            closed,
            reason,
            mode,
            &records,
            &meta.request_id,
        ];
        let _ = writeln!(out, "{}", columns.map(shown).join("\t"));
    }
    Ok(out)
}

/// Writes what was seen in one session. A recording that does not verify is refused, unless `unverified`.
///
/// # Errors
/// When it is not there, does not verify, has no payloads, or `out` takes no more.
pub fn export(
    path: &Path,
    format: Format,
    keys: &TrustedKeys,
    unverified: bool,
    out: &mut dyn Write,
) -> Result<(), RecordingError> {
    let files = session_at(path)?;
    let report = verify::session(&files, keys);
    if !unverified && let Some(problem) = report.problems.first() {
        return NotGenuineSnafu {
            problem: shown(problem),
        }
        .fail();
    }
    let title = report.manifest.map_or_else(String::new, |manifest| {
        format!("{} {}", manifest.meta.user_id, manifest.meta.opened_at)
    });
    let mut lines = Lines::of_records(&files).context(ReadSnafu { path })?;
    let mut cast = Cast::new(
        if format == Format::Asciicast {
            Version::Two
        } else {
            Version::Three
        },
        &title,
    );
    let mut transcript = Transcript::default();
    let mut shows_something = false;
    while let Some(Line::Whole(line)) = lines.next_line().context(ReadSnafu { path })? {
        let event = serde_json::from_slice::<Record>(line).ok();
        let Some(event) = event.and_then(|record| playback::event(&record)) else {
            continue;
        };
        shows_something = true;
        let text = match format {
            Format::Asciicast | Format::AsciicastV3 => cast.add(&event),
            Format::Text => transcript.add(&event),
        };
        out.write_all(text.as_bytes()).context(WriteSnafu)?;
    }
    shows_something.then_some(()).context(NoPayloadSnafu)?;
    if format == Format::Text {
        out.write_all(transcript.end().as_bytes()).context(WriteSnafu)?;
    }
    out.flush().context(WriteSnafu)
}
