//! What came of several things of one kind becomes one status: the first failure, with the problems of the others behind its own.

use super::super::check::Status;

/// One status of many. What failed wins over what is not known, and that over what holds: a claim about all things is not proved by some.
/// `nothing` is told when there is none.
pub fn all(statuses: Vec<Status>, nothing: &str) -> Status {
    let (mut evidence, mut failures, mut unknown) = (vec![], vec![], vec![]);
    for status in statuses {
        match status {
            Status::Pass { evidence: one } => evidence.push(one),
            Status::Fail(failure) => failures.push(failure),
            Status::Skip { why } => unknown.push(why),
        }
    }
    let mut failures = failures.into_iter();
    if let Some(mut first) = failures.next() {
        // Their fixes are told once this one is mended.
        for other in failures {
            first.problem.push_str("\nand: ");
            first.problem.push_str(&other.problem);
        }
        return Status::Fail(first);
    }
    evidence.dedup();
    unknown.dedup();
    match (evidence.is_empty(), unknown.is_empty()) {
        (true, true) => Status::skip(nothing),
        (false, true) => Status::pass(evidence.join("; ")),
        (true, false) => Status::skip(unknown.join("; ")),
        (false, false) => Status::skip(format!(
            "{} (the rest holds: {})",
            unknown.join("; "),
            evidence.join("; ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::Fix;
    use super::*;

    #[test]
    fn a_failure_is_told_first_and_the_others_with_it() {
        let fail = |problem: &str| Status::fail(problem, "", "", Fix::words(problem));
        let pass = || Status::pass("a");
        let Status::Fail(failure) = all(vec![pass(), fail("one"), Status::skip("x"), fail("two")], "") else {
            panic!("it fails")
        };
        assert_eq!(
            (failure.problem.as_str(), failure.fix),
            ("one\nand: two", Fix::words("one"))
        );
        assert_eq!(all(vec![pass(), pass()], ""), Status::pass("a"));
        assert_eq!(
            all(vec![pass(), Status::skip("x")], ""),
            Status::skip("x (the rest holds: a)")
        );
        assert_eq!(all(vec![Status::skip("x")], "y"), Status::skip("x"));
        assert_eq!(all(vec![], "y"), Status::skip("y"));
    }
}
