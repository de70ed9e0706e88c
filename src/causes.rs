//! An error becomes one line with what caused it: the outermost of an HTTP client alone says only "client error".

use std::error::Error;
use std::iter;

/// The error and its sources, outermost first, joined with `: `.
pub fn with_causes(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |error: &&dyn Error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use snafu::{ResultExt, Snafu};
    use std::io;

    #[derive(Debug, Snafu)]
    #[snafu(display("can't connect"))]
    struct Outer {
        source: io::Error,
    }

    #[test]
    fn the_cause_is_said_after_what_it_caused() {
        let refused = Err::<(), _>(io::Error::other("refused")).context(OuterSnafu);
        assert_eq!(with_causes(&refused.unwrap_err()), "can't connect: refused");
        assert_eq!(with_causes(&io::Error::other("alone")), "alone");
    }
}
