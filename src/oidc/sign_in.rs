//! A visitor becomes a redirect to the provider, and the code that they come back with a person.

use super::http::HttpError;
use super::provider::{Discovered, Provider, ProviderError};
use super::verify::{Origin, Person, TokenError};
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod};
use openidconnect::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    TokenResponse,
};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use snafu::{OptionExt, ResultExt, Snafu};
use url::Url;

/// What binds the answer of the provider to the browser that was sent there. Kept by that browser, encrypted.
#[derive(Deserialize, Serialize)]
pub struct Attempt {
    /// Comes back with the code (RFC 6749, section 10.12).
    pub state: String,
    /// Comes back in the ID token (OpenID Connect Core 1.0, section 3.1.2.1).
    nonce: String,
    /// Proves to the provider who asked (RFC 7636).
    verifier: String,
}

/// Why a sign-in did not end with a person.
#[derive(Debug, Snafu)]
pub enum SignInError {
    #[snafu(display("{source}"), context(false))]
    Provider { source: ProviderError },
    #[snafu(display("{source}"))]
    Http { source: HttpError },
    /// `error` is one of RFC 6749's words, or `other`: never free text of the provider.
    #[snafu(display("the provider refused the code: {error}"))]
    Refused { error: String },
    #[snafu(display("the provider's answer to the code can't be read"))]
    Malformed,
    #[snafu(display("the provider sent no ID token; the client must be allowed the scope openid"))]
    NoIdToken,
    #[snafu(display("the provider's ID token is not valid: {source}"))]
    Token { source: TokenError },
}

impl SignInError {
    /// Whether the provider could not be reached, so that trying again later may help.
    pub fn is_provider_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Provider { .. }
                | Self::Http { .. }
                | Self::Token {
                    source: TokenError::Provider { .. }
                }
        )
    }

    /// The word for logs and audit lines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Provider { .. } | Self::Http { .. } => "provider_unavailable",
            Self::Refused { .. } => "code_refused",
            Self::Malformed => "malformed_answer",
            Self::NoIdToken => "no_id_token",
            Self::Token { source } => source.reason(),
        }
    }
}

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

impl Provider {
    /// Where to send a browser, and what it must keep for the way back.
    ///
    /// # Errors
    /// When the provider was not reached yet.
    pub fn start_sign_in(&self) -> Result<(Url, Attempt), ProviderError> {
        let client = self.client(&self.discovered()?.as_ref().metadata);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        let attempt = Attempt {
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        };
        Ok((url, attempt))
    }

    /// Exchanges a code and checks the ID token that it gives.
    ///
    /// # Errors
    /// When the provider refuses the code or can't be reached, or its token is not valid.
    pub async fn finish_sign_in(&self, code: String, attempt: Attempt) -> Result<Person, SignInError> {
        let discovered = self.discovered()?;
        let Discovered { metadata, .. } = discovered.as_ref();
        let Attempt { nonce, verifier, .. } = attempt;
        let client = self.client(metadata);
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| ProviderError::Missing { name: "token_endpoint" })?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let answer = request.request_async(&self.http).await.map_err(|error| match error {
            RequestTokenError::Request(source) => SignInError::Http { source },
            RequestTokenError::ServerResponse(answer) => SignInError::Refused {
                error: known_error(answer.error().as_ref()).to_owned(),
            },
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => SignInError::Malformed,
        })?;
        let token = answer.id_token().context(NoIdTokenSnafu)?.to_string();
        let origin = Origin::SignIn {
            nonce: &Nonce::new(nonce),
            access_token: answer.access_token(),
        };
        self.verify(&token, &origin).await.context(TokenSnafu)
    }

    /// The issuer that answers must name, when they name one (RFC 9207).
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    fn client(&self, metadata: &openidconnect::core::CoreProviderMetadata) -> Client {
        let settings = &self.settings;
        let methods = metadata.token_endpoint_auth_methods_supported();
        // Without the list it is HTTP Basic (OpenID Connect Discovery 1.0, section 3).
        let basic = methods.is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        CoreClient::from_provider_metadata(
            metadata.clone(),
            ClientId::new(settings.client_id.clone()),
            Some(ClientSecret::new(settings.client_secret.expose_secret().to_owned())),
        )
        .set_auth_type(if basic {
            AuthType::BasicAuth
        } else {
            AuthType::RequestBody
        })
        .set_redirect_uri(RedirectUrl::from_url(settings.redirect_url.clone()))
    }
}

/// The words of RFC 6749, section 5.2.
fn known_error(error: &str) -> &'static str {
    const KNOWN: [&str; 6] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ];
    KNOWN.into_iter().find(|known| *known == error).unwrap_or("other")
}
