//! A file of lines, compressed or not, becomes its lines, each of a length that fits into memory.

use super::layout::{Files, open_plain};
use std::io::{self, BufRead, BufReader, Read};

/// A message of 1 MiB in base64, and what stands around it.
const LONGEST: u64 = 2 << 20;

/// The lines of a file.
pub struct Lines {
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
}

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Whole(&'a [u8]),
    /// What stands behind the last line's end.
    Torn(&'a [u8]),
}

impl Lines {
    pub fn of(reader: impl Read + 'static) -> Self {
        Self {
            reader: Box::new(BufReader::new(reader)),
            line: vec![],
        }
    }

    /// The records of a session.
    ///
    /// # Errors
    /// When there are none, or they can't be read.
    pub fn of_records(files: &Files) -> io::Result<Self> {
        match open_plain(&files.records()) {
            Ok(file) => Ok(Self::of(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let compressed = open_plain(&files.compressed());
                let compressed = compressed.map_err(|other| {
                    if other.kind() == io::ErrorKind::NotFound {
                        error
                    } else {
                        other
                    }
                })?;
                Ok(Self::of(zstd::Decoder::new(compressed)?))
            }
            Err(error) => Err(error),
        }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// When the file can't be read on, or a line is longer than any that is written.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let read = self.reader.by_ref().take(LONGEST).read_until(b'\n', &mut self.line)?;
        if read as u64 == LONGEST && self.line.last() != Some(&b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line is longer than {LONGEST} bytes"),
            ));
        }
        Ok(match self.line.split_last() {
            None => None,
            Some((b'\n', line)) => Some(Line::Whole(line)),
            Some(_) => Some(Line::Torn(&self.line)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_its_end_is_torn() {
        let mut lines = Lines::of(&b"a\n\nb"[..]);
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"a")));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Whole(b"")));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Torn(b"b")));
        assert_eq!(lines.next_line().unwrap(), None);
    }

    #[test]
    fn no_line_fills_the_memory() {
        let endless = io::repeat(b'x').take(1 << 30);
        assert!(Lines::of(endless).next_line().is_err());
    }
}
