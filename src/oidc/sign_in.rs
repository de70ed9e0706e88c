//! A visitor becomes a redirect to the provider, and the code that they come back with a person.

use super::provider::{Discovered, Provider, ProviderError};
use super::verify::{Origin, Person, TokenError};
use crate::http_client::HttpError;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreErrorResponseType};
use openidconnect::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, ProviderMetadataWithLogout, RedirectUrl,
    RequestTokenError, Scope, StandardErrorResponse, TokenResponse,
};
use secrecy::{ExposeSecret, SecretString};
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

/// For a refresh token.
pub(super) const OFFLINE_ACCESS: &str = "offline_access";

/// Someone who came back from the provider.
pub struct SignedIn {
    pub person: Person,
    /// For asking later whether the session still stands, where the provider gives one.
    pub refresh_token: Option<SecretString>,
}

/// Why a sign-in did not end with a person.
#[derive(Debug, Snafu)]
pub enum SignInError {
    #[snafu(display("{source}"), context(false))]
    Provider { source: ProviderError },
    #[snafu(display("can't ask the provider: {source}"))]
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
    /// When the provider was not reached yet, or does not answer now.
    pub async fn start_sign_in(&self) -> Result<(Url, Attempt), ProviderError> {
        let discovered = self.discovered()?;
        self.reach(&discovered).await?;
        let metadata = &discovered.metadata;
        let client = self.client(metadata);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client.authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            CsrfToken::new_random,
            Nonce::new_random,
        );
        for scope in self.scopes(metadata) {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.set_pkce_challenge(challenge).url();
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
    pub async fn finish_sign_in(&self, code: String, attempt: Attempt) -> Result<SignedIn, SignInError> {
        let discovered = self.discovered()?;
        let Discovered { metadata, .. } = discovered.as_ref();
        let Attempt { nonce, verifier, .. } = attempt;
        let client = self.client(metadata);
        let request = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| ProviderError::Missing { name: "token_endpoint" })?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let answer = request
            .request_async(&self.tokens)
            .await
            .map_err(|error| match error_of(error) {
                Ok(answer) => SignInError::Refused {
                    error: known_error(&answer).to_owned(),
                },
                Err(Some(source)) => SignInError::Http { source },
                Err(None) => SignInError::Malformed,
            })?;
        let token = answer.id_token().context(NoIdTokenSnafu)?.to_string();
        let origin = Origin::SignIn {
            nonce: &Nonce::new(nonce),
            access_token: answer.access_token(),
        };
        Ok(SignedIn {
            person: self.verify(&token, &origin).await.context(TokenSnafu)?,
            refresh_token: answer.refresh_token().map(|token| token.secret().clone().into()),
        })
    }

    /// What to ask for beside `openid`. `offline_access` only where the provider knows it (OpenID Connect Core 1.0, section 11): others
    /// would refuse the whole request.
    fn scopes<'a>(&'a self, metadata: &'a ProviderMetadataWithLogout) -> impl Iterator<Item = &'a String> {
        let knows_offline = metadata
            .scopes_supported()
            .is_some_and(|scopes| scopes.iter().any(|scope| scope.as_str() == OFFLINE_ACCESS));
        let scopes = self.settings.scopes.iter();
        scopes.filter(move |scope| knows_offline || *scope != OFFLINE_ACCESS)
    }

    /// The issuer that answers must name, when they name one (RFC 9207).
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// How far the provider's clock may be off.
    pub fn clock_skew(&self) -> std::time::Duration {
        self.settings.clock_skew
    }

    pub(super) fn client(&self, metadata: &ProviderMetadataWithLogout) -> Client {
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

/// What the token endpoint answered that is no token: its error, or why there is no answer that can be read.
pub(super) fn error_of(
    error: RequestTokenError<HttpError, StandardErrorResponse<CoreErrorResponseType>>,
) -> Result<String, Option<HttpError>> {
    match error {
        RequestTokenError::ServerResponse(answer) => Ok(answer.error().as_ref().to_owned()),
        RequestTokenError::Request(source) => Err(Some(source)),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => Err(None),
    }
}

/// The words of RFC 6749, section 5.2.
pub(super) fn known_error(error: &str) -> &'static str {
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
