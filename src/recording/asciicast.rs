//! What was seen becomes an asciicast, which `asciinema play` shows: version 2 with times since the beginning, version 3 with the time
//! since the event before.

use super::playback::{Event, Size, Utf8, What};
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Two,
    Three,
}

/// Writes one cast, event by event.
pub struct Cast {
    version: Version,
    begun: Option<Timestamp>,
    before: Timestamp,
    output: Utf8,
    input: Utf8,
    title: String,
}

impl Cast {
    pub fn new(version: Version, title: &str) -> Self {
        Self {
            version,
            begun: None,
            before: Timestamp::UNIX_EPOCH,
            output: Utf8::default(),
            input: Utf8::default(),
            title: title.to_owned(),
        }
    }

    /// The lines of an event; the first one brings the header with it.
    pub fn add(&mut self, event: &Event) -> String {
        let Event { at, what } = event;
        let mut lines = String::new();
        let begun = match self.begun {
            Some(begun) => begun,
            None => {
                let size = if let What::Resize(size) = what {
                    *size
                } else {
                    Size::default()
                };
                lines.push_str(&format!("{}\n", self.header(size, *at)));
                self.begun = Some(*at);
                self.before = *at;
                // The header has it already.
                if matches!(what, What::Resize(_)) {
                    return lines;
                }
                *at
            }
        };
        let (code, text) = match what {
            What::Output(bytes) => ("o", self.output.text(bytes)),
            What::Input(bytes) => ("i", self.input.text(bytes)),
            What::Resize(Size { columns, rows }) => ("r", format!("{columns}x{rows}")),
        };
        // Half a character: the rest comes with the next event.
        if text.is_empty() {
            return lines;
        }
        let since = match self.version {
            Version::Two => begun,
            Version::Three => self.before,
        };
        // A clock that was set back must not make a player wait for ever.
        let seconds = at.duration_since(since).as_secs_f64().max(0.0);
        self.before = *at;
        lines.push_str(&format!("[{seconds:.6}, \"{code}\", {}]\n", Value::from(text)));
        lines
    }

    fn header(&self, Size { columns, rows }: Size, at: Timestamp) -> Value {
        let timestamp = at.as_second();
        let title = &self.title;
        match self.version {
            Version::Two => {
                json!({"version": 2, "width": columns, "height": rows, "timestamp": timestamp, "title": title})
            }
            Version::Three => {
                json!({"version": 3, "term": {"cols": columns, "rows": rows, "type": "xterm-256color"}, "timestamp": timestamp, "title": title})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::Direction::{BackendToClient as Out, ClientToBackend as In};
    use super::super::playback::tests::played;
    use super::*;

    fn cast(version: Version) -> String {
        let mut cast = Cast::new(version, "alice \"x\"");
        let events = played(&[
            (In, b"{\"AuthToken\":\"\",\"columns\":100,\"rows\":30}"),
            (Out, b"0\x1b[1m\xe2\x82"),
            (Out, b"0\xac\r\n"),
            (In, b"0l\x03"),
            (In, b"1{\"columns\":80,\"rows\":24}"),
        ]);
        events.iter().map(|event| cast.add(event)).collect()
    }

    #[test]
    fn version_two_counts_from_the_beginning() {
        insta::assert_snapshot!(cast(Version::Two), @r#"
        {"height":30,"timestamp":1767323045,"title":"alice \"x\"","version":2,"width":100}
        [1.000000, "o", "\u001b[1m"]
        [2.000000, "o", "€\r\n"]
        [3.000000, "i", "l\u0003"]
        [4.000000, "r", "80x24"]
        "#);
    }

    #[test]
    fn version_three_counts_from_the_event_before() {
        insta::assert_snapshot!(cast(Version::Three), @r#"
        {"term":{"cols":100,"rows":30,"type":"xterm-256color"},"timestamp":1767323045,"title":"alice \"x\"","version":3}
        [1.000000, "o", "\u001b[1m"]
        [1.000000, "o", "€\r\n"]
        [1.000000, "i", "l\u0003"]
        [1.000000, "r", "80x24"]
        "#);
    }
}
