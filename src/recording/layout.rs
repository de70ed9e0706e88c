//! A directory becomes the recordings and ledgers in it, and a recording the names of its files.
//!
//! Sorted by name, ledgers come before sessions and a session's checkpoints before its manifest and its records: what is copied in
//! this order while it is written never speaks of something that was copied before it was there.

use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MANIFEST: &str = ".manifest.json";
const CHECKPOINTS: &str = ".checkpoints.ndjson";
const LEDGER: &str = "ledger-";
const SESSION: &str = "session-";
const RECORDS: &str = ".ndjson";
const COMPRESSED: &str = ".ndjson.zst";
/// In bytes: what is in it comes from tokens, which are not as large.
const LARGEST_MANIFEST: u64 = 1 << 20;
/// Of a file that takes another one's place when it is whole.
pub const UNFINISHED: &str = ".tmp";

/// The files of one session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Files {
    directory: PathBuf,
    pub id: String,
}

impl Files {
    pub fn new(directory: &Path, id: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            id: id.to_owned(),
        }
    }

    fn named(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}{ending}", self.id))
    }

    pub fn records(&self) -> PathBuf {
        self.named(RECORDS)
    }

    pub fn compressed(&self) -> PathBuf {
        self.named(COMPRESSED)
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.named(CHECKPOINTS)
    }

    pub fn manifest(&self) -> PathBuf {
        self.named(MANIFEST)
    }

    /// # Errors
    /// When it can't be read, or is larger than any that is written.
    pub fn read_manifest(&self) -> io::Result<Vec<u8>> {
        read_plain(&self.manifest(), LARGEST_MANIFEST)
    }

    /// In the order in which they can be removed: whatever is left says what is missing.
    pub fn all(&self) -> [PathBuf; 4] {
        [self.records(), self.compressed(), self.checkpoints(), self.manifest()]
    }
}

/// How a file is made here: for the gateway's user and the group of the volume, and nobody else.
pub fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o640);
    options
}

/// Opens a file to be read, but nothing that a link leads to, and no pipe or device: whoever can write to the directory must not have this
/// process read something else, or wait for ever.
///
/// # Errors
/// When it can't be opened, or is no regular file of its own.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // A pipe is opened without waiting for who writes to it.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Err(error) if error.raw_os_error() != Some(libc::ELOOP) => Err(error),
        _ => Err(io::Error::other(format!("{} is no regular file", path.display()))),
    }
}

/// Reads a file like [`open_plain`], of at most `limit` bytes.
///
/// # Errors
/// When it can't be read, or is larger.
pub fn read_plain(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    open_plain(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let problem = format!("{} is larger than {limit} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(bytes)
}

/// A file that will take the place of another one. What an earlier try has left of it goes first.
///
/// # Errors
/// When it can't be made.
pub fn unfinished_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    new_file().create_new(true).write(true).open(path)
}

/// The id of a session: sorted by name, sessions are sorted by age.
pub fn session_id(opened: Timestamp, random: u64) -> String {
    format!("{SESSION}{}-{random:016x}", opened.strftime("%Y%m%dT%H%M%SZ"))
}

pub fn ledger(directory: &Path, gateway: &str) -> PathBuf {
    directory.join(format!("{LEDGER}{gateway}{RECORDS}"))
}

/// What a directory holds, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub sessions: BTreeSet<String>,
    pub gateways: BTreeSet<String>,
}

impl Contents {
    /// # Errors
    /// When the directory can't be read.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut contents = Self::default();
        for entry in directory.read_dir()? {
            if let Some(name) = entry?.file_name().to_str() {
                contents.add(name);
            }
        }
        Ok(contents)
    }

    /// Takes a name for what it is, if it is one of ours.
    pub fn add(&mut self, name: &str) {
        if let Some(gateway) = ledger_of(name) {
            self.gateways.insert(gateway.to_owned());
        } else if let Some(id) = session_of(name) {
            self.sessions.insert(id.to_owned());
        }
    }
}

/// The gateway whose ledger a file is.
pub fn ledger_of(name: &str) -> Option<&str> {
    name.strip_prefix(LEDGER)?.strip_suffix(RECORDS)
}

/// Whether a name is that of a file of a session that was not finished.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(SESSION) && name.ends_with(UNFINISHED)
}

/// Whether a name can stand in that of a file without its being one of another directory.
pub fn is_plain(name: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_usual)
}

/// The session that a file belongs to.
pub fn session_of(name: &str) -> Option<&str> {
    [MANIFEST, CHECKPOINTS, COMPRESSED, RECORDS]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .filter(|id| id.starts_with(SESSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_endings() {
        let mut contents = Contents::default();
        for name in [
            "session-a.ndjson",
            "session-a.manifest.json",
            "session-b.checkpoints.ndjson",
            "session-c.ndjson.zst",
            "ledger-g.ndjson",
            "session-d.manifest.json.tmp",
            "session-d.ndjson.zst.tmp",
            "lost+found",
            ".ndjson",
        ] {
            contents.add(name);
        }
        assert_eq!(
            contents.sessions,
            ["session-a", "session-b", "session-c"].map(str::to_owned).into()
        );
        assert_eq!(contents.gateways, ["g".to_owned()].into());
    }

    #[test]
    fn names_sort_as_they_can_be_copied() {
        let id = session_id("2026-11-25T07:23:12Z".parse().unwrap(), 0xabc);
        assert_eq!(id, "session-20261125T072312Z-0000000000000abc");
        let files = Files::new(Path::new(""), &id);
        let order = [
            ledger(Path::new(""), "workspace-gateway-x"),
            files.checkpoints(),
            files.manifest(),
            files.records(),
            files.compressed(),
        ];
        assert!(order.is_sorted());
    }
}
