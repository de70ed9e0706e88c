//! The claims of a token that was verified become the answer to "may this person enter?". Pure.

use crate::config::entry::{Entry, RequiredClaim, claim_text};
use serde_json::{Map, Value};

/// The rule that someone does not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    Group,
    EmailDomain,
    EmailNotVerified,
    Claim,
}

impl NotAllowed {
    /// The word for logs and audit lines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Group => "group_not_allowed",
            Self::EmailDomain => "email_domain_not_allowed",
            Self::EmailNotVerified => "email_not_verified",
            Self::Claim => "claim_not_allowed",
        }
    }

    /// The sentence for the person. It names no rule of the configuration: that is not theirs to know.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Group => "You are in none of the groups that may use it.",
            Self::EmailDomain => "Your email address is not of a domain that may use it.",
            Self::EmailNotVerified => "The identity provider says that your email address is not verified.",
            Self::Claim => "The identity provider does not say of you what is required for it.",
        }
    }
}

/// # Errors
/// The first rule that is not met.
pub(super) fn check(rules: &Entry, groups_claim: &str, claims: &Map<String, Value>) -> Result<(), NotAllowed> {
    let Entry {
        allowed_groups,
        allowed_email_domains,
        required_claims,
        admin_groups: _,
    } = rules;
    if !allowed_groups.is_empty() && !has_one_of(claims.get(groups_claim), allowed_groups) {
        return Err(NotAllowed::Group);
    }
    if !allowed_email_domains.is_empty() {
        let domain = claims.get("email").and_then(Value::as_str).and_then(domain_of);
        if !domain.is_some_and(|domain| allowed_email_domains.contains(&domain)) {
            return Err(NotAllowed::EmailDomain);
        }
        // Some providers write booleans as texts.
        if matches!(
            claims.get("email_verified").and_then(claim_text).as_deref(),
            Some("false")
        ) {
            return Err(NotAllowed::EmailNotVerified);
        }
    }
    let missing = |claim: &RequiredClaim| !has_one_of(claims.get(&claim.name), &claim.values);
    if required_claims.iter().any(missing) {
        return Err(NotAllowed::Claim);
    }
    Ok(())
}

/// Whether a claim is one of `values`, or a list with one of them in it. Compared byte for byte.
pub(super) fn has_one_of(claim: Option<&Value>, values: &[String]) -> bool {
    let is_one = |value: &Value| claim_text(value).is_some_and(|text| values.contains(&text));
    match claim {
        Some(Value::Array(list)) => list.iter().any(is_one),
        Some(value) => is_one(value),
        None => false,
    }
}

/// The domain of an address in lower case: what is behind the last `@`, of which there is one (RFC 5321, section 4.1.2, but for
/// quoted local parts, which nobody has).
fn domain_of(email: &str) -> Option<String> {
    let (local, domain) = email.split_once('@')?;
    (!local.is_empty() && !domain.contains('@')).then(|| domain.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules() -> Entry {
        Entry {
            allowed_groups: vec!["dev".into(), "ops".into()],
            allowed_email_domains: vec!["example.test".into()],
            required_claims: vec![RequiredClaim {
                name: "acr".into(),
                values: vec!["gold".into(), "2".into()],
            }],
            admin_groups: vec![],
        }
    }

    fn checked(change: Value) -> Result<(), NotAllowed> {
        let mut claims = json!({"groups": ["dev"], "email": "a@Example.test", "email_verified": true, "acr": "gold"});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        check(&rules(), "groups", claims.as_object().unwrap())
    }

    #[test]
    fn every_rule_must_be_met() {
        for allowed in [
            json!({}),
            json!({"groups": "ops"}),
            json!({"groups": ["x", "ops"]}),
            json!({"acr": 2}),
            json!({"acr": ["x", "gold"]}),
            json!({"email_verified": null}),
        ] {
            assert_eq!(checked(allowed.clone()), Ok(()), "{allowed}");
        }
        for (refused, why) in [
            (json!({"groups": []}), NotAllowed::Group),
            (json!({"groups": "dev,ops"}), NotAllowed::Group),
            (json!({"groups": ["Dev"]}), NotAllowed::Group),
            (json!({"groups": {"dev": true}}), NotAllowed::Group),
            (json!({"groups": [["dev"]]}), NotAllowed::Group),
            (json!({"email": null}), NotAllowed::EmailDomain),
            (json!({"email": "a@sub.example.test"}), NotAllowed::EmailDomain),
            (json!({"email": "a@other.test@example.test"}), NotAllowed::EmailDomain),
            (json!({"email": "@example.test"}), NotAllowed::EmailDomain),
            (json!({"email": "example.test"}), NotAllowed::EmailDomain),
            (json!({"email_verified": false}), NotAllowed::EmailNotVerified),
            (json!({"email_verified": "false"}), NotAllowed::EmailNotVerified),
            (json!({"acr": "silver"}), NotAllowed::Claim),
            (json!({"acr": null}), NotAllowed::Claim),
        ] {
            assert_eq!(checked(refused.clone()), Err(why), "{refused}");
        }
        assert_eq!(check(&Entry::default(), "groups", &Map::new()), Ok(()));
    }
}
