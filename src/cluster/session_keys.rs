//! The entry of a Secret becomes the keys of sessions.
//!
//! The Secret [`NAME`] of the gateway's namespace has one entry, [`ENTRY`]: a line for each key, [`KEY_BYTES`] random bytes in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub const NAME: &str = "workspace-gateway-session-keys";
pub const ENTRY: &str = "keys";
/// Of one key.
pub const KEY_BYTES: usize = 64;

/// All lines but empty ones, or none when one of them is no key.
pub fn parse(text: &[u8]) -> Option<Vec<[u8; KEY_BYTES]>> {
    let lines = std::str::from_utf8(text).ok()?.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(|line| STANDARD.decode(line).ok()?.try_into().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines_of_base64() {
        let made = STANDARD.encode([7; KEY_BYTES]);
        assert_eq!(parse(made.as_bytes()), Some(vec![[7; KEY_BYTES]]));
        assert_eq!(parse(format!("{made}\n\n  {made}\n").as_bytes()).unwrap().len(), 2);
        assert_eq!(parse(b""), Some(vec![]));
        for bad in ["c2hvcnQ=".to_owned(), format!("{made}\nno base64")] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"\xff"), None);
    }
}
