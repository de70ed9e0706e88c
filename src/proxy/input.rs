//! What a terminal sends becomes a yes or no: did a person do something? And what it is sent: was something printed?
//!
//! Keys, pastes and mouse buttons count. What the terminal sends by itself does not: focus events, mouse motion, and its
//! answers to a program's questions (ECMA-48 control sequences as xterm uses them). Otherwise a program that asks the terminal
//! every second would keep a workspace awake for ever.
//!
//! Some bytes are both. A string without an end (`ESC ]`) is Alt and a key: an answer comes as a whole. `ESC [ 1 ; 2 R` is Shift+F3, and the
//! answer of a cursor in the first row to a program that asks for it: an answer here, as people press other keys too, and programs that
//! ask do not stop asking.

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// The command byte of a ttyd message that carries input.
const INPUT: u8 = b'0';

/// Whether the first frame of a client's message holds something that a person did.
pub fn is_typing(frame: &[u8]) -> bool {
    match frame {
        [INPUT, input @ ..] => by_a_person(input),
        _ => false,
    }
}

/// The command byte of a ttyd message that carries output. The same as that of input.
const OUTPUT: u8 = b'0';

/// Whether the first frame of a workspace's message holds something that a program printed.
pub fn is_output(frame: &[u8]) -> bool {
    matches!(frame, [OUTPUT, _, ..])
}

fn by_a_person(mut input: &[u8]) -> bool {
    while let Some(first) = input.first() {
        if *first != ESC {
            return true;
        }
        let Some(rest) = without_report(&input[1..]) else {
            return true;
        };
        input = rest;
    }
    false
}

/// What follows the report that begins behind an escape byte; `None` when it is no report, but a key.
fn without_report(input: &[u8]) -> Option<&[u8]> {
    match input {
        [b'[', rest @ ..] => without_csi(rest),
        // OSC, DCS, APC, PM and SOS are strings up to ST; only answers come as such.
        [b']' | b'P' | b'_' | b'^' | b'X', rest @ ..] => behind_string(rest),
        _ => None,
    }
}

/// Behind `CSI`: parameters (0x30-0x3f), intermediates (0x20-0x2f), one final byte (0x40-0x7e).
fn without_csi(input: &[u8]) -> Option<&[u8]> {
    let end = input.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
    let (parameters, rest) = (&input[..end], &input[end + 1..]);
    let is_report = match input[end] {
        // Focus in and out.
        b'I' | b'O' => parameters.is_empty(),
        // Cursor position, status, device attributes, modes, window reports, keyboard flags.
        b'R' | b'n' | b'c' | b'y' | b't' => true,
        b'u' => parameters.first() == Some(&b'?'),
        // Mouse in SGR form: `<button;column;row`. Bit 5 of the button is motion; `m` is a release.
        b'm' => parameters.first() == Some(&b'<'),
        b'M' if parameters.first() == Some(&b'<') => is_motion(&parameters[1..]),
        // Mouse in X10 form: three bytes behind the final one, the first the button plus 32.
        b'M' if parameters.is_empty() => {
            let (button, rest) = (rest.first()?, rest.get(3..)?);
            let button = button.wrapping_sub(32);
            let released = button & 0b11 == 0b11 && button & 0b0100_0000 == 0;
            return (button & 0b0010_0000 != 0 || released).then_some(rest);
        }
        _ => false,
    };
    is_report.then_some(rest)
}

fn is_motion(parameters: &[u8]) -> bool {
    let button = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
    let button: Option<u32> = std::str::from_utf8(button).ok().and_then(|text| text.parse().ok());
    button.is_some_and(|button| button & 0b0010_0000 != 0)
}

/// Behind BEL or ST (`ESC \`); `None` when the string does not end here.
fn behind_string(input: &[u8]) -> Option<&[u8]> {
    input.iter().enumerate().find_map(|(index, byte)| match *byte {
        BEL => Some(&input[index + 1..]),
        ESC if input.get(index + 1) == Some(&b'\\') => Some(&input[index + 2..]),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(input: &[u8]) -> bool {
        is_typing(&[b"0", input].concat())
    }

    #[derive(serde::Deserialize)]
    struct Case {
        input: String,
        activity: bool,
    }

    /// Those of the page, which has the same bytes to tell apart.
    #[test]
    fn what_a_person_does_counts_and_what_a_terminal_sends_by_itself_does_not() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../gateway/web/test/terminal-input.json")).unwrap();
        for Case { input, activity } in &cases {
            assert_eq!(seen(input.as_bytes()), *activity, "{input:?}");
        }
        assert!(!seen(b""));
        assert!(!is_typing(b"1{\"columns\":80,\"rows\":24}"));
        assert!(!is_typing(b"2"));
        assert!(!is_typing(b"{\"AuthToken\":\"\"}"));
        assert!(!is_typing(b""));
    }

    proptest! {
        #[test]
        fn no_input_is_too_strange(input in proptest::collection::vec(any::<u8>(), 0..64)) {
            is_typing(&input);
        }

        #[test]
        fn text_behind_reports_counts(reports in proptest::collection::vec(0usize..4, 0..4), text in "[a-z]{1,4}") {
            let all: [&[u8]; 4] = [b"\x1b[I", b"\x1b[0n", b"\x1b]11;rgb:0/0/0\x07", b"\x1b[<35;1;1M"];
            let mut input: Vec<u8> = reports.iter().flat_map(|index| all[*index]).copied().collect();
            prop_assert!(!seen(&input));
            input.extend(text.as_bytes());
            prop_assert!(seen(&input));
        }
    }
}
