//! An error becomes one line with what caused it: the outermost of an HTTP client alone says only "client error". What the API server has answered
//! is told by its message, which is written for people and says all.

use std::error::Error;
use std::iter;

/// The error and its sources, outermost first, joined with `: `.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| match answer(*error) {
        Some(_) => None,
        None => (*error).source(),
    });
    let told = causes.map(|error| answer(error).map_or_else(|| error.to_string(), str::to_owned));
    told.collect::<Vec<_>>().join(": ")
}

/// What the API server has said. Printed whole, its answer stands there three times.
fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    match error.downcast_ref()? {
        kube::Error::Api(status) if !status.message.is_empty() => Some(&status.message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
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

    #[derive(Debug, Snafu)]
    #[snafu(display("can't make it"))]
    struct Refused {
        source: kube::Error,
    }

    #[test]
    fn of_an_api_server_s_answer_its_message_is_told() {
        let answer = |message: &str| {
            let status = Status::failure(message, "Forbidden").with_code(403);
            Err::<(), _>(kube::Error::Api(status.boxed())).context(RefusedSnafu)
        };
        let said = "pods is forbidden: User \"a\" cannot create resource \"pods\"";
        assert_eq!(
            with_causes(&answer(said).unwrap_err()),
            format!("can't make it: {said}")
        );
        let nothing = with_causes(&answer("").unwrap_err());
        assert!(nothing.contains("Forbidden"), "{nothing}");
    }
}
