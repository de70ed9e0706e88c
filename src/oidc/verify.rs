//! An ID token becomes a person, or a word for why it does not (OpenID Connect Core 1.0, section 3.1.3.7).

use super::entry::{self, NotAllowed};
use super::provider::{Discovered, Provider, ProviderError};
use crate::identity::Identity;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use openidconnect::core::{
    CoreGenderClaim, CoreIdTokenVerifier, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AdditionalClaims, ClaimsVerificationError, ClientId, IdToken, IdTokenClaims,
    IssuerUrl, Nonce, SignatureVerificationError,
};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use snafu::Snafu;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Asymmetric signatures only: with an HMAC, whoever knows the client secret makes tokens; `none` is no signature.
pub(super) const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// The longest token that is looked at, in bytes.
pub(super) const MAX_TOKEN: usize = 32 * 1024;

/// Who showed a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub identity: Identity,
    /// For people to read; nothing is decided by it. Empty when the provider does not tell.
    pub email: String,
    /// The groups of the token's groups claim that the configuration names.
    pub groups: Vec<String>,
    /// Whether they are in one of the administrators' groups.
    pub is_admin: bool,
    /// A hash of what the provider calls its session (`sid`), as [`provider_session`] makes it.
    pub provider_session: Option<String>,
    /// When the token was made (`iat`).
    pub issued: Timestamp,
    /// When nobody believes the token any more: its end (`exp`), by a provider's clock that is late by as much as is allowed.
    pub expires: Timestamp,
}

/// Why a token is not believed. The variants hold nothing of the token.
#[derive(Debug, Snafu)]
pub enum TokenError {
    #[snafu(display("it is no ID token"))]
    Malformed,
    #[snafu(display("its signature can't be verified"))]
    Signature,
    #[snafu(display("its issuer is another one"))]
    Issuer,
    #[snafu(display("it is for another audience"))]
    Audience,
    #[snafu(display("it was given to another client"))]
    AuthorizedParty,
    #[snafu(display("it has expired"))]
    Expired,
    #[snafu(display("it is not valid yet"))]
    NotYetValid,
    #[snafu(display("it is another person's"))]
    Subject,
    #[snafu(display("it belongs to another sign-in"))]
    Nonce,
    #[snafu(display("it belongs to another access token"))]
    AccessTokenHash,
    /// The token is valid, but the person may not enter.
    #[snafu(display("its person may not enter: {}", why.reason()))]
    NotAllowed { why: NotAllowed },
    #[snafu(display("{source}"))]
    Provider { source: ProviderError },
}

impl TokenError {
    /// Whether the token is as it should be, but its person is another one, or may not enter.
    pub fn is_about_person(&self) -> bool {
        matches!(self, Self::NotAllowed { .. } | Self::Subject)
    }

    /// The word for logs and audit lines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::AuthorizedParty => "authorized_party",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Subject => "subject",
            Self::Nonce => "nonce",
            Self::AccessTokenHash => "access_token_hash",
            Self::NotAllowed { why } => why.reason(),
            Self::Provider { .. } => "provider_unavailable",
        }
    }
}

/// What openidconnect does not read by itself.
#[derive(Debug, Deserialize, Serialize)]
struct MoreClaims {
    /// Seconds since 1970 (RFC 7519, section 4.1.5).
    #[serde(default)]
    nbf: Option<f64>,
}

impl AdditionalClaims for MoreClaims {}

type Token = IdToken<MoreClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;
type Claims = IdTokenClaims<MoreClaims, CoreGenderClaim>;

/// What a token must belong to.
pub(super) enum Origin<'a> {
    /// A sign-in of ours: its nonce, and the access token that came along.
    SignIn {
        nonce: &'a Nonce,
        access_token: &'a AccessToken,
    },
    /// A refresh, which has no nonce (OpenID Connect Core 1.0, section 12.2).
    Refresh { access_token: &'a AccessToken },
    /// An API client, which signed in by itself.
    Bearer,
}

impl Provider {
    /// Checks the ID token of an `Authorization: Bearer` header.
    ///
    /// # Errors
    /// When it is not one that this program may believe, or the provider's keys are not known yet.
    pub async fn verify_bearer(&self, token: &str) -> Result<Person, TokenError> {
        self.verify(token, &Origin::Bearer).await
    }

    pub(super) async fn verify(&self, token: &str, origin: &Origin<'_>) -> Result<Person, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let discovered = self.discovered().map_err(|source| TokenError::Provider { source })?;
        let text = token;
        let token = Token::from_str(text).map_err(|_| TokenError::Malformed)?;
        let claims = match self.check(&discovered, &token, origin) {
            Err(Unverified::UnknownKey) => {
                let refreshed = self.refresh_keys(&discovered).await;
                refreshed.map_err(|source| TokenError::Provider { source })?;
                self.check(&discovered, &token, origin)?
            }
            result => result?,
        };
        self.person(claims, &payload(text).ok_or(TokenError::Malformed)?)
    }

    fn check<'t>(
        &self,
        discovered: &Discovered,
        token: &'t Token,
        origin: &Origin<'_>,
    ) -> Result<&'t Claims, Unverified> {
        let settings = &self.settings;
        let now = self.clock.now();
        let skew = settings.clock_skew;
        // A configured issuer was parsed by discovery before there was anything to check here.
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|_| TokenError::Issuer)?;
        let keys = discovered.keys.load().as_ref().clone();
        let verifier = CoreIdTokenVerifier::new_public_client(ClientId::new(settings.audience.clone()), issuer, keys)
            .set_allowed_algs(ALGORITHMS)
            .set_other_audience_verifier_fn(|_| true)
            .set_time_fn(move || chrono_time(now, skew));
        let claims = match origin {
            Origin::SignIn { nonce, .. } => token.claims(&verifier, *nonce),
            Origin::Refresh { .. } | Origin::Bearer => token.claims(&verifier, |_: Option<&Nonce>| Ok(())),
        }
        .map_err(Unverified::from)?;
        self.check_parties(claims)?;
        check_times(claims, now, skew)?;
        if let Origin::SignIn { access_token, .. } | Origin::Refresh { access_token } = origin {
            check_access_token(token, &verifier, claims, access_token)?;
        }
        Ok(claims)
    }

    /// Who it is, unless they may not enter. `all` are the same claims, with those that the standard does not name.
    fn person(&self, claims: &Claims, all: &Map<String, Value>) -> Result<Person, TokenError> {
        let settings = &self.settings;
        entry::check(&settings.entry, &settings.groups_claim, all).map_err(|why| TokenError::NotAllowed { why })?;
        let claimed = all.get(&settings.groups_claim);
        // Nothing is decided by others, and a person can be in more than a cookie holds.
        let known = settings.known_groups.iter();
        let groups = known.filter(|group| entry::has_one_of(claimed, std::slice::from_ref(group)));
        Ok(Person {
            identity: Identity {
                issuer: claims.issuer().as_str().to_owned(),
                subject: subject(claims).ok_or(TokenError::Malformed)?,
            },
            email: email(claims),
            groups: groups.cloned().collect(),
            is_admin: entry::has_one_of(claimed, &settings.entry.admin_groups),
            provider_session: all
                .get("sid")
                .and_then(Value::as_str)
                .map(|sid| provider_session(&settings.issuer, sid)),
            issued: Timestamp::from_second(claims.issue_time().timestamp()).map_err(|_| TokenError::Malformed)?,
            expires: Timestamp::from_second(claims.expiration().timestamp())
                .and_then(|end| end.checked_add(settings.clock_skew))
                .map_err(|_| TokenError::Malformed)?,
        })
    }

    /// Whom the token is for. Other audiences beside ours must not make it someone else's token: then `azp` names us.
    fn check_parties(&self, claims: &Claims) -> Result<(), TokenError> {
        let settings = &self.settings;
        // openidconnect compares parsed URLs, but issuers are compared byte for byte.
        if claims.issuer().as_str() != settings.issuer {
            return Err(TokenError::Issuer);
        }
        let ours = |party: &str| party == settings.client_id || party == settings.audience;
        match claims.authorized_party() {
            Some(party) if !ours(party.as_str()) => Err(TokenError::AuthorizedParty),
            None if claims.audiences().iter().any(|audience| !ours(audience.as_str())) => {
                Err(TokenError::AuthorizedParty)
            }
            _ => Ok(()),
        }
    }
}

/// Why [`Provider::check`] found no person.
enum Unverified {
    /// The provider may have a new key.
    UnknownKey,
    Refused(TokenError),
}

impl From<TokenError> for Unverified {
    fn from(error: TokenError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unverified> for TokenError {
    fn from(error: Unverified) -> Self {
        match error {
            Unverified::UnknownKey => Self::Signature,
            Unverified::Refused(error) => error,
        }
    }
}

impl From<ClaimsVerificationError> for Unverified {
    fn from(error: ClaimsVerificationError) -> Self {
        Self::Refused(match error {
            ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
                return Self::UnknownKey;
            }
            ClaimsVerificationError::SignatureVerification(_) => TokenError::Signature,
            ClaimsVerificationError::Expired(_) => TokenError::Expired,
            ClaimsVerificationError::InvalidAudience(_) => TokenError::Audience,
            ClaimsVerificationError::InvalidIssuer(_) => TokenError::Issuer,
            ClaimsVerificationError::InvalidNonce(_) => TokenError::Nonce,
            _ => TokenError::Malformed,
        })
    }
}

/// `exp` is compared with a clock that is late by the skew.
fn chrono_time(now: Timestamp, skew: Duration) -> chrono::DateTime<chrono::Utc> {
    let late = now
        .as_second()
        .saturating_sub(i64::try_from(skew.as_secs()).unwrap_or(i64::MAX));
    chrono::DateTime::from_timestamp(late, 0).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
}

/// `nbf` and `iat` are compared with a clock that is early by the skew.
fn check_times(claims: &Claims, now: Timestamp, skew: Duration) -> Result<(), TokenError> {
    let early = now.as_second() as f64 + 1.0 + skew.as_secs_f64();
    let issued = claims.issue_time().timestamp() as f64;
    let not_before = claims.additional_claims().nbf.unwrap_or(issued);
    if issued > early || not_before > early || not_before.is_nan() {
        return Err(TokenError::NotYetValid);
    }
    Ok(())
}

/// `at_hash`, when the token has it (OpenID Connect Core 1.0, section 3.1.3.8).
fn check_access_token(
    token: &Token,
    verifier: &CoreIdTokenVerifier<'_>,
    claims: &Claims,
    access_token: &AccessToken,
) -> Result<(), TokenError> {
    let Some(expected) = claims.access_token_hash() else {
        return Ok(());
    };
    let algorithm = token.signing_alg().map_err(|_| TokenError::Signature)?;
    let key: &CoreJsonWebKey = token.signing_key(verifier).map_err(|_| TokenError::Signature)?;
    let found = AccessTokenHash::from_token(access_token, algorithm, key).map_err(|_| TokenError::AccessTokenHash)?;
    if found == *expected {
        Ok(())
    } else {
        Err(TokenError::AccessTokenHash)
    }
}

/// The claims of a token that was verified: its middle part (RFC 7519, section 3.1).
fn payload(token: &str) -> Option<Map<String, Value>> {
    let payload = token.split('.').nth(1)?;
    let Unique(claims) = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(claims)
}

/// Claims of which none is there twice (RFC 7519, section 4): one reader would go by the first, and another by the last.
pub(super) struct Unique(pub Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Claims;
        impl<'de> Visitor<'de> for Claims {
            type Value = Unique;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("claims, each of them once")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        // Not its name: errors hold nothing of a token.
                        return Err(de::Error::custom("a claim is there twice"));
                    }
                }
                Ok(Unique(claims))
            }
        }
        deserializer.deserialize_map(Claims)
    }
}

/// What a provider's session is called here: a hash, of which nobody learns what the provider calls it.
pub fn provider_session(issuer: &str, sid: &str) -> String {
    let hash = Sha256::digest(format!("{}:{issuer}{sid}", issuer.len()));
    HEXLOWER.encode(&hash[..16])
}

/// `sub` has 1 to 255 characters (OpenID Connect Core 1.0, section 2). Control characters would go into logs and objects.
fn subject(claims: &Claims) -> Option<String> {
    let subject = claims.subject().as_str();
    let is_usable = !subject.is_empty() && subject.chars().count() <= 255 && !subject.chars().any(char::is_control);
    is_usable.then(|| subject.to_owned())
}

fn email(claims: &Claims) -> String {
    let email = claims.email().map(|email| email.as_str()).unwrap_or_default();
    if email.len() <= 320 && !email.chars().any(char::is_control) {
        email.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
