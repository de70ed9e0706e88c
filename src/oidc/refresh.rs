//! A refresh token becomes the provider's word that a session still stands (OpenID Connect Core 1.0, section 12).

use super::provider::{Provider, ProviderError};
use super::sign_in::{error_of, known_error};
use super::verify::{Origin, Person, TokenError};
use crate::http_client::HttpError;
use crate::identity::Identity;
use openidconnect::{OAuth2TokenResponse, RefreshToken, TokenResponse};
use secrecy::{ExposeSecret, SecretString};
use snafu::Snafu;

/// What the provider said.
pub struct Refreshed {
    /// The token for the next time; the provider may have made a new one, and then the old one is used up.
    pub token: SecretString,
    /// Who it is now; `None` when the provider sent no ID token, as it may.
    pub person: Result<Option<Person>, TokenError>,
}

/// Why there is no answer to go on with.
#[derive(Debug, Snafu)]
pub enum RefreshError {
    /// The session is over: the token was revoked, or used up, or its user may no longer sign in.
    #[snafu(display("the provider refused the refresh token"))]
    Refused,
    #[snafu(display("{source}"), context(false))]
    Provider { source: ProviderError },
    #[snafu(display("can't ask the provider: {source}"))]
    Http { source: HttpError },
    /// `error` is one of RFC 6749's words, or `other`.
    #[snafu(display("the provider did not refresh a session: {error}"))]
    Other { error: &'static str },
}

impl RefreshError {
    /// Whether the provider may have answered, and made a new token that nobody has.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Http {
                source: HttpError::Timeout { .. } | HttpError::BrokenOff
            }
        )
    }
}

impl Provider {
    /// Asks whether the session of `identity` still stands.
    ///
    /// # Errors
    /// When the provider says no, or says nothing that can be used.
    pub async fn refresh(&self, token: &SecretString, identity: &Identity) -> Result<Refreshed, RefreshError> {
        let discovered = self.discovered()?;
        let client = self.client(&discovered.metadata);
        let old = RefreshToken::new(token.expose_secret().to_owned());
        let request = client
            .exchange_refresh_token(&old)
            .map_err(|_| ProviderError::Missing { name: "token_endpoint" })?;
        let answer = request
            .request_async(&self.tokens)
            .await
            .map_err(|error| match error_of(error) {
                Ok(answer) => match known_error(&answer) {
                    "invalid_grant" => RefreshError::Refused,
                    error => RefreshError::Other { error },
                },
                Err(Some(source)) => RefreshError::Http { source },
                Err(None) => RefreshError::Other { error: "malformed" },
            })?;
        let next = answer.refresh_token().unwrap_or(&old).secret().clone();
        let person = match answer.id_token() {
            None => Ok(None),
            Some(id_token) => {
                let origin = Origin::Refresh {
                    access_token: answer.access_token(),
                };
                let verified = self.verify(&id_token.to_string(), &origin).await;
                // Section 12.2: `sub` must be the same.
                match verified {
                    Ok(person) if person.identity != *identity => Err(TokenError::Subject),
                    verified => verified.map(Some),
                }
            }
        };
        Ok(Refreshed {
            token: next.into(),
            person,
        })
    }
}
