//! What was seen becomes text that can be searched: a terminal is emulated, and each line that was on its screen is written once, with the
//! time at which it was there.
//!
//! The screen is looked at whenever the terminal has been quiet, before a line that was typed is sent, and within long output often enough that
//! no line scrolls away unseen. The line on which the cursor stands may still change, so it waits.

use super::playback::{Event, Size, What};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

const QUIET: SignedDuration = SignedDuration::from_millis(500);

pub struct Transcript {
    terminal: vt100::Parser,
    /// The lines that were on the screen when it was last looked at, and how often each.
    shown: HashMap<String, usize>,
    last: Option<Timestamp>,
    text: String,
}

impl Default for Transcript {
    fn default() -> Self {
        let Size { columns, rows } = Size::default();
        Self {
            terminal: vt100::Parser::new(rows, columns, 0),
            shown: HashMap::new(),
            last: None,
            text: String::new(),
        }
    }
}

impl Transcript {
    /// The lines that an event has brought.
    pub fn add(&mut self, event: &Event) -> String {
        let Event { at, what } = event;
        let before = self.last.unwrap_or(*at);
        if at.duration_since(before) >= QUIET {
            self.look(before, false);
        }
        self.last = Some(*at);
        match what {
            What::Output(bytes) => self.output(bytes, *at),
            What::Input(bytes) if bytes.contains(&b'\r') => self.look(*at, true),
            What::Input(_) => {}
            What::Resize(Size { columns, rows }) => {
                self.look(*at, false);
                self.terminal.screen_mut().set_size(*rows, *columns);
                // Lines break elsewhere: they are the same all the same.
                self.remember();
            }
        }
        std::mem::take(&mut self.text)
    }

    /// What is on the screen at the end.
    pub fn end(mut self) -> String {
        if let Some(last) = self.last {
            self.look(last, true);
        }
        self.text
    }

    fn output(&mut self, bytes: &[u8], at: Timestamp) {
        let rows = usize::from(self.terminal.screen().size().0);
        let mut newlines = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.terminal.process(line);
            newlines += 1;
            if newlines >= rows / 2 {
                newlines = 0;
                self.look(at, false);
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let screen = self.terminal.screen();
        let (_, columns) = screen.size();
        screen.rows(0, columns).map(|line| line.trim_end().to_owned()).collect()
    }

    fn look(&mut self, at: Timestamp, with_cursor: bool) {
        let (row, _) = self.terminal.screen().cursor_position();
        let mut shown: HashMap<String, usize> = HashMap::new();
        for (index, line) in self.lines().into_iter().enumerate() {
            if line.is_empty() {
                continue;
            }
            let before = self.shown.get(&line).copied().unwrap_or_default();
            let times = shown.entry(line.clone()).or_default();
            let is_new = *times >= before;
            if is_new && index == usize::from(row) && !with_cursor {
                continue;
            }
            *times += 1;
            if is_new {
                self.text
                    .push_str(&format!("{}  {line}\n", at.strftime("%Y-%m-%dT%H:%M:%SZ")));
            }
        }
        self.shown = shown;
    }

    fn remember(&mut self) {
        self.shown.clear();
        for line in self.lines() {
            *self.shown.entry(line).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::Direction::{self, BackendToClient as Out, ClientToBackend as In};
    use super::super::playback::tests::played;
    use super::*;

    fn transcript(messages: &[(Direction, &[u8])]) -> String {
        let mut transcript = Transcript::default();
        let mut text: String = played(messages).iter().map(|event| transcript.add(event)).collect();
        text.push_str(&transcript.end());
        text
    }

    #[test]
    fn a_line_is_there_once_and_as_it_was_seen() {
        let text = transcript(&[
            (Out, b"0\x1b[32m$ \x1b[0m"),
            (In, b"0l"),
            (Out, b"0l"),
            (In, b"0s"),
            (Out, b"0x\x08s"),
            (In, b"0\r"),
            (Out, b"0\r\na.txt\r\nb.txt\r\n$ "),
            (In, b"0exit\r"),
        ]);
        insta::assert_snapshot!(text, @"
        2026-01-02T03:04:10Z  $ ls
        2026-01-02T03:04:11Z  a.txt
        2026-01-02T03:04:11Z  b.txt
        2026-01-02T03:04:12Z  $
        ");
    }

    /// A password that is asked for without echo is nowhere on the screen.
    #[test]
    fn what_is_not_echoed_is_not_in_it() {
        let text = transcript(&[(Out, b"0Password: "), (In, b"0hunter2\r"), (Out, b"0\r\nok\r\n")]);
        assert!(
            text.contains("Password:") && text.contains("ok") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn long_output_loses_no_line_on_either_screen() {
        for start in ["", "\x1b[?1049h"] {
            let mut output = format!("0{start}");
            for number in 1..=500 {
                output.push_str(&format!("line {number}\r\n"));
            }
            let text = transcript(&[(Out, output.as_bytes())]);
            for number in 1..=500 {
                let line = format!("  line {number}\n");
                assert_eq!(text.matches(&line).count(), 1, "{line}");
            }
        }
    }
}
