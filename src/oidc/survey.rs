//! A provider is asked, before anybody signs in, what it can do and whether it knows the gateway: nobody's name or password is needed.
//!
//! The discovery document and the keys are read as they are, without the rules of `provider`, so that what is wrong can be told apart.

use super::http::LIMITS;
use super::verify::ALGORITHMS;
use crate::config::gateway::OidcConfig;
use crate::config::syntax::is_secure;
use crate::http_client::{self, HttpClient, HttpError};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use openidconnect::core::CoreJwsSigningAlgorithm;
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use std::collections::BTreeMap;
use url::Url;
use url::form_urlencoded;

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// No provider has given it out.
const NO_CODE: &str = "devplane-doctor";
/// Of the right form (RFC 7636, section 4.1), and no secret: no code belongs to it.
const VERIFIER: &str = "devplane-doctor-devplane-doctor-devplane-doctor";
/// What a provider answers that would have to show a page, though it must not (OpenID Connect Core 1.0, section 3.1.2.6).
const NEEDS_A_PAGE: [&str; 4] = [
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
];

/// Why something is not known. Holds no secret.
#[derive(Debug, Snafu)]
pub enum SurveyError {
    #[snafu(display("{url}: {source}"))]
    Http { url: String, source: HttpError },
    #[snafu(display("{url} answers with the HTTP status {status}"))]
    Status { url: String, status: StatusCode },
    #[snafu(display("{url} sends elsewhere (HTTP status {status}), which is not followed"))]
    Redirect { url: String, status: StatusCode },
    #[snafu(display("what {url} answers is no {what} in JSON"))]
    Malformed { url: String, what: &'static str },
    #[snafu(display("{url} is no https URL"))]
    Insecure { url: String },
}

/// What the discovery document says (OpenID Connect Discovery 1.0, section 3), with the defaults for what it leaves out.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    pub issuer: String,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: Option<String>,
    pub jwks_uri: Option<String>,
    #[serde(default)]
    pub response_types_supported: Vec<String>,
    #[serde(default = "default_grant_types")]
    pub grant_types_supported: Vec<String>,
    /// RFC 8414, section 2: without it there is no PKCE, as far as the provider tells.
    #[serde(default)]
    pub code_challenge_methods_supported: Vec<String>,
    pub scopes_supported: Option<Vec<String>>,
    #[serde(default)]
    pub id_token_signing_alg_values_supported: Vec<String>,
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// OpenID Connect Back-Channel Logout 1.0, section 2.1.
    #[serde(default)]
    pub backchannel_logout_supported: bool,
}

fn default_grant_types() -> Vec<String> {
    vec!["authorization_code".to_owned(), "implicit".to_owned()]
}

/// The document, and what time it was at the provider.
#[derive(Clone, Debug)]
pub struct Discovered {
    pub document: Document,
    /// By the answer's `Date` (RFC 9110, section 6.6.1), in whole seconds.
    pub date: Option<Timestamp>,
}

/// One key of the key set (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Key {
    pub kty: String,
    #[serde(default)]
    pub crv: Option<String>,
    #[serde(default)]
    pub alg: Option<String>,
    #[serde(default, rename = "use")]
    pub purpose: Option<String>,
}

/// Whether the provider takes the gateway for the client that it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAnswer {
    Accepted,
    /// The provider's word for why not.
    Refused {
        error: String,
    },
    /// It says neither.
    Unclear {
        what: String,
    },
}

/// What becomes of a sign-in before its page is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInAnswer {
    /// It would come back to the gateway.
    Ready,
    /// It comes back at once, with an error.
    Refused {
        error: String,
        description: String,
    },
    /// The provider does not send the browser back: it does not know the redirect URL.
    NotSentBack {
        status: StatusCode,
    },
    Unclear {
        what: String,
    },
}

impl Document {
    /// The algorithms for ID tokens that this program believes.
    pub fn usable_algorithms(&self) -> Vec<&str> {
        let all = self.id_token_signing_alg_values_supported.iter();
        all.map(String::as_str).filter(|name| is_usable(name)).collect()
    }

    /// Whether it can be told that a scope is known; `None` when the provider does not list scopes.
    pub fn knows_scope(&self, scope: &str) -> Option<bool> {
        let scopes = self.scopes_supported.as_ref()?;
        Some(scopes.iter().any(|known| known == scope))
    }
}

impl Key {
    /// Whether an ID token that is signed with it can be believed: an asymmetric key, of a kind that is known, for signatures.
    pub fn is_usable(&self) -> bool {
        let kind = matches!(
            (self.kty.as_str(), self.crv.as_deref()),
            ("RSA", _) | ("EC", Some("P-256" | "P-384")) | ("OKP", Some("Ed25519"))
        );
        kind && self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.alg.as_deref().is_none_or(is_usable)
    }
}

fn is_usable(algorithm: &str) -> bool {
    let parsed: Result<CoreJwsSigningAlgorithm, _> = serde_json::from_value(Value::from(algorithm));
    parsed.is_ok_and(|algorithm| ALGORITHMS.contains(&algorithm))
}

/// A request, unless its address or headers are none.
type Asking = Result<Request<Full<Bytes>>, http::Error>;

/// Asks one provider.
pub struct Survey {
    http: HttpClient,
    settings: OidcConfig,
}

impl Survey {
    pub fn new(settings: OidcConfig, tls: ClientConfig) -> Self {
        Self {
            http: HttpClient::new(tls, LIMITS),
            settings,
        }
    }

    /// Where the discovery document is (OpenID Connect Discovery 1.0, section 4.1).
    pub fn discovery_url(&self) -> String {
        format!("{}{WELL_KNOWN}", self.settings.issuer.trim_end_matches('/'))
    }

    /// # Errors
    /// When there is no discovery document.
    pub async fn discover(&self) -> Result<Discovered, SurveyError> {
        let (document, headers) = self.document(&self.discovery_url(), "discovery document").await?;
        Ok(Discovered {
            document,
            date: http_client::date(&headers),
        })
    }

    /// The keys for ID tokens.
    ///
    /// # Errors
    /// When there is no key set.
    pub async fn keys(&self, jwks_uri: &str) -> Result<Vec<Key>, SurveyError> {
        #[derive(Deserialize)]
        struct KeySet {
            keys: Vec<Value>,
        }
        let (set, _): (KeySet, _) = self.document(jwks_uri, "key set").await?;
        // One that can't be read is one that can't be used (RFC 7517, section 5).
        Ok(set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .collect())
    }

    /// Shows the client secret with a code that nobody has given out: who is not known hears that first (RFC 6749, section 5.2).
    ///
    /// # Errors
    /// When the provider does not answer, or would have to be told the secret in the clear.
    pub async fn try_client(&self, document: &Document) -> Result<ClientAnswer, SurveyError> {
        let url = secure(document.token_endpoint.as_deref().unwrap_or_default())?;
        let request = self.client_request(&url, document)?;
        let answer = self.ask(&url, request).await?;
        Ok(client_answer(answer.status(), answer.body()))
    }

    fn client_request(&self, url: &Url, document: &Document) -> Result<Asking, SurveyError> {
        let OidcConfig {
            client_id,
            client_secret,
            redirect_url,
            ..
        } = &self.settings;
        let secret = client_secret.expose_secret();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", NO_CODE)
            .append_pair("redirect_uri", redirect_url.as_str())
            .append_pair("code_verifier", VERIFIER);
        let methods = document.token_endpoint_auth_methods_supported.as_ref();
        let basic = methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        let mut request = Request::post(url.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if basic {
            // Each encoded as in a form (RFC 6749, section 2.3.1).
            let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(secret)));
            let value = HeaderValue::from_str(&format!("Basic {pair}")).ok();
            let mut value = value.context(InsecureSnafu { url: url.as_str() })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        } else {
            form.append_pair("client_id", client_id)
                .append_pair("client_secret", secret);
        }
        Ok(request.body(Full::from(form.finish())))
    }

    /// Begins a sign-in that may not show a page (`prompt=none`): where it leads tells whether the redirect URL is registered.
    ///
    /// # Errors
    /// When the provider does not answer.
    pub async fn try_sign_in(&self, document: &Document) -> Result<SignInAnswer, SurveyError> {
        let mut url = secure(document.authorization_endpoint.as_deref().unwrap_or_default())?;
        let OidcConfig {
            client_id,
            redirect_url,
            scopes,
            ..
        } = &self.settings;
        let known = scopes.iter().filter(|scope| {
            // As a sign-in does it.
            *scope != super::sign_in::OFFLINE_ACCESS || document.knows_scope(scope) == Some(true)
        });
        let scopes: Vec<_> = std::iter::once("openid").chain(known.map(String::as_str)).collect();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", client_id)
            .append_pair("redirect_uri", redirect_url.as_str())
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", NO_CODE)
            .append_pair("nonce", NO_CODE)
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER)))
            .append_pair("code_challenge_method", "S256")
            .append_pair("prompt", "none");
        let request = Request::get(url.as_str())
            .header(ACCEPT, "text/html")
            .body(Full::default());
        let answer = self.ask(&url, request).await?;
        let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| url.join(location).ok());
        Ok(sign_in_answer(answer.status(), location.as_ref(), redirect_url))
    }

    async fn document<T: DeserializeOwned>(
        &self,
        url: &str,
        what: &'static str,
    ) -> Result<(T, HeaderMap), SurveyError> {
        let parsed = secure(url)?;
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .body(Full::default());
        let answer = self.ask(&parsed, request).await?;
        let status = answer.status();
        ensure!(!status.is_redirection(), RedirectSnafu { url, status });
        ensure!(status == StatusCode::OK, StatusSnafu { url, status });
        let (head, body) = answer.into_parts();
        let document = serde_json::from_slice(&body).ok();
        Ok((document.context(MalformedSnafu { url, what })?, head.headers))
    }

    async fn ask(&self, url: &Url, request: Asking) -> Result<Response<Bytes>, SurveyError> {
        // Not its query: it is long, and says nothing.
        let shown = url.as_str().split('?').next().unwrap_or_default();
        let request = request.ok().context(InsecureSnafu { url: shown })?;
        self.http.ask(request).await.context(HttpSnafu { url: shown })
    }
}

fn secure(url: &str) -> Result<Url, SurveyError> {
    let parsed = Url::parse(url).ok().filter(is_secure);
    parsed.context(InsecureSnafu { url })
}

fn client_answer(status: StatusCode, body: &[u8]) -> ClientAnswer {
    let error = serde_json::from_slice::<Value>(body).ok();
    let error = error.as_ref().and_then(|answer| answer["error"].as_str()).map(word);
    match error.as_deref() {
        Some("invalid_grant") => ClientAnswer::Accepted,
        Some(error @ ("invalid_client" | "unauthorized_client")) => ClientAnswer::Refused {
            error: error.to_owned(),
        },
        Some(error) => ClientAnswer::Unclear {
            what: format!("the error {error}"),
        },
        None if status == StatusCode::UNAUTHORIZED => ClientAnswer::Refused {
            error: format!("HTTP status {status}"),
        },
        None => ClientAnswer::Unclear {
            what: format!("the HTTP status {status}"),
        },
    }
}

fn sign_in_answer(status: StatusCode, location: Option<&Url>, redirect_url: &Url) -> SignInAnswer {
    let Some(location) = location.filter(|_| status.is_redirection()) else {
        return if status.is_client_error() {
            SignInAnswer::NotSentBack { status }
        } else {
            SignInAnswer::Unclear {
                what: format!("the HTTP status {status}"),
            }
        };
    };
    let mut plain = location.clone();
    plain.set_query(None);
    plain.set_fragment(None);
    if plain != *redirect_url {
        return SignInAnswer::Unclear {
            what: format!("a way on to {}", plain.origin().ascii_serialization()),
        };
    }
    let parameters: BTreeMap<_, _> = location.query_pairs().collect();
    match parameters.get("error").map(|error| word(error)) {
        // Whoever is not signed in can't be given a code; but then it would have been sent here, too.
        None => SignInAnswer::Ready,
        Some(error) if NEEDS_A_PAGE.contains(&error.as_str()) => SignInAnswer::Ready,
        Some(error) => SignInAnswer::Refused {
            error,
            description: parameters
                .get("error_description")
                .map(|text| shown(text))
                .unwrap_or_default(),
        },
    }
}

/// Someone else's word for an error (RFC 6749, section 5.2), short and without what a terminal would act on.
fn word(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
        .take(60)
        .collect()
}

fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_asymmetric_keys_for_signatures_are_of_use() {
        let usable = |key: Value| serde_json::from_value::<Key>(key).unwrap().is_usable();
        for key in [
            json!({"kty": "RSA", "alg": "RS256", "use": "sig"}),
            json!({"kty": "RSA"}),
            json!({"kty": "EC", "crv": "P-256"}),
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA"}),
        ] {
            assert!(usable(key.clone()), "{key}");
        }
        for key in [
            json!({"kty": "oct", "alg": "HS256"}),
            json!({"kty": "RSA", "use": "enc"}),
            json!({"kty": "RSA", "alg": "RSA-OAEP"}),
            json!({"kty": "EC", "crv": "secp256k1"}),
            json!({"kty": "EC"}),
        ] {
            assert!(!usable(key.clone()), "{key}");
        }
    }

    #[test]
    fn the_document_has_the_defaults_of_the_specification() {
        let document: Document = serde_json::from_value(json!({"issuer": "https://idp.test"})).unwrap();
        assert_eq!(document.grant_types_supported, ["authorization_code", "implicit"]);
        assert_eq!(document.knows_scope("offline_access"), None);
        assert!(!document.backchannel_logout_supported && document.usable_algorithms().is_empty());
        let algorithms = json!({"issuer": "x", "id_token_signing_alg_values_supported": ["HS256", "none", "PS256", "EdDSA", "ES256K"]});
        let document: Document = serde_json::from_value(algorithms).unwrap();
        assert_eq!(document.usable_algorithms(), ["PS256", "EdDSA"]);
    }

    #[test]
    fn what_the_token_endpoint_says_of_a_client() {
        let of = |status: u16, body: &str| client_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(of(400, r#"{"error":"invalid_grant"}"#), ClientAnswer::Accepted);
        for (status, word) in [(401, "invalid_client"), (400, "unauthorized_client")] {
            let answer = of(status, &json!({ "error": word }).to_string());
            assert_eq!(answer, ClientAnswer::Refused { error: word.into() });
        }
        assert!(matches!(of(401, "<html>"), ClientAnswer::Refused { .. }));
        for (status, body) in [
            (400, r#"{"error":"invalid_request"}"#),
            (502, "x"),
            (200, "{}"),
            (400, r#"{"error":1}"#),
        ] {
            assert!(matches!(of(status, body), ClientAnswer::Unclear { .. }), "{body}");
        }
        let unclear = ClientAnswer::Unclear {
            what: "the error x1bevil".into(),
        };
        assert_eq!(of(400, r#"{"error":"x\u001b1b evil"}"#), unclear);
    }

    #[test]
    fn where_a_sign_in_leads() {
        let redirect: Url = "https://dev.corp/callback".parse().unwrap();
        let of = |status: u16, location: Option<&str>| {
            let location = location.map(|location| location.parse().unwrap());
            sign_in_answer(StatusCode::from_u16(status).unwrap(), location.as_ref(), &redirect)
        };
        let back = |query: &str| of(303, Some(&format!("https://dev.corp/callback?{query}")));
        assert_eq!(back("error=login_required&state=x"), SignInAnswer::Ready);
        assert_eq!(back("code=x"), SignInAnswer::Ready);
        let refused = SignInAnswer::Refused {
            error: "invalid_scope".into(),
            description: "no groups".into(),
        };
        assert_eq!(back("error=invalid_scope&error_description=no+groups"), refused);
        assert!(matches!(of(400, None), SignInAnswer::NotSentBack { .. }));
        for (status, location) in [
            (302, Some("https://dev.corp.evil/callback?error=login_required")),
            (302, Some("https://idp.corp/login")),
            (200, None),
            (302, None),
            (503, None),
        ] {
            assert!(
                matches!(of(status, location), SignInAnswer::Unclear { .. }),
                "{status} {location:?}"
            );
        }
    }
}
