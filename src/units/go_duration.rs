//! Go duration text (`1h30m`) becomes a [`Duration`], and back.
//!
//! The grammar is that of Go's `time.ParseDuration`, which every duration field of the custom resource and every
//! duration setting follows: a sequence of decimal numbers, each with an optional fraction and a unit
//! (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`), or a lone `0`. Negative durations make no sense for us and are refused.
//! The arithmetic is in whole nanoseconds, so `0.1s` is exactly 100 ms.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A non-negative duration written the way Go writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, snafu::Snafu)]
pub enum ParseError {
    #[snafu(display("a duration such as 30m, 1h30m or 0 (not an empty text)"))]
    Empty,
    #[snafu(display("a duration that is not negative"))]
    Negative,
    #[snafu(display("a number before the unit, as in 30m or 1h30m"))]
    Number,
    #[snafu(display("a unit (ns, us, ms, s, m or h) after each number, as in 30m or 1h30m"))]
    Unit,
    #[snafu(display("a duration below 2562047h, the longest that Go can hold"))]
    TooLong,
}

/// Go holds a duration as a signed 64-bit count of nanoseconds.
const MAX_NANOS: u128 = i64::MAX as u128;

impl FromStr for GoDuration {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.starts_with('-') {
            return Err(ParseError::Negative);
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest.is_empty() {
            return Err(ParseError::Empty);
        }
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (whole, after) = split_digits(rest);
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => split_digits(after),
                None => ("", after),
            };
            if whole.is_empty() && fraction.is_empty() {
                return Err(ParseError::Number);
            }
            let end = after
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            let scale = unit_nanos(unit).ok_or(ParseError::Unit)?;
            total = total
                .checked_add(scaled(whole, fraction, scale)?)
                .ok_or(ParseError::TooLong)?;
            if total > MAX_NANOS {
                return Err(ParseError::TooLong);
            }
            rest = next;
        }
        let seconds = u64::try_from(total / 1_000_000_000).map_err(|_| ParseError::TooLong)?;
        let nanos = u32::try_from(total % 1_000_000_000).map_err(|_| ParseError::TooLong)?;
        Ok(Self(Duration::new(seconds, nanos)))
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // Go takes both the micro sign (U+00B5) and the Greek letter mu (U+03BC).
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `whole.fraction` units in nanoseconds; what lies below a nanosecond is cut off, as Go does.
fn scaled(whole: &str, fraction: &str, scale: u128) -> Result<u128, ParseError> {
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| ParseError::TooLong)?
    };
    let mut nanos = whole.checked_mul(scale).ok_or(ParseError::TooLong)?;
    let mut digit_scale = scale;
    for digit in fraction.bytes().take(20) {
        // Keeps the remainder of every division by carrying it in the next digit's scale: exact for our units.
        nanos += u128::from(digit - b'0') * digit_scale / 10;
        digit_scale /= 10;
    }
    Ok(nanos)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if self.0.is_zero() {
            return f.write_str("0");
        }
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if nanos > 0 {
            let fraction = format!("{nanos:09}");
            write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))?;
        } else if seconds > 0 {
            write!(f, "{seconds}s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Duration, ParseError> {
        text.parse::<GoDuration>().map(|d| d.0)
    }

    #[test]
    fn reads_what_go_reads() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("30m", 1_800_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("+5s", 5_000),
            (".5s", 500),
            ("1.s", 1_000),
            ("0.1s", 100),
            ("1h1m1s1ms", 3_661_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("2\u{b5}s3\u{3bc}s4us5ns"), Ok(Duration::from_nanos(9_005)));
    }

    #[test]
    fn refuses_what_go_refuses() {
        for (text, error) in [
            ("", ParseError::Empty),
            ("-1s", ParseError::Negative),
            ("5", ParseError::Unit),
            ("1d", ParseError::Unit),
            ("h", ParseError::Number),
            (".s", ParseError::Number),
            ("1h 2m", ParseError::Unit),
            ("9999999999h", ParseError::TooLong),
            ("99999999999999999999999999999999999999999999h", ParseError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_value_round_trip(nanos in 0u64..=i64::MAX as u64) {
            let duration = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse::<GoDuration>(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
