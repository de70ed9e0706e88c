//! What came of several things of one kind becomes one status: the first failure, with the problems of the others behind its own.

use super::super::check::Status;

/// One status of many. What failed wins over what holds, and that over what is not known; `nothing` is told when there is none.
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
    if evidence.is_empty() {
        let why = unknown.into_iter().next();
        return Status::skip(why.unwrap_or_else(|| nothing.to_owned()));
    }
    evidence.extend(unknown.into_iter().map(|why| format!("not known: {why}")));
    evidence.dedup();
    Status::pass(evidence.join("; "))
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
            Status::pass("a; not known: x")
        );
        assert_eq!(all(vec![Status::skip("x")], "y"), Status::skip("x"));
        assert_eq!(all(vec![], "y"), Status::skip("y"));
    }
}
