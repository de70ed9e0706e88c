//! A setting becomes which ways of the clipboard are open.

use super::reader::Reader;
use super::setting::{Setting, setting};

/// Copying takes what a program in the workspace offers to the user's clipboard, pasting takes that into the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clipboard {
    pub may_copy: bool,
    pub may_paste: bool,
}

pub const GATEWAY_CLIPBOARD: Setting = setting("GATEWAY_CLIPBOARD", "clipboard")
    .default("both")
    .help("what users may do with their clipboard: both; copy, only from the workspace to the browser; paste, only from the browser to the workspace; or none");

impl Clipboard {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        r.parse(&GATEWAY_CLIPBOARD, Self::parse)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (may_copy, may_paste) = match text {
            "both" => (true, true),
            "copy" => (true, false),
            "paste" => (false, true),
            "none" => (false, false),
            _ => return Err("both, copy, paste or none".to_owned()),
        };
        Ok(Self { may_copy, may_paste })
    }

    /// The word of the setting, which the pages are told.
    pub fn word(self) -> &'static str {
        match (self.may_copy, self.may_paste) {
            (true, true) => "both",
            (true, false) => "copy",
            (false, true) => "paste",
            (false, false) => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_setting() {
        for word in ["both", "copy", "paste", "none"] {
            assert_eq!(Clipboard::parse(word).unwrap().word(), word);
        }
        for wrong in ["", "Both", "write", "true"] {
            assert!(Clipboard::parse(wrong).is_err(), "{wrong}");
        }
    }
}
