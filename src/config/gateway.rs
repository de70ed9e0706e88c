//! The gateway's settings become a [`GatewayConfig`].

use super::classes::{self, Offer};
use super::clipboard::Clipboard;
use super::edge::Edge;
use super::entry::{Entry, SUPPORT_CONTACT};
use super::limits::{Places, RateLimits};
use super::reader::{Problems, Reader};
use super::recording::RecordingConfig;
use super::session::SessionRules;
use super::setting::{Setting, setting};
use super::source::Source;
use super::syntax;
use crate::api::workspace::Provider;
use crate::units::go_duration::GoDuration;
use crate::units::quantity::Quantity;
use secrecy::SecretString;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Everything that the gateway is told from outside.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// See [`Source::digest`].
    pub digest: String,
    /// The namespace of the Workspaces.
    pub namespace: String,
    /// Its own namespace, where its session keys lie.
    pub pod_namespace: String,
    /// Its own pod, as `status.sessions` names it.
    pub pod_name: String,
    pub port: u16,
    /// Where liveness is told besides.
    pub probe_port: Option<u16>,
    /// Where browsers reach the gateway: scheme, host and port, no path. The only Origin that a WebSocket may have.
    pub public_url: Url,
    /// Certificate chain and key for serving HTTPS; `None` leaves TLS to an Ingress in front.
    pub tls: Option<TlsFiles>,
    /// CA certificates in PEM form that are trusted besides the system's.
    pub ca_bundle: Option<PathBuf>,
    pub oidc: OidcConfig,
    pub workspace: NewWorkspace,
    pub rate_limit: RateLimits,
    pub places: Places,
    pub edge: Edge,
    /// `None` records nothing.
    pub recording: Option<RecordingConfig>,
    pub session: SessionRules,
    pub clipboard: Clipboard,
    /// Where the provider sends browsers back to that signed out there.
    pub post_logout_url: Option<Url>,
    /// Whom a refused user may ask; may be empty.
    pub support_contact: String,
}

#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The OpenID Connect client that the gateway is.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// The issuer, byte for byte as the provider's discovery document gives it.
    pub issuer: String,
    pub client_id: String,
    pub client_secret: SecretString,
    pub redirect_url: Url,
    pub audience: String,
    pub clock_skew: Duration,
    /// The claim that holds a user's groups.
    pub groups_claim: String,
    /// The groups that something is decided by; others are not looked at.
    pub known_groups: Vec<String>,
    pub entry: Entry,
    /// What is asked for beside `openid`; `offline_access` only of a provider that knows it.
    pub scopes: Vec<String>,
}

/// What a Workspace is made with on a user's first visit.
#[derive(Clone, Debug)]
pub struct NewWorkspace {
    pub providers: Vec<Provider>,
    pub cpu: Quantity,
    pub memory: Quantity,
    pub storage: Quantity,
    pub storage_class: Option<String>,
    /// The first that is for a user is theirs. None at all: everyone gets what is common.
    pub classes: Vec<Offer>,
}

pub const OIDC_ISSUER_URL: Setting = setting("OIDC_ISSUER_URL", "oidc.issuerURL")
    .required()
    .help("the issuer exactly as the provider's discovery document gives it; https, but on a loopback address");
pub const OIDC_CLIENT_ID: Setting = setting("OIDC_CLIENT_ID", "oidc.clientID")
    .required()
    .help("the gateway's client id at the provider");
pub const OIDC_CLIENT_SECRET: Setting = setting("OIDC_CLIENT_SECRET", "oidc.clientSecret")
    .required()
    .secret()
    .help("the gateway's client secret");
pub const OIDC_REDIRECT_URL: Setting = setting("OIDC_REDIRECT_URL", "oidc.redirectURL")
    .required()
    .help("the gateway's public address with the path /callback, as registered at the provider");
pub const OIDC_AUDIENCE: Setting =
    setting("OIDC_AUDIENCE", "oidc.audience").help("the audience that a token must have; the client id when unset");
pub const OIDC_CLOCK_SKEW: Setting = setting("OIDC_CLOCK_SKEW", "oidc.clockSkew")
    .default("60s")
    .help("how far the provider's clock may be off, as a duration; 0 allows nothing");
pub const OIDC_GROUPS_CLAIM: Setting = setting("OIDC_GROUPS_CLAIM", "oidc.groupsClaim")
    .default("groups")
    .help("the claim of the ID token that holds the user's groups, by which classes are given");
pub const OIDC_SCOPES: Setting = setting("OIDC_SCOPES", "oidc.scopes")
    .default("openid email profile")
    .help("what the provider is asked for, separated by blanks; add offline_access where it gives no refresh token without, but not where a session then outlives the sign-out there, as with Keycloak");
pub const OIDC_POST_LOGOUT_REDIRECT_URL: Setting = setting("OIDC_POST_LOGOUT_REDIRECT_URL", "oidc.postLogoutRedirectURL")
    .help("the gateway's public address with the path /signed-out, when it is registered at the provider: who signs out comes back there");
pub const PUBLIC_URL: Setting = setting("PUBLIC_URL", "publicURL")
    .help("where browsers reach the gateway, without a path; the origin of OIDC_REDIRECT_URL when unset");
pub const NAMESPACE: Setting = setting("NAMESPACE", "namespace")
    .default("workspaces")
    .help("the namespace of the Workspaces");
pub const POD_NAMESPACE: Setting = setting("POD_NAMESPACE", "podNamespace")
    .default("workspace-operator-system")
    .help("the gateway's own namespace, where its session keys lie");
pub const POD_NAME: Setting = setting("POD_NAME", "podName")
    .default("workspace-gateway")
    .help("the gateway's own pod, which status.sessions names beside each terminal");
pub const PORT: Setting = setting("PORT", "port")
    .default("8080")
    .help("the TCP port to listen on");
pub const PROBE_PORT: Setting = setting("PROBE_PORT", "probePort").help(
    "another TCP port, which answers /healthz alone, however many connections the first one has; none when unset",
);
pub const TLS_CERT_FILE: Setting = setting("TLS_CERT_FILE", "tls.certificateFile")
    .help("a PEM certificate chain, to serve HTTPS; plain HTTP behind an Ingress when unset");
pub const TLS_KEY_FILE: Setting = setting("TLS_KEY_FILE", "tls.keyFile").help("the PEM private key of TLS_CERT_FILE");
pub const CA_BUNDLE_FILE: Setting =
    setting("CA_BUNDLE_FILE", "tls.caBundleFile").help("PEM certificates of authorities to trust besides the system's");
pub const AI_PROVIDERS_JSON: Setting = setting("AI_PROVIDERS_JSON", "workspace.aiProviders")
    .default("[]")
    .help("the language models of a new workspace: [{\"name\":..,\"endpoint\":..,\"models\":[..]}]");
pub const DEFAULT_CPU: Setting = setting("DEFAULT_CPU", "workspace.cpu")
    .default("2")
    .help("CPU of a new workspace");
pub const DEFAULT_MEMORY: Setting = setting("DEFAULT_MEMORY", "workspace.memory")
    .default("4Gi")
    .help("memory of a new workspace");
pub const DEFAULT_STORAGE: Setting = setting("DEFAULT_STORAGE", "workspace.storage")
    .default("20Gi")
    .help("volume size of a new workspace");
pub const DEFAULT_STORAGE_CLASS: Setting = setting("DEFAULT_STORAGE_CLASS", "workspace.storageClass")
    .help("StorageClass of a new workspace; the cluster's default when unset");

/// Every setting of the gateway, in the order that `--help` and the reference page show.
pub const SETTINGS: &[Setting] = &[
    OIDC_ISSUER_URL,
    OIDC_CLIENT_ID,
    OIDC_CLIENT_SECRET,
    OIDC_REDIRECT_URL,
    OIDC_AUDIENCE,
    OIDC_CLOCK_SKEW,
    OIDC_GROUPS_CLAIM,
    super::entry::OIDC_ALLOWED_GROUPS,
    super::entry::OIDC_ALLOWED_EMAIL_DOMAINS,
    super::entry::OIDC_REQUIRED_CLAIMS,
    super::entry::OIDC_ADMIN_GROUPS,
    OIDC_POST_LOGOUT_REDIRECT_URL,
    OIDC_SCOPES,
    super::entry::SUPPORT_CONTACT,
    super::session::SESSION_LIFETIME,
    super::session::SESSION_IDLE_LIFETIME,
    super::session::SESSION_REFRESH_INTERVAL,
    super::session::SESSION_REFRESH_GRACE,
    super::session::SESSION_WATCH_LOSS,
    PUBLIC_URL,
    NAMESPACE,
    PORT,
    PROBE_PORT,
    TLS_CERT_FILE,
    TLS_KEY_FILE,
    CA_BUNDLE_FILE,
    AI_PROVIDERS_JSON,
    DEFAULT_CPU,
    DEFAULT_MEMORY,
    DEFAULT_STORAGE,
    DEFAULT_STORAGE_CLASS,
    super::operator::WORKSPACE_CLASSES,
    super::limits::GATEWAY_RL_LIFECYCLE_GLOBAL_RPS,
    super::limits::GATEWAY_RL_LIFECYCLE_GLOBAL_BURST,
    super::limits::GATEWAY_RL_LIFECYCLE_PER_USER_RPS,
    super::limits::GATEWAY_RL_LIFECYCLE_PER_USER_BURST,
    super::limits::GATEWAY_RL_WS_GLOBAL_RPS,
    super::limits::GATEWAY_RL_WS_GLOBAL_BURST,
    super::limits::GATEWAY_RL_WS_PER_USER_RPS,
    super::limits::GATEWAY_RL_WS_PER_USER_BURST,
    super::limits::GATEWAY_RL_SIGN_IN_PER_ADDRESS_RPS,
    super::limits::GATEWAY_RL_SIGN_IN_PER_ADDRESS_BURST,
    super::limits::GATEWAY_MAX_CONNECTIONS,
    super::limits::GATEWAY_MAX_TERMINALS,
    super::limits::GATEWAY_MAX_TERMINALS_PER_USER,
    super::edge::GATEWAY_TRUSTED_PROXIES,
    super::edge::GATEWAY_WORKSPACE_ADDRESS,
    super::edge::TERMINAL_TLS,
    super::edge::GATEWAY_REQUEST_TIMEOUT,
    super::edge::GATEWAY_DRAIN_TIMEOUT,
    super::clipboard::GATEWAY_CLIPBOARD,
    super::recording::SESSION_RECORDING_ENABLED,
    super::recording::SESSION_RECORDING_MODE,
    super::recording::SESSION_RECORDING_DIR,
    super::recording::SESSION_RECORDING_ON_FAILURE,
    super::recording::SESSION_RECORDING_INPUT,
    super::recording::SESSION_RECORDING_FSYNC,
    super::recording::SESSION_RECORDING_CHECKPOINT_RECORDS,
    super::recording::SESSION_RECORDING_CHECKPOINT_INTERVAL,
    super::recording::SESSION_RECORDING_KEY_FILE,
    super::recording::SESSION_RECORDING_COMPRESS,
    super::recording::SESSION_RECORDING_KEEP_FOR,
    super::recording::SESSION_RECORDING_MAX_SIZE,
    super::recording::SESSION_RECORDING_NOTICE,
    POD_NAMESPACE,
    POD_NAME,
    super::setting::LOG_LEVEL,
    super::setting::LOG_FORMAT,
];

impl GatewayConfig {
    /// Checks every setting and reports all problems together.
    ///
    /// # Errors
    /// [`Problems`] with one entry for each setting that is missing or not what it must be.
    pub fn read(source: &Source) -> Result<Self, Problems> {
        let mut r = Reader::new(source, SETTINGS);
        let config = Self::read_all(&mut r, source.digest(SETTINGS));
        r.finish(config)
    }

    /// Every setting is read before the first `?`, so that one problem does not hide another.
    fn read_all(r: &mut Reader<'_>, digest: String) -> Option<Self> {
        let namespace = r.parse(&NAMESPACE, syntax::dns_label);
        let pod_namespace = r.parse(&POD_NAMESPACE, syntax::dns_label);
        let pod_name = r.parse(&POD_NAME, syntax::dns_subdomain);
        let port = r.parse(&PORT, syntax::port);
        let probe_port = r.optional(&PROBE_PORT, syntax::port);
        if port.is_some() && probe_port == Some(port) {
            r.problem(&PROBE_PORT, "another port than PORT".to_owned());
        }
        let oidc = OidcConfig::read(r);
        let public_url = r.optional(&PUBLIC_URL, public_origin);
        let tls = read_tls(r);
        let ca_bundle = r.optional(&CA_BUNDLE_FILE, syntax::path);
        let workspace = NewWorkspace::read(r);
        let rate_limit = RateLimits::read(r);
        let places = Places::read(r);
        let edge = Edge::read(r);
        let recording = RecordingConfig::read(r);
        let post_logout_url = r.optional(&OIDC_POST_LOGOUT_REDIRECT_URL, post_logout_url);
        let session = SessionRules::read(r);
        let clipboard = Clipboard::read(r);
        let support_contact = r.optional(&SUPPORT_CONTACT, syntax::any_text);
        let (mut oidc, workspace) = (oidc?, workspace?);
        let offered = workspace.classes.iter().flat_map(|offer| &offer.groups);
        oidc.known_groups = offered.cloned().collect();
        let public_url = public_url?.unwrap_or_else(|| origin_of(&oidc.redirect_url));
        if oidc.redirect_url.origin() != public_url.origin() {
            r.problem(
                &PUBLIC_URL,
                format!(
                    "the origin of OIDC_REDIRECT_URL, {}: the provider sends browsers back there",
                    origin_of(&oidc.redirect_url)
                ),
            );
            return None;
        }
        Some(Self {
            digest,
            namespace: namespace?,
            pod_namespace: pod_namespace?,
            pod_name: pod_name?,
            port: port?.get(),
            probe_port: probe_port?.map(NonZeroU16::get),
            public_url,
            tls: tls?,
            ca_bundle: ca_bundle?,
            oidc,
            workspace,
            rate_limit: rate_limit?,
            places: places?,
            edge: edge?,
            recording: recording?,
            session: session?,
            clipboard: clipboard?,
            post_logout_url: post_logout_url?,
            support_contact: support_contact?.unwrap_or_default(),
        })
    }
}

impl OidcConfig {
    fn read(r: &mut Reader<'_>) -> Option<Self> {
        let issuer = r.parse(&OIDC_ISSUER_URL, |text| {
            syntax::secure_url(text).map(|_| text.to_owned())
        });
        let client_id = r.text(&OIDC_CLIENT_ID);
        let client_secret = r.secret(&OIDC_CLIENT_SECRET);
        let redirect_url = r.parse(&OIDC_REDIRECT_URL, redirect_url);
        let audience = r.optional(&OIDC_AUDIENCE, syntax::any_text);
        let clock_skew = r.parse(&OIDC_CLOCK_SKEW, |text| {
            text.parse::<GoDuration>().map_err(|error| error.to_string())
        });
        let groups_claim = r.text(&OIDC_GROUPS_CLAIM);
        let entry = Entry::read(r);
        let scopes = r.parse(&OIDC_SCOPES, scopes);
        let client_id = client_id?;
        Some(Self {
            issuer: issuer?,
            audience: audience?.unwrap_or_else(|| client_id.clone()),
            client_id,
            client_secret: client_secret?,
            redirect_url: redirect_url?,
            clock_skew: clock_skew?.0,
            groups_claim: groups_claim?,
            known_groups: vec![],
            entry: entry?,
            scopes: scopes?,
        })
    }
}

impl NewWorkspace {
    fn read(r: &mut Reader<'_>) -> Option<Self> {
        let quantity = |text: &str| text.parse::<Quantity>().map_err(|error| error.to_string());
        let providers = r.parse(&AI_PROVIDERS_JSON, providers);
        let cpu = r.parse(&DEFAULT_CPU, quantity);
        let memory = r.parse(&DEFAULT_MEMORY, quantity);
        let storage = r.parse(&DEFAULT_STORAGE, quantity);
        let storage_class = r.optional(&DEFAULT_STORAGE_CLASS, syntax::dns_subdomain);
        let classes = r.parse(&super::operator::WORKSPACE_CLASSES, classes::offers);
        Some(Self {
            providers: providers?,
            cpu: cpu?,
            memory: memory?,
            storage: storage?,
            storage_class: storage_class?,
            classes: classes?,
        })
    }
}

fn read_tls(r: &mut Reader<'_>) -> Option<Option<TlsFiles>> {
    let certificate = r.optional(&TLS_CERT_FILE, syntax::path);
    let key = r.optional(&TLS_KEY_FILE, syntax::path);
    match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(Some(TlsFiles { certificate, key })),
        (None, None) => Some(None),
        (Some(_), None) => {
            r.problem(
                &TLS_KEY_FILE,
                "the key of TLS_CERT_FILE: set both or neither".to_owned(),
            );
            None
        }
        (None, Some(_)) => {
            r.problem(
                &TLS_CERT_FILE,
                "the certificate of TLS_KEY_FILE: set both or neither".to_owned(),
            );
            None
        }
    }
}

fn providers(text: &str) -> Result<Vec<Provider>, String> {
    let expected = "a JSON list such as [{\"name\":\"local\",\"endpoint\":\"http://vllm.ai-system.svc:8000\",\"models\":[\"qwen3\"]}]";
    let providers: Vec<Provider> = serde_json::from_str(text)
        .map_err(|error| format!("{expected} (line {}, column {})", error.line(), error.column()))?;
    for (index, provider) in providers.iter().enumerate() {
        let Provider { name, endpoint, models } = provider;
        if name.is_empty() || models.is_empty() || models.iter().any(String::is_empty) {
            return Err(format!(
                "a name and at least one model for each provider, not so in entry {}",
                index + 1
            ));
        }
        syntax::http_url(endpoint).map_err(|expected| format!("{expected} as the endpoint of provider {name}"))?;
        if providers[..index].iter().any(|other| other.name == *name) {
            return Err(format!("each provider's name once, but {name} is there twice"));
        }
    }
    Ok(providers)
}

/// Scope tokens (RFC 6749, section 3.3) without `openid`, which is always asked for.
fn scopes(text: &str) -> Result<Vec<String>, String> {
    let is_scope = |scope: &str| scope.bytes().all(|c| c.is_ascii_graphic() && c != b'"' && c != b'\\');
    if !text.split_whitespace().all(is_scope) {
        return Err("scopes separated by blanks, such as openid email profile".to_owned());
    }
    let scopes = text.split_whitespace().filter(|scope| *scope != "openid");
    Ok(scopes.map(str::to_owned).collect())
}

/// Browsers keep a `__Host-` cookie only over https, and on a loopback address (RFC 6265bis, section 4.1.3.2).
fn redirect_url(text: &str) -> Result<Url, String> {
    let url = syntax::secure_url(text)?;
    if url.path() != "/callback" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "the path /callback and nothing behind it, such as {}callback",
            origin_of(&url)
        ));
    }
    Ok(url)
}

fn post_logout_url(text: &str) -> Result<Url, String> {
    let url = syntax::secure_url(text)?;
    if url.path() != "/signed-out" || url.query().is_some() {
        return Err(format!(
            "the path /signed-out and nothing behind it, such as {}signed-out",
            origin_of(&url)
        ));
    }
    Ok(url)
}

fn public_origin(text: &str) -> Result<Url, String> {
    let url = syntax::secure_url(text)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("no path, query or fragment: {}", origin_of(&url)));
    }
    Ok(url)
}

fn origin_of(url: &Url) -> Url {
    let mut origin = url.clone();
    origin.set_path("/");
    origin.set_query(None);
    origin.set_fragment(None);
    origin
}
