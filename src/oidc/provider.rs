//! An issuer's address becomes what is needed to talk to it: its endpoints and its signing keys.

use super::http::ProviderClient;
use crate::clock::Clock;
use crate::config::gateway::OidcConfig;
use crate::config::syntax::is_secure;
use crate::http_client::HttpError;
use arc_swap::{ArcSwap, ArcSwapOption};
use openidconnect::core::CoreJsonWebKeySet;
use openidconnect::{DiscoveryError, IssuerUrl, ProviderMetadataWithLogout};
use rustls::ClientConfig;
use snafu::{OptionExt, Snafu, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// Everything is discovered again this often, so that a key that the provider withdrew stops being believed.
const DISCOVER_EVERY: Duration = Duration::from_secs(3600);
/// After a failed discovery: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A token with an unknown key has the keys fetched again, but not more often than this: anyone can send such tokens.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// Before a browser is sent there, the provider has answered this short a time ago, or does so in this time.
const REACHED_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
const REACHED_WITHIN: Duration = Duration::from_secs(3);

/// Why the provider can't be used.
#[derive(Debug, Snafu)]
pub enum ProviderError {
    #[snafu(display("the provider was not reached yet; sign-in works once it answers"))]
    NotDiscovered,
    #[snafu(display("the issuer {issuer} is no URL"))]
    Issuer { issuer: String },
    #[snafu(display("can't ask the provider: {source}"))]
    Http { source: HttpError },
    #[snafu(display(
        "the discovery document is another issuer's: {reason}: set OIDC_ISSUER_URL to exactly what the provider says"
    ))]
    OtherIssuer { reason: String },
    #[snafu(display("the provider's {name} is {url}, which is not https"))]
    Insecure { name: &'static str, url: String },
    #[snafu(display("the provider has no {name}"))]
    Missing { name: &'static str },
    #[snafu(display("the provider answered with the HTTP status {status}"))]
    Status { status: u16 },
    #[snafu(display("the provider's answer is no discovery document or key set: {reason}"))]
    Malformed { reason: String },
}

impl ProviderError {
    /// Whether the provider has answered, and somebody has to change a setting, here or there. Another one may be over by itself: what
    /// answers may be a proxy in front of a provider that is down.
    fn is_misconfiguration(&self) -> bool {
        match self {
            Self::Issuer { .. } | Self::OtherIssuer { .. } | Self::Insecure { .. } | Self::Missing { .. } => true,
            Self::NotDiscovered | Self::Http { .. } | Self::Status { .. } | Self::Malformed { .. } => false,
        }
    }
}

impl From<DiscoveryError<HttpError>> for ProviderError {
    fn from(error: DiscoveryError<HttpError>) -> Self {
        match error {
            DiscoveryError::Request(source) => Self::Http { source },
            DiscoveryError::Response(status, _, _) if !status.is_success() => Self::Status {
                status: status.as_u16(),
            },
            DiscoveryError::Validation(reason) => Self::OtherIssuer { reason },
            DiscoveryError::Parse(error) => Self::Malformed {
                reason: error.to_string(),
            },
            error => Self::Malformed {
                reason: error.to_string(),
            },
        }
    }
}

/// What discovery told, and the keys, which change more often.
pub(super) struct Discovered {
    pub metadata: ProviderMetadataWithLogout,
    pub keys: ArcSwap<CoreJsonWebKeySet>,
}

/// An identity provider. It works once [`Provider::follow`] has reached it.
pub struct Provider {
    pub(super) settings: OidcConfig,
    documents: ProviderClient,
    pub(super) tokens: ProviderClient,
    pub(super) clock: Arc<dyn Clock>,
    discovered: ArcSwapOption<Discovered>,
    /// Whether it was asked the last time, and did not answer as a provider that is set up wrongly would.
    is_away: AtomicBool,
    keys_fetched: Mutex<Option<Instant>>,
}

impl Provider {
    pub fn new(settings: OidcConfig, tls: ClientConfig, clock: Arc<dyn Clock>) -> Self {
        let documents = ProviderClient::for_documents(tls.clone());
        Self {
            settings,
            tokens: documents.for_tokens(tls),
            documents,
            clock,
            discovered: ArcSwapOption::empty(),
            is_away: AtomicBool::new(false),
            keys_fetched: Mutex::new(None),
        }
    }

    /// Discovers the provider, tries again until it answers, and again every hour. Never ends.
    pub async fn follow(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.discover().await {
                Ok(discovered) => {
                    if self.discovered.swap(Some(Arc::new(discovered))).is_none() {
                        tracing::info!(issuer = self.settings.issuer, "the identity provider answers");
                    }
                    pause = FIRST_PAUSE;
                    tokio::time::sleep(DISCOVER_EVERY).await;
                }
                Err(error) => {
                    self.is_away.store(!error.is_misconfiguration(), Ordering::Relaxed);
                    tracing::warn!(
                        issuer = self.settings.issuer,
                        %error,
                        again_in_seconds = pause.as_secs(),
                        "can't discover the identity provider"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Whether the provider was reached, so that people can sign in.
    pub fn is_discovered(&self) -> bool {
        self.discovered.load().is_some()
    }

    /// Whether it was reached, or is away: not that it was never asked, nor that it is set up wrongly, which no waiting mends.
    pub fn is_discovered_or_away(&self) -> bool {
        self.is_discovered() || self.is_away.load(Ordering::Relaxed)
    }

    pub(super) fn discovered(&self) -> Result<Arc<Discovered>, ProviderError> {
        self.discovered.load_full().context(NotDiscoveredSnafu)
    }

    async fn discover(&self) -> Result<Discovered, ProviderError> {
        let issuer = IssuerUrl::new(self.settings.issuer.clone()).ok().context(IssuerSnafu {
            issuer: &self.settings.issuer,
        })?;
        let metadata = ProviderMetadataWithLogout::discover_async(issuer, &self.documents).await?;
        self.check_endpoints(&metadata)?;
        Ok(Discovered {
            keys: ArcSwap::from_pointee(metadata.jwks().clone()),
            metadata,
        })
    }

    /// The issuer exactly as configured (OpenID Connect Discovery 1.0, section 4.3), and no endpoint in the clear.
    fn check_endpoints(&self, metadata: &ProviderMetadataWithLogout) -> Result<(), ProviderError> {
        let found = metadata.issuer().as_str();
        ensure!(
            found == self.settings.issuer,
            OtherIssuerSnafu {
                reason: format!("unexpected issuer URI `{found}` (expected `{}`)", self.settings.issuer)
            }
        );
        let token = metadata
            .token_endpoint()
            .context(MissingSnafu { name: "token_endpoint" })?;
        for (name, url) in [
            ("authorization_endpoint", metadata.authorization_endpoint().url()),
            ("token_endpoint", token.url()),
            ("jwks_uri", metadata.jwks_uri().url()),
        ] {
            ensure!(
                is_secure(url),
                InsecureSnafu {
                    name,
                    url: url.as_str()
                }
            );
        }
        Ok(())
    }

    /// Whether the provider answers, which is tried when that is not known: to be sent to one that does not helps nobody.
    pub(super) async fn reach(&self, discovered: &Discovered) -> Result<(), ProviderError> {
        if self.documents.answered_within(REACHED_AT_LEAST_EVERY) {
            return Ok(());
        }
        let fetched = CoreJsonWebKeySet::fetch_async(discovered.metadata.jwks_uri(), &self.documents);
        let keys = timeout(REACHED_WITHIN, fetched)
            .await
            .map_err(|_| ProviderError::Http {
                source: HttpError::Timeout { time: REACHED_WITHIN },
            })??;
        discovered.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Fetches the keys again, unless that was done a moment ago.
    pub(super) async fn refresh_keys(&self, discovered: &Discovered) -> Result<(), ProviderError> {
        // Whoever waits here finds the keys that the one before fetched.
        let mut fetched = self.keys_fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < KEYS_AT_MOST_EVERY) {
            return Ok(());
        }
        *fetched = Some(Instant::now());
        let keys = CoreJsonWebKeySet::fetch_async(discovered.metadata.jwks_uri(), &self.documents).await?;
        discovered.keys.store(Arc::new(keys));
        tracing::info!("the identity provider's keys were fetched again for a token with an unknown key");
        Ok(())
    }
}
