//! The close codes of this program's own (RFC 6455, section 7.4.2: 4000 to 4999 are for private use).
//!
//! The gateway closes terminals with them, its page acts on them, and the doctor expects one: they are written here alone, but for the
//! page's own copy, which a test below compares.

/// Nobody is signed in, or the session is over.
pub const SIGNED_OUT: u16 = 4401;
/// The user may not enter.
pub const FORBIDDEN: u16 = 4403;
/// The workspace is being stopped; the reason is a word for programs.
pub const STOPPED: u16 = 4410;
/// The user has too many terminals open.
pub const TOO_MANY: u16 = 4429;
/// What is said can't be recorded, and must be.
pub const NOT_RECORDED: u16 = 4503;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_knows_the_same_codes() {
        let page = include_str!("../gateway/web/src/connection.ts");
        for (name, code) in [
            ("SIGNED_OUT", SIGNED_OUT),
            ("FORBIDDEN", FORBIDDEN),
            ("STOPPED", STOPPED),
            ("TOO_MANY", TOO_MANY),
            ("NOT_RECORDED", NOT_RECORDED),
        ] {
            assert!(page.contains(&format!("\nconst {name} = {code};\n")), "{name} {code}");
        }
    }
}
