//! A pair of keys becomes certificates: one key signs those of workspaces, the other those of gateways.

use data_encoding::HEXLOWER;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use snafu::Snafu;
use std::fmt;

/// How long an authority, and so every certificate that it issues, is valid.
pub const VALID_FOR: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Why there is no certificate. Holds nothing of a key.
#[derive(Debug, Snafu)]
pub enum CertificateError {
    #[snafu(display("a certificate can't be made: {source}"), context(false))]
    Make { source: rcgen::Error },
    /// Not the source: a parser may quote what it read.
    #[snafu(display("the authorities can't be read: expected the JSON that the operator wrote"))]
    Unreadable,
    #[snafu(display("the authorities can't be written: {source}"))]
    Unwritable { source: serde_json::Error },
    #[snafu(display("there is no authority in what the operator wrote"))]
    Missing,
}

/// Who vouches for workspaces, and who for gateways.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    pub id: String,
    /// RFC 3339.
    pub made_at: Timestamp,
    workspaces: Signer,
    gateways: Signer,
}

/// A certificate that signs others, and its key; both in PEM form.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Signer {
    certificate: String,
    key: String,
}

/// A certificate and its key, both in PEM form.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// # Errors
    /// When the system gives no random numbers.
    pub fn make(now: Timestamp) -> Result<Self, CertificateError> {
        let workspaces = Signer::make(WORKSPACES, now)?;
        let gateways = Signer::make(GATEWAYS, now)?;
        Ok(Self {
            id: id(&workspaces, &gateways),
            made_at: now,
            workspaces,
            gateways,
        })
    }

    /// Whether it is as [`Self::make`] made it: its certificates are those that it is named by, and its keys theirs.
    pub fn is_sound(&self) -> bool {
        let Self {
            id: own,
            made_at: _,
            workspaces,
            gateways,
        } = self;
        *own == id(workspaces, gateways) && workspaces.is_sound() && gateways.is_sound()
    }

    pub fn valid_until(&self) -> Timestamp {
        self.made_at + VALID_FOR
    }

    /// For the terminal of a workspace, which shows `name`.
    ///
    /// # Errors
    /// When `name` is no DNS name, or the authority's key can't be used.
    pub fn workspace(&self, name: &str) -> Result<Issued, CertificateError> {
        let purpose = ExtendedKeyUsagePurpose::ServerAuth;
        self.workspaces.issue(WORKSPACES, self.made_at, name, purpose)
    }

    /// For gateways, all of which have the same.
    ///
    /// # Errors
    /// When the authority's key can't be used.
    pub fn gateway(&self) -> Result<Issued, CertificateError> {
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        self.gateways.issue(GATEWAYS, self.made_at, GATEWAY_NAME, purpose)
    }

    /// What gateways trust, in PEM form.
    pub fn of_workspaces(&self) -> &str {
        &self.workspaces.certificate
    }

    /// What workspaces trust, in PEM form.
    pub fn of_gateways(&self) -> &str {
        &self.gateways.certificate
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("id", &self.id)
            .field("made_at", &self.made_at)
            .finish_non_exhaustive()
    }
}

const WORKSPACES: &str = "DevPlane workspaces";
const GATEWAYS: &str = "DevPlane gateways";
const GATEWAY_NAME: &str = "gateway.workspace.devplane.io";

fn id(workspaces: &Signer, gateways: &Signer) -> String {
    let digest = Sha256::new()
        .chain_update(&workspaces.certificate)
        .chain_update(&gateways.certificate)
        .finalize();
    HEXLOWER.encode(&digest[..8])
}

impl Signer {
    /// A certificate holds its public key as it is (RFC 5280, section 4.1.2.7).
    fn is_sound(&self) -> bool {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let (Ok(certificate), Ok(key)) = (certificate, KeyPair::from_pem(&self.key)) else {
            return false;
        };
        let public = key.subject_public_key_info();
        certificate.windows(public.len()).any(|part| part == public)
    }

    fn make(name: &str, now: Timestamp) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let certificate = authority_params(name, now).self_signed(&key)?;
        Ok(Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    fn issue(
        &self,
        authority: &str,
        made_at: Timestamp,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, CertificateError> {
        let issuer_params = authority_params(authority, made_at);
        let issuer = Issuer::from_params(&issuer_params, KeyPair::from_pem(&self.key)?);
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        // The longest common name (RFC 5280, appendix A.1) is shorter than ours: the name is in the subject's alternative names alone.
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) = (issuer_params.not_before, issuer_params.not_after);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: params.signed_by(&key, &issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The same for the same authority, each time: what it signs refers to it.
fn authority_params(name: &str, made_at: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Two of them are told apart by their names, too.
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, made_at.to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // Whole days, and a day more at either end: clocks may differ.
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        let [month, day] = [date.month(), date.day()].map(i8::unsigned_abs);
        date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = day(made_at - DAY);
    params.not_after = day(made_at + VALID_FOR + DAY);
    params
}
