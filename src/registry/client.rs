//! A registry is asked whether it has an image: its manifest, and of an image that stands alone its configuration.
//!
//! It is asked as a node would: without a login first, then with each that fits. A registry may send to a token server elsewhere
//! (its `realm`), as nodes follow too, but only over https. Redirects are not followed.

use super::challenge::Challenge;
use super::credentials::Login;
use super::manifest::{ACCEPTED, Document, architecture};
use super::reference::Reference;
use crate::http_client::{DEFAULT_LIMITS, HttpClient, HttpError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha512};
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use std::collections::BTreeSet;
use url::Url;

/// What a registry has of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of what the name means now.
    pub digest: String,
    /// For which it is there, as Go and Nodes call them. `None` when the registry does not say without being followed elsewhere.
    pub architectures: Option<BTreeSet<String>>,
    /// The Secret whose login was used, when one was needed.
    pub secret: Option<String>,
}

impl Found {
    /// Those of `wanted` that a node would not get it for.
    pub fn lacks<'a>(&'a self, wanted: &'a BTreeSet<String>) -> Vec<&'a str> {
        let Some(architectures) = &self.architectures else {
            return vec![];
        };
        wanted.difference(architectures).map(String::as_str).collect()
    }
}

/// How far one gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// To an answer of the registry.
    Reach,
    /// To be let in.
    SignIn,
    /// To the image.
    Find,
}

/// Why it is not known that an image is there. Holds no password and no token.
#[derive(Debug, Snafu)]
pub enum RegistryError {
    #[snafu(display("the name has no registry"))]
    NoRegistry,
    #[snafu(display("{url} is no address that can be asked"))]
    Address { url: String },
    #[snafu(display("registry {registry}: {source}"))]
    Unreachable { registry: String, source: HttpError },
    #[snafu(display(
        "registry {registry} answers with the HTTP status {status}, which is no answer of the distribution API"
    ))]
    Status { registry: String, status: StatusCode },
    #[snafu(display("registry {registry} asks to come back later (HTTP status 429)"))]
    Busy { registry: String },
    #[snafu(display("registry {registry} wants a login in a way that is neither Basic nor Bearer"))]
    Challenge { registry: String },
    #[snafu(display(
        "registry {registry} sends to the token server {realm}, which is not https: no login is sent there"
    ))]
    Realm { registry: String, realm: String },
    #[snafu(display("the token server {realm} of registry {registry}: {source}"))]
    TokenServer {
        registry: String,
        realm: String,
        source: HttpError,
    },
    #[snafu(display("the token server {realm} of registry {registry} gives no token (HTTP status {status})"))]
    NoToken {
        registry: String,
        realm: String,
        status: StatusCode,
    },
    #[snafu(display("registry {registry} wants a login, and there is none for it"))]
    NoCredentials { registry: String },
    #[snafu(display("registry {registry} does not let in {who}"))]
    Refused { registry: String, who: String },
    #[snafu(display("registry {registry} has nothing under {repository} {version}"))]
    NotFound {
        registry: String,
        repository: String,
        version: String,
    },
    #[snafu(display(
        "what registry {registry} has under {repository} {version} is neither an image nor an index of images"
    ))]
    Malformed {
        registry: String,
        repository: String,
        version: String,
    },
    #[snafu(display("what registry {registry} gave under {repository} has the digest {found}, not {expected}"))]
    Mismatch {
        registry: String,
        repository: String,
        expected: String,
        found: String,
    },
}

impl RegistryError {
    /// Where it ended.
    pub fn stage(&self) -> Stage {
        match self {
            Self::NoRegistry
            | Self::Address { .. }
            | Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::Busy { .. } => Stage::Reach,
            Self::Challenge { .. }
            | Self::Realm { .. }
            | Self::TokenServer { .. }
            | Self::NoToken { .. }
            | Self::NoCredentials { .. }
            | Self::Refused { .. } => Stage::SignIn,
            Self::NotFound { .. } | Self::Malformed { .. } | Self::Mismatch { .. } => Stage::Find,
        }
    }

    /// What TLS found wrong with the registry, where it was that.
    pub fn tls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Unreachable { source, .. } | Self::TokenServer { source, .. } => source.tls(),
            _ => None,
        }
    }
}

/// Asks registries.
pub struct RegistryClient {
    http: HttpClient,
    plain: BTreeSet<String>,
}

/// The answer of a token server: one of the two (`distribution`'s token specification).
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl RegistryClient {
    /// `plain` are the registries, as `host:port`, that are asked over http.
    pub fn new(tls: ClientConfig, plain: BTreeSet<String>) -> Self {
        Self {
            http: HttpClient::new(tls, DEFAULT_LIMITS),
            plain,
        }
    }

    /// What the registry has under a name. `wanted` are the architectures for which an index must not only list an image, but have it.
    ///
    /// # Errors
    /// When it can't be reached, lets nobody in, or has nothing.
    pub async fn find(
        &self,
        image: &Reference,
        logins: &[&Login],
        wanted: &BTreeSet<String>,
    ) -> Result<Found, RegistryError> {
        let registry = image.registry.as_deref().context(NoRegistrySnafu)?;
        let mut asking = Asking {
            client: self,
            registry,
            repository: &image.repository,
            version: image.version(),
            authorization: None,
        };
        let mut answer = asking.manifest(&Method::GET, asking.version).await?;
        let mut secret = None;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let challenge = Challenge::of(answer.headers()).context(ChallengeSnafu { registry })?;
            (answer, secret) = asking.let_in(&challenge, logins).await?;
        }
        let digest = asking.whole(&answer)?;
        let architectures = asking.architectures(answer.body(), wanted).await?;
        Ok(Found {
            digest,
            architectures,
            secret,
        })
    }
}

/// Questions about one image.
struct Asking<'a> {
    client: &'a RegistryClient,
    registry: &'a str,
    repository: &'a str,
    version: &'a str,
    authorization: Option<HeaderValue>,
}

impl Asking<'_> {
    /// Tries each login, as a node does; none at all where there is none.
    async fn let_in(
        &mut self,
        challenge: &Challenge,
        logins: &[&Login],
    ) -> Result<(Response<Bytes>, Option<String>), RegistryError> {
        let registry = self.registry;
        let tries = logins.iter().map(|login| Some(*login));
        let tries: Vec<_> = if logins.is_empty() { vec![None] } else { tries.collect() };
        for login in tries {
            let Some(authorization) = self.authorization(challenge, login).await? else {
                continue;
            };
            self.authorization = Some(authorization);
            let answer = self.manifest(&Method::GET, self.version).await?;
            if !matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                return Ok((answer, login.map(|login| login.secret.clone())));
            }
        }
        let who: Vec<_> = logins
            .iter()
            .map(|login| format!("{} of Secret {}", login.username, login.secret))
            .collect();
        ensure!(!who.is_empty(), NoCredentialsSnafu { registry });
        RefusedSnafu {
            registry,
            who: who.join(", nor "),
        }
        .fail()
    }

    /// The header by which a login is shown; `None` when there is nobody to be, or the token server knows nobody of that name.
    async fn authorization(
        &self,
        challenge: &Challenge,
        login: Option<&Login>,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let basic = login.map(|login| {
            let pair = format!("{}:{}", login.username, login.password.expose_secret());
            secret_header(&format!("Basic {}", STANDARD.encode(pair)))
        });
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Ok(basic.flatten());
        };
        let registry = self.registry;
        let is_plain = self.client.plain.contains(registry);
        ensure!(
            realm.scheme() == "https" || (realm.scheme() == "http" && is_plain),
            RealmSnafu {
                registry,
                realm: realm.as_str()
            }
        );
        let mut url = realm.clone();
        let whole = format!("repository:{}:pull", self.repository);
        url.query_pairs_mut()
            .extend_pairs(service.iter().map(|service| ("service", service)))
            .append_pair("scope", scope.as_ref().unwrap_or(&whole));
        let answer = self
            .ask(&Method::GET, &url, "application/json", basic.flatten())
            .await?;
        let realm = realm.as_str();
        let answer = answer.context(TokenServerSnafu { registry, realm })?;
        let status = answer.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Ok(None);
        }
        let given = (status == StatusCode::OK)
            .then(|| serde_json::from_slice::<Token>(answer.body()).ok())
            .flatten();
        let given = given.context(NoTokenSnafu {
            registry,
            realm,
            status,
        })?;
        let token = [given.token, given.access_token]
            .into_iter()
            .find(|token| !token.is_empty());
        let header = token.and_then(|token| secret_header(&format!("Bearer {token}")));
        header.map(Some).context(NoTokenSnafu {
            registry,
            realm,
            status,
        })
    }

    /// The digest of a manifest that is the one that was asked for.
    fn whole(&self, answer: &Response<Bytes>) -> Result<String, RegistryError> {
        let &Self {
            registry,
            repository,
            version,
            ..
        } = self;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return NotFoundSnafu {
                    registry,
                    repository,
                    version,
                }
                .fail();
            }
            StatusCode::FORBIDDEN => return NoCredentialsSnafu { registry }.fail(),
            StatusCode::TOO_MANY_REQUESTS => return BusySnafu { registry }.fail(),
            status => return StatusSnafu { registry, status }.fail(),
        }
        let body = answer.body();
        let found = match version.split_once(':') {
            Some(("sha512", _)) => format!("sha512:{}", HEXLOWER.encode(&Sha512::digest(body))),
            _ => format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(body))),
        };
        let is_tag = !version.contains(':');
        ensure!(
            is_tag || found == version,
            MismatchSnafu {
                registry,
                repository,
                expected: version,
                found
            }
        );
        Ok(found)
    }

    async fn architectures(
        &self,
        manifest: &[u8],
        wanted: &BTreeSet<String>,
    ) -> Result<Option<BTreeSet<String>>, RegistryError> {
        let &Self {
            registry,
            repository,
            version,
            ..
        } = self;
        let malformed = || MalformedSnafu {
            registry,
            repository,
            version,
        };
        let config = match Document::read(manifest).with_context(malformed)? {
            Document::Image { config } => config,
            Document::Index(variants) => {
                let mut there = BTreeSet::new();
                for variant in variants {
                    // A mirror may have the index, but not all that it lists.
                    let status = match wanted.contains(&variant.architecture) {
                        true => self.manifest(&Method::HEAD, &variant.digest).await?.status(),
                        false => StatusCode::OK,
                    };
                    match status {
                        StatusCode::OK => {
                            there.insert(variant.architecture);
                        }
                        StatusCode::NOT_FOUND => {}
                        status => return StatusSnafu { registry, status }.fail(),
                    }
                }
                return Ok(Some(there));
            }
        };
        let url = self.address(&format!("blobs/{config}"))?;
        let answer = self.ask(&Method::GET, &url, "*/*", self.authorization.clone()).await?;
        let answer = answer.context(UnreachableSnafu { registry })?;
        match answer.status() {
            StatusCode::OK => {
                let named = architecture(answer.body()).with_context(malformed)?;
                Ok(Some(BTreeSet::from([named])))
            }
            status if status.is_redirection() => Ok(None),
            status => StatusSnafu { registry, status }.fail(),
        }
    }

    async fn manifest(&self, method: &Method, version: &str) -> Result<Response<Bytes>, RegistryError> {
        let url = self.address(&format!("manifests/{version}"))?;
        let answer = self.ask(method, &url, ACCEPTED, self.authorization.clone()).await?;
        answer.context(UnreachableSnafu {
            registry: self.registry,
        })
    }

    fn address(&self, path: &str) -> Result<Url, RegistryError> {
        let is_plain = self.client.plain.contains(self.registry);
        let scheme = if is_plain { "http" } else { "https" };
        let url = format!("{scheme}://{}/v2/{}/{path}", self.registry, self.repository);
        Url::parse(&url).ok().context(AddressSnafu { url })
    }

    async fn ask(
        &self,
        method: &Method,
        url: &Url,
        accept: &'static str,
        authorization: Option<HeaderValue>,
    ) -> Result<Result<Response<Bytes>, HttpError>, RegistryError> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(ACCEPT, accept)
            .body(Full::default())
            .ok()
            .context(AddressSnafu { url: url.as_str() })?;
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        Ok(self.client.http.ask(request).await)
    }
}

/// One that is not shown when it is printed.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
