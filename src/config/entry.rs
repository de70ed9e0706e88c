//! Settings become the rules for who may enter.

use super::reader::Reader;
use super::setting::{Setting, setting};
use super::syntax;
use serde_json::{Map, Value};

/// Who may enter, and whom the others are told to ask. A rule that is empty lets everyone in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// A user is in at least one of these.
    pub allowed_groups: Vec<String>,
    /// In lower case; the user's email address is in one of these.
    pub allowed_email_domains: Vec<String>,
    pub required_claims: Vec<RequiredClaim>,
    /// Whose members are administrators.
    pub admin_groups: Vec<String>,
}

/// A claim of the ID token that must be, or contain, one of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    pub name: String,
    /// Numbers and booleans as JSON writes them.
    pub values: Vec<String>,
}

pub const OIDC_ALLOWED_GROUPS: Setting = setting("OIDC_ALLOWED_GROUPS", "oidc.allowedGroups").help(
    "groups, separated by commas or as a JSON list, of which a user must be in one; everyone may enter when unset",
);
pub const OIDC_ALLOWED_EMAIL_DOMAINS: Setting = setting("OIDC_ALLOWED_EMAIL_DOMAINS", "oidc.allowedEmailDomains")
    .help("domains, separated by commas or as a JSON list, of which the user's email address must have one; an address that the provider says is not verified counts as none");
pub const OIDC_REQUIRED_CLAIMS: Setting = setting("OIDC_REQUIRED_CLAIMS", "oidc.requiredClaims")
    .help("claims that an ID token must have: name=value separated by commas, or JSON such as {\"acr\":\"gold\",\"roles\":[\"dev\",\"ops\"]}, where one of the values is enough");
pub const OIDC_ADMIN_GROUPS: Setting = setting("OIDC_ADMIN_GROUPS", "oidc.adminGroups")
    .help("groups, separated by commas or as a JSON list, whose members are administrators; nobody when unset");
pub const SUPPORT_CONTACT: Setting = setting("SUPPORT_CONTACT", "supportContact")
    .help("whom a user may ask who is refused, such as platform@example.com; shown as text on the pages that say so");

impl Entry {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let allowed_groups = r.optional(&OIDC_ALLOWED_GROUPS, names);
        let allowed_email_domains = r.optional(&OIDC_ALLOWED_EMAIL_DOMAINS, |text| {
            names(text)?.iter().map(|name| email_domain(name)).collect()
        });
        let required_claims = r.optional(&OIDC_REQUIRED_CLAIMS, required_claims);
        let admin_groups = r.optional(&OIDC_ADMIN_GROUPS, names);
        Some(Self {
            allowed_groups: allowed_groups?.unwrap_or_default(),
            allowed_email_domains: allowed_email_domains?.unwrap_or_default(),
            required_claims: required_claims?.unwrap_or_default(),
            admin_groups: admin_groups?.unwrap_or_default(),
        })
    }
}

/// Separated by commas, or a JSON list: the names of an LDAP directory have commas in them.
fn names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = if text.trim_start().starts_with('[') {
        let expected = "names separated by commas, or a JSON list of texts";
        serde_json::from_str(text).map_err(|_| expected.to_owned())?
    } else {
        text.split(',').map(|name| name.trim().to_owned()).collect()
    };
    Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
}

fn email_domain(text: &str) -> Result<String, String> {
    let domain = text.strip_prefix('@').unwrap_or(text).to_ascii_lowercase();
    syntax::dns_subdomain(&domain).map_err(|_| "domains such as example.com".to_owned())
}

fn required_claims(text: &str) -> Result<Vec<RequiredClaim>, String> {
    let expected = || {
        "name=value separated by commas, or a JSON object of texts, numbers, booleans and lists of them that are not empty"
            .to_owned()
    };
    if !text.trim_start().starts_with('{') {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        return pairs
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => Ok(RequiredClaim {
                    name: name.trim().to_owned(),
                    values: vec![value.trim().to_owned()],
                }),
                _ => Err(expected()),
            })
            .collect();
    }
    let claims: Map<String, Value> = serde_json::from_str(text).map_err(|_| expected())?;
    claims
        .into_iter()
        .map(|(name, value)| {
            let values: Option<Vec<_>> = match &value {
                Value::Array(values) => values.iter().map(claim_text).collect(),
                value => claim_text(value).map(|value| vec![value]),
            };
            let values = values.filter(|values| !values.is_empty()).ok_or_else(expected)?;
            Ok(RequiredClaim { name, values })
        })
        .collect()
}

/// A single value of a claim as text; `None` for what is no single value.
pub fn claim_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        let claims = required_claims(text)?;
        Ok(claims.into_iter().map(|claim| (claim.name, claim.values)).collect())
    }

    #[test]
    fn claims_are_pairs_or_json() {
        let one = |name: &str, values: &[&str]| (name.to_owned(), values.iter().map(|v| (*v).to_owned()).collect());
        assert_eq!(
            claims("acr=gold, hd=a=b").unwrap(),
            [one("acr", &["gold"]), one("hd", &["a=b"])]
        );
        assert_eq!(
            claims(r#"{"mfa":true,"roles":["dev",7]}"#).unwrap(),
            [one("mfa", &["true"]), one("roles", &["dev", "7"])]
        );
        for wrong in [
            "acr",
            "=gold",
            "acr=",
            r#"{"a":[]}"#,
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a""#,
        ] {
            assert!(claims(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_may_have_commas_in_json() {
        assert_eq!(names(" a, b,,"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(names(r#"["cn=dev,ou=it", ""]"#), Ok(vec!["cn=dev,ou=it".into()]));
        assert!(names("[a]").is_err() && names("[1]").is_err());
    }

    #[test]
    fn domains_may_have_an_at_sign_in_front() {
        assert_eq!(email_domain("@Example.COM"), Ok("example.com".into()));
        for wrong in ["a@example.com", "*.example.com", "example..com", ""] {
            assert!(email_domain(wrong).is_err(), "{wrong}");
        }
    }
}
