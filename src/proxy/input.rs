//! What a terminal sends becomes a yes or no: did a person do something? And what it is sent: was something printed?
//!
//! Keys, pastes and mouse buttons count. What the terminal sends by itself does not: focus events, mouse motion, and its
//! answers to a program's questions (ECMA-48 control sequences as xterm uses them). Otherwise a program that asks the terminal
//! every second would keep a workspace awake for ever.

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
        [b']' | b'P' | b'_' | b'^' | b'X', rest @ ..] => Some(behind_string(rest)),
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

/// Behind BEL or ST (`ESC \`); nothing when the string does not end here.
fn behind_string(input: &[u8]) -> &[u8] {
    for (index, byte) in input.iter().enumerate() {
        match *byte {
            BEL => return &input[index + 1..],
            ESC if input.get(index + 1) == Some(&b'\\') => return &input[index + 2..],
            _ => {}
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(input: &[u8]) -> bool {
        is_typing(&[b"0", input].concat())
    }

    #[test]
    fn what_a_person_does_counts() {
        for input in [
            &b"a"[..],
            b"\r",
            b"\x03",
            "ä".as_bytes(),
            b"\x1b",
            b"\x1bb",
            b"\x1b[A",
            b"\x1b[1;5C",
            b"\x1bOP",
            b"\x1b[3~",
            b"\x1b[200~pasted\x1b[201~",
            b"\x1b[200~",
            b"\x1b[97;5u",
            b"\x1b[<0;10;5M",
            b"\x1b[<64;10;5M",
            b"\x1b[M !!",
            b"\x1b[",
            b"\x1b[I\x1b[Ix",
        ] {
            assert!(seen(input), "{input:?}");
        }
    }

    #[test]
    fn what_a_terminal_sends_by_itself_does_not() {
        for input in [
            &b""[..],
            b"\x1b[I",
            b"\x1b[O",
            b"\x1b[24;80R",
            b"\x1b[0n",
            b"\x1b[?1;2c",
            b"\x1b[>0;276;0c",
            b"\x1b[?2026;2$y",
            b"\x1b[8;24;80t",
            b"\x1b[?0u",
            b"\x1b[<35;10;5M",
            b"\x1b[<32;10;5M",
            b"\x1b[<0;10;5m",
            b"\x1b[MC!!",
            b"\x1b[M#!!",
            b"\x1b]11;rgb:0000/0000/0000\x07",
            b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
            b"\x1bP1$r0m\x1b\\",
            b"\x1bP>|xterm.js(6.0.0)\x1b\\\x1b[?1;2c\x1b[I",
        ] {
            assert!(!seen(input), "{input:?}");
        }
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
