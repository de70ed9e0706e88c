//! A certificate becomes what people want to know of it (RFC 5280).

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use std::fmt;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub subject: String,
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The DNS names that it is for.
    pub names: Vec<String>,
    pub is_authority: bool,
}

impl Facts {
    /// `None` when it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let time = |seconds: i64| Timestamp::from_second(seconds).ok();
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
            names: names.collect(),
            is_authority: parsed.is_ca(),
        })
    }

    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// `CN=..., valid until 2027-01-01`
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match (self.subject.as_str(), self.names.as_slice()) {
            ("", names) => names.join(", "),
            (subject, _) => subject.to_owned(),
        };
        write!(f, "{subject}, valid until {}", self.not_after.strftime("%Y-%m-%d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};

    #[test]
    fn a_certificate_tells_whose_it_is_and_until_when() {
        let mut params = CertificateParams::new(vec!["idp.test".into(), "127.0.0.1".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a site");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2026, 5, 4));
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let facts = Facts::of(made.der()).unwrap();
        assert!(
            facts.subject.contains("CN=a site") && facts.issuer == facts.subject,
            "{facts:?}"
        );
        assert!(facts.is_authority);
        assert_eq!(facts.names, ["idp.test"]);
        assert!(facts.to_string().ends_with("valid until 2026-05-04"), "{facts}");
        let valid = |at: &str| facts.is_valid_at(at.parse().unwrap());
        assert!(valid("2025-01-01T00:00:00Z") && !valid("2027-01-01T00:00:00Z") && !valid("2023-01-01T00:00:00Z"));
        assert_eq!(Facts::of(&CertificateDer::from(vec![1, 2])), None);
    }
}
