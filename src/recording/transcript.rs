//! What was seen becomes text that can be searched: a terminal is emulated, and each line that was on its screen is written once, with the
//! time at which it was there.
//!
//! The screen is looked at whenever the terminal has been quiet, before a line that was typed is sent, and before anything that was not
//! looked at is overwritten, cleared or scrolled away: so every character that was printed is in the text. The line on which the cursor stands
//! may still change, so it waits; when it can't wait, because it is about to change, it is marked as one that passed.

use super::playback::{Event, Size, What};
use super::unseen::{Loss, Unseen};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

const QUIET: SignedDuration = SignedDuration::from_millis(500);

/// What becomes of the line on which the cursor stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cursor {
    Waits,
    /// It is there now, and may be another one at once.
    Passes,
    Stays,
}

pub struct Transcript {
    terminal: vt100::Parser,
    unseen: Unseen,
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
            unseen: Unseen::new(Size { columns, rows }),
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
            self.look(before, Cursor::Waits);
        }
        self.last = Some(*at);
        match what {
            What::Output(bytes) => self.output(bytes, *at),
            What::Input(bytes) if bytes.contains(&b'\r') => self.look(*at, Cursor::Stays),
            What::Input(_) => {}
            What::Resize(size) => {
                let cursor = if self.unseen.is_any() {
                    Cursor::Passes
                } else {
                    Cursor::Waits
                };
                self.look(*at, cursor);
                let Size { columns, rows } = *size;
                self.terminal.screen_mut().set_size(rows, columns);
                self.unseen.resize(*size);
                // Lines break elsewhere: they are the same all the same.
                self.remember();
            }
        }
        std::mem::take(&mut self.text)
    }

    /// What is on the screen at the end.
    pub fn end(mut self) -> String {
        if let Some(last) = self.last {
            self.look(last, Cursor::Stays);
        }
        self.text
    }

    fn output(&mut self, bytes: &[u8], at: Timestamp) {
        for byte in bytes {
            match self.unseen.before(*byte, self.terminal.screen()) {
                None => {}
                Some(Loss::Scrolled) => self.look(at, Cursor::Waits),
                Some(Loss::Any) => self.look(at, Cursor::Passes),
            }
            let before = self.terminal.screen().cursor_position();
            self.terminal.process(std::slice::from_ref(byte));
            self.unseen.after(before, self.terminal.screen());
        }
    }

    fn lines(&self) -> Vec<String> {
        let screen = self.terminal.screen();
        let (_, columns) = screen.size();
        screen.rows(0, columns).map(|line| line.trim_end().to_owned()).collect()
    }

    fn look(&mut self, at: Timestamp, cursor: Cursor) {
        let (row, _) = self.terminal.screen().cursor_position();
        self.unseen.seen((cursor == Cursor::Waits).then_some(row));
        let mut shown: HashMap<String, usize> = HashMap::new();
        for (index, line) in self.lines().into_iter().enumerate() {
            if line.is_empty() {
                continue;
            }
            let before = self.shown.get(&line).copied().unwrap_or_default();
            let times = shown.entry(line.clone()).or_default();
            let is_new = *times >= before;
            let is_at_cursor = index == usize::from(row);
            if is_new && is_at_cursor && cursor == Cursor::Waits {
                continue;
            }
            *times += 1;
            if is_new {
                let mark = if is_at_cursor && cursor == Cursor::Passes {
                    '~'
                } else {
                    ' '
                };
                self.text
                    .push_str(&format!("{} {mark}{line}\n", at.strftime("%Y-%m-%dT%H:%M:%SZ")));
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
    use proptest::prelude::*;

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
        2026-01-02T03:04:09Z ~$ lx
        2026-01-02T03:04:10Z  $ ls
        2026-01-02T03:04:11Z  a.txt
        2026-01-02T03:04:11Z  b.txt
        2026-01-02T03:04:12Z  $
        ");
    }

    /// What someone prints and takes away at once is in it, whichever way it is taken away.
    #[test]
    fn nothing_that_was_printed_can_be_hidden() {
        let lines: Vec<String> = (1..=60).map(|number| format!("hidden-{number:02}")).collect();
        let blob: String = (0..5000u32)
            .map(|number| char::from(b'a' + (number * number / 7 % 26) as u8))
            .collect();
        let each = |end: &str| lines.iter().map(|line| format!("{line}{end}")).collect::<String>();
        for (name, output) in [
            ("cleared", "hidden-01\r\nhidden-02\x1b[2J\x1b[H".to_owned()),
            ("cleared upwards", "hidden-01\r\nhidden-02\x1b[1J".to_owned()),
            ("cleared downwards", "hidden-01\r\nhidden-02\x1b[H\x1b[J".to_owned()),
            ("reset", "hidden-01\x1bc".to_owned()),
            ("the line erased", "hidden-01\r\x1b[K".to_owned()),
            ("the line erased backwards", "hidden-01\x1b[1K".to_owned()),
            ("overwritten", "hidden-01\rxxxxxxxxx".to_owned()),
            ("rubbed out", "hidden-01\x08 \x08\x08 \x08\x08 \x08".to_owned()),
            ("characters deleted", "hidden-01\r\x1b[9P".to_owned()),
            ("pushed out of the line", format!("{:>80}\r\x1b[80@", "hidden-01")),
            ("each erased", each("\r\x1b[K")),
            ("scrolled by index", each("\r\x1bD")),
            ("scrolled up", each("\r\x1b[S")),
            ("scrolled down", each("\r\x1b[T")),
            ("scrolled back", each("\r\x1bM")),
            ("lines inserted", each("\r\x1b[L")),
            ("lines deleted", each("\r\x1b[M")),
            ("in two lines", format!("\x1b[5;6r\x1b[6;1H{}", each("\r\n"))),
            (
                "at the top of two lines",
                lines
                    .iter()
                    .map(|line| format!("\x1b[5;6r\x1b[5;1H{line}\x1b[6;1H\n"))
                    .collect(),
            ),
            (
                "on the other screen",
                format!("\x1b[?1049h{}\x1b[?1049l", each("\x1b[H")),
            ),
            (
                "behind a wide character",
                each("\r\u{6f22}\u{6f22}\u{6f22}\u{6f22}\u{6f22}\r"),
            ),
            ("behind half a character", each("\r\u{6f22}\r")),
        ] {
            let text = transcript(&[(Out, format!("0{output}\x1b[2J\x1b[H").as_bytes())]);
            for line in lines.iter().filter(|line| output.contains(line.as_str())) {
                assert!(text.contains(line.as_str()), "{name}: {line}\n{text}");
            }
        }
        // As `base64 -w0` shows it, on a small screen with two lines that scroll, too.
        for start in ["", "\x1b[3;4r\x1b[4;1H"] {
            let text = transcript(&[
                (In, b"1{\"columns\":40,\"rows\":10}"),
                (Out, format!("0{start}{blob}\x1b[2J").as_bytes()),
            ]);
            let rows: Vec<&str> = blob
                .as_bytes()
                .chunks(40)
                .map(|row| std::str::from_utf8(row).unwrap())
                .collect();
            for row in rows {
                assert!(text.contains(row), "{start:?} {row}\n{text}");
            }
        }
    }

    proptest! {
        /// Whatever a terminal is told to do, each character that it printed is in the text, in the line in which it stood.
        #[test]
        fn every_printed_character_is_in_it(pieces in proptest::collection::vec(piece(), 1..60)) {
            let output: String = pieces.concat();
            let text = transcript(&[(In, b"1{\"columns\":20,\"rows\":6}"), (Out, format!("0{output}").as_bytes())]);
            for c in output.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c) || ('\u{430}'..='\u{44f}').contains(c)) {
                prop_assert!(text.contains(c), "{c}: {text:?} {output:?}");
            }
        }
    }

    /// Cyrillic and Han characters are printed; everything else is control.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[\u{430}-\u{44f}]{1,12}",
            1 => "[\u{4e00}-\u{4eff}]{1,12}",
            3 => proptest::sample::select(vec!["\r", "\n", "\r\n", "\x08", "\t", "\x1b[K", "\x1b[1K", "\x1b[J", "\x1b[2J", "\x1b[H", "\x1b[6;1H",
                "\x1b[3;19H", "\x1b[L", "\x1b[M", "\x1b[3P", "\x1b[3@", "\x1b[2X", "\x1b[S", "\x1b[T", "\x1bM", "\x1bc", "\x1b[?1049h",
                "\x1b[?1049l", "\x1b[?47h", "\x1b[?47l", "\x1b[?6h", "\x1b[?6l", "\x1b7", "\x1b8", "\x1b[A", "\x1b[5C", "\x1b[31m"]).prop_map(str::to_owned),
            1 => (0u16..9, 0u16..9).prop_map(|(top, bottom)| format!("\x1b[{top};{bottom}r")),
            1 => (0u16..9, 0u16..25).prop_map(|(row, column)| format!("\x1b[{row};{column}H")),
        ]
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
