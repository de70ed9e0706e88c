//! What may not be copied or pasted is taken out of a terminal's messages.
//!
//! A program writes the clipboard with OSC 52 (xterm, "Manipulate Selection Data"), and a terminal marks what is pasted as such
//! (bracketed paste, DEC mode 2004). Both are found over any border of messages, and in the ways in which terminals are lenient:
//! control characters within a sequence, 8-bit forms, zeros before the number.

use super::rewrite::Filter;

const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;
/// OSC and ST in their 8-bit forms: alone, or behind [`C1_LEAD`] as UTF-8 has them.
const OSC: u8 = 0x9d;
const ST: u8 = 0x9c;
const C1_LEAD: u8 = 0xc2;
/// The command byte of a message that carries output, and of one that carries input.
const OUTPUT: u8 = b'0';
const INPUT: u8 = b'0';
/// The number of the sequence that writes the clipboard.
const CLIPBOARD: u32 = 52;
/// More digits than any sequence has.
const MAX_DIGITS: usize = 8;

/// Takes the sequences out of output that write the clipboard.
#[derive(Default)]
pub struct CopyFilter {
    is_output: bool,
    place: Place,
    /// How many bytes of a character in UTF-8 have yet to come: one of them is no control character.
    continuing: u8,
}

/// Where in a sequence the output is. What was seen of one is held back until it is known what it is.
#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Text,
    /// Behind `C2`.
    Lead,
    /// Behind `ESC`.
    Escape,
    /// In the number of an OSC that began with these bytes.
    Number {
        begun: &'static [u8],
        digits: [u8; MAX_DIGITS],
        length: usize,
    },
    /// In what is taken out.
    Clipboard,
}

impl CopyFilter {
    fn take(&mut self, byte: u8, kept: &mut Vec<u8>) {
        match self.place {
            Place::Text => self.text(byte, kept),
            Place::Lead => {
                self.place = Place::Text;
                if byte == OSC {
                    self.begin(&[C1_LEAD, OSC]);
                } else {
                    kept.push(C1_LEAD);
                    self.continuing = 1;
                    self.text(byte, kept);
                }
            }
            Place::Escape => match byte {
                b']' => self.begin(b"\x1b]"),
                ESC => kept.push(ESC),
                // Terminals act upon these at once, and go on with the sequence.
                0x00..0x20 | 0x7f if byte != CAN && byte != SUB => kept.push(byte),
                _ => {
                    kept.push(ESC);
                    self.place = Place::Text;
                    self.text(byte, kept);
                }
            },
            Place::Number { begun, digits, length } => self.number(byte, begun, digits, length, kept),
            Place::Clipboard => match byte {
                BEL | CAN | SUB | ST => self.place = Place::Text,
                ESC => self.place = Place::Escape,
                _ => {}
            },
        }
    }

    fn text(&mut self, byte: u8, kept: &mut Vec<u8>) {
        let continues = self.continuing > 0 && (0x80..0xc0).contains(&byte);
        self.continuing = match byte {
            _ if continues => self.continuing - 1,
            0xc2..0xe0 => 1,
            0xe0..0xf0 => 2,
            0xf0..0xf5 => 3,
            _ => 0,
        };
        match byte {
            ESC => self.place = Place::Escape,
            C1_LEAD => self.place = Place::Lead,
            OSC if !continues => self.begin(&[OSC]),
            _ => kept.push(byte),
        }
    }

    fn begin(&mut self, begun: &'static [u8]) {
        self.continuing = 0;
        self.place = Place::Number {
            begun,
            digits: [0; MAX_DIGITS],
            length: 0,
        };
    }

    fn number(
        &mut self,
        byte: u8,
        begun: &'static [u8],
        mut digits: [u8; MAX_DIGITS],
        mut length: usize,
        kept: &mut Vec<u8>,
    ) {
        let value = digits[..length]
            .iter()
            .fold(0, |value: u32, digit| value * 10 + u32::from(digit - b'0'));
        match byte {
            b'0'..=b'9' if length < MAX_DIGITS => {
                // Zeros in front mean nothing; a number that is nothing but zeros keeps one.
                if length == 1 && digits[0] == b'0' {
                    length = 0;
                }
                digits[length] = byte;
                length += 1;
                self.place = Place::Number { begun, digits, length };
            }
            // Terminals pass over these within a string; BEL, CAN, SUB and ESC end it.
            0x00..0x20 | 0x7f if !matches!(byte, BEL | CAN | SUB | ESC) => {}
            b';' if value == CLIPBOARD => self.place = Place::Clipboard,
            _ => {
                kept.extend_from_slice(begun);
                kept.extend_from_slice(&digits[..length]);
                self.place = Place::Text;
                self.text(byte, kept);
            }
        }
    }
}

impl Filter for CopyFilter {
    fn keep(&mut self, bytes: &[u8], begins: bool, _ends: bool, kept: &mut Vec<u8>) {
        let Some(bytes) = carried(OUTPUT, &mut self.is_output, bytes, begins, kept) else {
            return;
        };
        kept.reserve(bytes.len());
        for byte in bytes {
            self.take(*byte, kept);
        }
    }
}

/// What a message of this kind carries, behind its command byte. `is_one` is whether the message is of the kind; one that is not is
/// kept as it is.
fn carried<'a>(kind: u8, is_one: &mut bool, bytes: &'a [u8], begins: bool, kept: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut carried = bytes;
    if let (true, [command, rest @ ..]) = (begins, bytes) {
        *is_one = *command == kind;
        kept.push(*command);
        carried = rest;
    }
    if !*is_one {
        kept.extend_from_slice(carried);
    }
    is_one.then_some(carried)
}

const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// Takes out of input what is marked as pasted.
#[derive(Default)]
pub struct PasteFilter {
    is_input: bool,
    is_pasting: bool,
    /// How many bytes of the mark that is looked for came last.
    matched: usize,
    /// How many of them have been passed on: a key must not wait for the next one.
    passed: usize,
}

impl PasteFilter {
    fn take(&mut self, byte: u8, kept: &mut Vec<u8>) {
        let mark = if self.is_pasting { PASTE_ENDS } else { PASTE_BEGINS };
        if byte == mark[self.matched] {
            self.matched += 1;
            if self.matched == mark.len() {
                (self.is_pasting, self.matched, self.passed) = (!self.is_pasting, 0, 0);
            }
            return;
        }
        self.release(kept);
        // Both marks begin with the one ESC that is in them.
        if byte == ESC {
            self.matched = 1;
        } else if !self.is_pasting {
            kept.push(byte);
        }
    }

    fn release(&mut self, kept: &mut Vec<u8>) {
        if !self.is_pasting {
            kept.extend_from_slice(&PASTE_BEGINS[self.passed..self.matched]);
        }
        (self.matched, self.passed) = (0, 0);
    }
}

impl Filter for PasteFilter {
    fn keep(&mut self, bytes: &[u8], begins: bool, ends: bool, kept: &mut Vec<u8>) {
        let Some(bytes) = carried(INPUT, &mut self.is_input, bytes, begins, kept) else {
            return;
        };
        for byte in bytes {
            self.take(*byte, kept);
        }
        if ends && !self.is_pasting {
            kept.extend_from_slice(&PASTE_BEGINS[self.passed..self.matched]);
            self.passed = self.matched;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What passes of some messages' bytes behind the command byte.
    fn passed(mut filter: impl Filter, messages: &[&[u8]]) -> Vec<u8> {
        let mut all = Vec::new();
        for message in messages {
            let mut kept = Vec::new();
            filter.keep(&[b"0", *message].concat(), true, true, &mut kept);
            assert_eq!(kept[0], b'0');
            all.extend_from_slice(&kept[1..]);
        }
        all
    }

    #[test]
    fn what_writes_the_clipboard_is_taken_out() {
        for (output, expected) in [
            (&b"a\x1b]52;c;YQ==\x07b"[..], &b"ab"[..]),
            (b"a\x1b]52;c;YQ==\x1b\\b", b"a\x1b\\b"),
            (b"a\xc2\x9d52;c;YQ==\xc2\x9cb", b"ab"),
            (b"a\x9d52;c;YQ==\x9cb", b"ab"),
            (b"\x1b]052;c;YQ==\x07", b""),
            (b"\x1b]0000000000000000052;c;YQ==\x07", b""),
            (b"\x1b]5\x002\r;c;YQ==\x07", b""),
            (b"\x1b\x00]52;c;YQ==\x07", b"\x00"),
            (b"\x1b\x1b]52;c;YQ==\x07", b"\x1b"),
            // A string that begins within another one ends that.
            (b"\x1b]0;title\x1b]52;c;YQ==\x07", b"\x1b]0;title"),
            (b"\x1b]52;c;\x1b]52;c;YQ==\x07b", b"b"),
            (b"\x1bPtmux;\x1b\x1b]52;c;YQ==\x07\x1b\\", b"\x1bPtmux;\x1b\x1b\\"),
        ] {
            assert_eq!(passed(CopyFilter::default(), &[output]), expected, "{output:?}");
        }
    }

    #[test]
    fn everything_else_stays() {
        for output in [
            &b"\x1b]0;title\x07"[..],
            b"\x1b]520;c\x07",
            b"\x1b]5;2\x07",
            b"\x1b]8;;https://example.test\x1b\\link\x1b]8;;\x1b\\",
            b"\x1b]P1abcdef",
            b"\x1b[31mred\x1b[0m",
            b"\x1b]123456789012;x\x07",
            "Ý ❝ 😀 \u{9b}31m é Â ".as_bytes(),
            // Bytes that would be OSC and ST if they were not within a character.
            "Ý52;c;YQ==\u{7}".as_bytes(),
        ] {
            assert_eq!(passed(CopyFilter::default(), &[output]), output, "{output:?}");
        }
        let mut kept = Vec::new();
        CopyFilter::default().keep(b"1\x1b]52;c;YQ==\x07", true, true, &mut kept);
        assert_eq!(kept, b"1\x1b]52;c;YQ==\x07", "a title is no output");
    }

    #[test]
    fn what_is_pasted_is_taken_out_and_no_key_waits() {
        let one = |input: &[u8]| passed(PasteFilter::default(), &[input]);
        assert_eq!(one(b"a\x1b[200~rm -r .\r\x1b[201~b"), b"ab");
        assert_eq!(one(b"\x1b[200~a\x1b[200~b\x1b[201~c"), b"c");
        for keys in [
            &b"\x1b"[..],
            b"\x1b[A",
            b"\x1b[20~",
            b"\x1b[200",
            b"\x1b\x1b[A",
            b"\x1bb",
            b"\x1b[201~",
        ] {
            assert_eq!(one(keys), keys, "{keys:?}");
        }
        let several = passed(PasteFilter::default(), &[b"\x1b[20", b"0~rm\x1b[2", b"01~ls\r"]);
        assert_eq!(several, b"\x1b[20ls\r");
        assert_eq!(passed(PasteFilter::default(), &[b"\x1b", b"[A"]), b"\x1b[A");
    }

    /// Pieces that are hard on a parser.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(b"\x1b]52;c;SECRET\x07".to_vec()),
            Just(b"\x1b]52;c;SECRET\x1b\\".to_vec()),
            Just(b"\xc2\x9d52;c;SECRET\xc2\x9c".to_vec()),
            Just(b"\x1b[200~SECRET\x1b[201~".to_vec()),
            Just(b"\x1b".to_vec()),
            Just(b"\x1b]5".to_vec()),
            Just("Ý❝".as_bytes().to_vec()),
            proptest::collection::vec(any::<u8>(), 0..8),
        ]
    }

    proptest! {
        #[test]
        fn borders_of_messages_change_nothing(pieces in proptest::collection::vec(piece(), 0..12), borders in proptest::collection::vec(1usize..9, 1..200)) {
            let output = pieces.concat();
            let mut cut = Vec::new();
            let mut rest = &output[..];
            for length in borders.iter().cycle() {
                if rest.is_empty() { break; }
                let (first, others) = rest.split_at((*length).min(rest.len()));
                cut.push(first);
                rest = others;
            }
            prop_assert_eq!(passed(CopyFilter::default(), &cut), passed(CopyFilter::default(), &[&output]));
        }

        /// Whatever stands around it, nothing of what was to be copied gets through; nor of what was pasted.
        #[test]
        fn nothing_gets_through(before in proptest::collection::vec(any::<u8>(), 0..16), cut in 1usize..20) {
            let output = [&before[..], b"\x1b]52;c;SECRET\x07"].concat();
            let messages: Vec<&[u8]> = output.chunks(cut).collect();
            let kept = passed(CopyFilter::default(), &messages);
            prop_assert!(!kept.windows(6).any(|bytes| bytes == b"SECRET"), "{:?}", kept);
            let input = [&before[..], b"\x1b[200~SECRET\x1b[201~"].concat();
            let messages: Vec<&[u8]> = input.chunks(cut).collect();
            let kept = passed(PasteFilter::default(), &messages);
            prop_assert!(!kept.windows(6).any(|bytes| bytes == b"SECRET"), "{:?}", kept);
        }
    }
}
