//! The identity provider becomes what can be seen of it without anybody's password: its certificate, its documents, and what it says to
//! the gateway's own credentials.

use crate::clock::{Clock, SystemClock};
use crate::config::gateway::OidcConfig;
use crate::doctor::context::Context;
use crate::oidc::survey::{ClientAnswer, Discovered, Key, SignInAnswer, Survey, SurveyError};
use crate::tls::presented::{self, PresentedError};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What is seen of a provider.
pub enum Seen {
    /// It is not known which one it is, and why.
    Unknown {
        why: String,
    },
    Provider(Box<Provider>),
}

/// What is seen of one. Later parts are there when the earlier ones were fine.
pub struct Provider {
    pub settings: OidcConfig,
    pub contact: Contact,
    /// `None` when it was not asked, since its certificate is not trusted.
    pub discovered: Option<Result<Discovered, SurveyError>>,
    /// What time it was here meanwhile.
    pub asked_at: Timestamp,
    pub keys: Option<Result<Vec<Key>, SurveyError>>,
    pub client: Option<Result<ClientAnswer, SurveyError>>,
    pub sign_in: Option<Result<SignInAnswer, SurveyError>>,
}

/// How far a connection gets.
pub enum Contact {
    /// Without TLS: on this very machine.
    Plain(Result<(), String>),
    Tls {
        host: String,
        presented: Result<Vec<CertificateDer<'static>>, PresentedError>,
        /// Whether the gateway trusts what was presented.
        trusted: Option<Result<(), rustls::Error>>,
    },
}

impl Contact {
    fn is_fine(&self) -> bool {
        match self {
            Self::Plain(connected) => connected.is_ok(),
            Self::Tls { trusted, .. } => matches!(trusted, Some(Ok(()))),
        }
    }
}

/// Looks at the provider of the gateway's settings.
pub async fn look(context: &Context) -> Seen {
    let unknown = |why: &str| Seen::Unknown { why: why.to_owned() };
    let installation = &context.installation;
    if let Some(why) = &installation.oidc_unknown {
        return unknown(&format!("the OIDC client is not known: {why}"));
    }
    let Some(gateway) = installation.gateway() else {
        return unknown("there are no settings of a gateway");
    };
    let settings = gateway.oidc.clone();
    let given = context.gateway_authorities().await;
    let now = SystemClock.now();
    let contact = contact(&settings.issuer, given.roots(), now).await;
    let mut seen = Provider {
        contact,
        discovered: None,
        asked_at: now,
        keys: None,
        client: None,
        sign_in: None,
        settings,
    };
    let Ok(tls) = given.client() else {
        return unknown("there are no settings for TLS");
    };
    if seen.contact.is_fine() {
        seen.ask(&Survey::new(seen.settings.clone(), tls)).await;
    }
    Seen::Provider(Box::new(seen))
}

impl Provider {
    async fn ask(&mut self, survey: &Survey) {
        self.asked_at = SystemClock.now();
        let discovered = survey.discover().await;
        if let Ok(Discovered { document, .. }) = &discovered {
            // Nothing of the gateway is told to an issuer that is another one.
            if document.issuer == self.settings.issuer {
                let jwks_uri = document.jwks_uri.as_deref().unwrap_or_default();
                let (keys, client, sign_in) = tokio::join!(
                    survey.keys(jwks_uri),
                    survey.try_client(document),
                    survey.try_sign_in(document)
                );
                (self.keys, self.client, self.sign_in) = (Some(keys), Some(client), Some(sign_in));
            }
        }
        self.discovered = Some(discovered);
    }
}

/// How far a connection to a URL gets.
pub async fn contact(url: &str, roots: rustls::RootCertStore, now: Timestamp) -> Contact {
    let Some((host, port, scheme)) = target(url) else {
        return Contact::Plain(Err(format!("{url} names no host")));
    };
    if scheme == "http" {
        let connected = timeout(
            CONNECT_WITHIN,
            TcpStream::connect((host.trim_matches(['[', ']']), port)),
        )
        .await;
        return Contact::Plain(match connected {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("can't connect to {host}:{port}: {error}")),
            Err(_) => Err(format!(
                "{host}:{port} did not answer within {} s",
                CONNECT_WITHIN.as_secs()
            )),
        });
    }
    let presented = presented::presented(&host, port, CONNECT_WITHIN).await;
    let trusted = presented
        .as_ref()
        .ok()
        .map(|chain| presented::judge(chain, &host, roots, now));
    Contact::Tls {
        host,
        presented,
        trusted,
    }
}

fn target(url: &str) -> Option<(String, u16, String)> {
    let url = Url::parse(url).ok()?;
    Some((
        url.host_str()?.to_owned(),
        url.port_or_known_default()?,
        url.scheme().to_owned(),
    ))
}
