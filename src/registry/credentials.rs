//! Pull secrets become logins, and the ones that a kubelet would use for an image (`pkg/credentialprovider` of Kubernetes).

use super::reference::Reference;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;
use snafu::{OptionExt, Snafu, ensure};
use std::collections::BTreeMap;
use std::fmt;
use url::Url;

/// With or without padding, as kubelets take both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who to be at a registry.
#[derive(Clone)]
pub struct Login {
    /// The Secret that it is from.
    pub secret: String,
    pub username: String,
    pub password: SecretString,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login of {}", self.secret)
    }
}

/// The logins of some Secrets, each with the images that it is for.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The most specific first.
    entries: Vec<(Pattern, Login)>,
}

/// Why a Secret holds no credentials that a kubelet could use. Holds nothing of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Snafu)]
pub enum CredentialsError {
    #[snafu(display(
        "Secret {secret} is of the type {kind}: expected kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg"
    ))]
    Kind { secret: String, kind: String },
    #[snafu(display("Secret {secret} has no key {key}, which its type asks for"))]
    NoKey { secret: String, key: &'static str },
    #[snafu(display("Secret {secret} holds no JSON with logins by registry under {key}"))]
    NoJson { secret: String, key: &'static str },
    #[snafu(display(
        "Secret {secret} has no user name and password for {registry}: expected username and password, or auth with both"
    ))]
    NoLogin { secret: String, registry: String },
    #[snafu(display(
        "Secret {secret} has credentials for {registry:?}, which is no host with an optional port and path"
    ))]
    Registry { secret: String, registry: String },
}

const DOCKERCONFIGJSON: &str = ".dockerconfigjson";

/// The key of a pull secret by its type; `None` for a type that kubelets do not take.
pub fn key_of(kind: &str) -> Option<&'static str> {
    match kind {
        "kubernetes.io/dockerconfigjson" => Some(DOCKERCONFIGJSON),
        "kubernetes.io/dockercfg" => Some(".dockercfg"),
        _ => None,
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// `username:password` in Base64.
    #[serde(default)]
    auth: String,
}

/// Images by host, port and the beginning of their path. A label of the host may have `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    host: String,
    port: Option<u16>,
    path: String,
}

impl Credentials {
    /// Adds what a Secret of the type `kind` holds. `entry` gives what is under a key of it.
    ///
    /// # Errors
    /// When a kubelet could not read it.
    pub fn add<'a>(
        &mut self,
        secret: &str,
        kind: &str,
        entry: impl FnOnce(&str) -> Option<&'a [u8]>,
    ) -> Result<(), CredentialsError> {
        let key = key_of(kind).context(KindSnafu { secret, kind })?;
        let json = entry(key).context(NoKeySnafu { secret, key })?;
        let auths = match key {
            DOCKERCONFIGJSON => serde_json::from_slice(json).map(|config: DockerConfig| config.auths),
            _ => serde_json::from_slice(json),
        };
        let auths: BTreeMap<String, DockerAuth> = auths.ok().context(NoJsonSnafu { secret, key })?;
        for (registry, auth) in &auths {
            // What clients leave that keep their logins elsewhere (`credsStore`). A kubelet then has no login for it, either.
            if auth.is_empty() {
                continue;
            }
            let pattern = Pattern::of(registry).context(RegistrySnafu { secret, registry })?;
            let (username, password) = auth.login().context(NoLoginSnafu { secret, registry })?;
            ensure!(!username.is_empty(), NoLoginSnafu { secret, registry });
            let login = Login {
                secret: secret.to_owned(),
                username,
                password,
            };
            self.entries.push((pattern, login));
        }
        self.entries.sort_by(|(a, _), (b, _)| b.order().cmp(&a.order()));
        Ok(())
    }

    /// The logins for an image, in the order in which they are tried. A name without a registry has none here.
    pub fn of(&self, image: &Reference) -> Vec<&Login> {
        let fits = |pattern: &Pattern| pattern.fits(image);
        let fitting = self.entries.iter().filter(|(pattern, _)| fits(pattern));
        fitting.map(|(_, login)| login).collect()
    }
}

impl DockerAuth {
    fn is_empty(&self) -> bool {
        self.username.is_empty() && self.password.is_empty() && self.auth.is_empty()
    }

    fn login(&self) -> Option<(String, SecretString)> {
        if self.auth.is_empty() {
            return Some((self.username.clone(), self.password.clone().into()));
        }
        let text = String::from_utf8(BASE64.decode(self.auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some((
            username.to_owned(),
            password.trim_end_matches(['\0', '\n']).to_owned().into(),
        ))
    }
}

impl Pattern {
    fn of(registry: &str) -> Option<Self> {
        let scheme = ["https://", "http://"]
            .iter()
            .find_map(|scheme| registry.strip_prefix(scheme));
        let rest = scheme.unwrap_or(registry);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split(authority)?;
        // As old clients wrote them: https://host/v1/
        let versioned = ["/v1/", "/v2/"].iter().any(|version| path.starts_with(version));
        let path = if versioned { &path[3..] } else { path };
        Some(Self {
            host,
            port,
            path: if path == "/" { String::new() } else { path.to_owned() },
        })
    }

    fn order(&self) -> (&str, &str) {
        (&self.host, &self.path)
    }

    fn fits(&self, image: &Reference) -> bool {
        let Some((host, port)) = image.registry.as_deref().and_then(split) else {
            return false;
        };
        let (globs, labels): (Vec<_>, Vec<_>) = (self.host.split('.').collect(), host.split('.').collect());
        self.port == port
            && globs.len() == labels.len()
            && globs.iter().zip(&labels).all(|(glob, label)| matches(glob, label))
            && format!("/{}", image.repository).starts_with(&self.path)
    }
}

/// Host and port of `host:port`.
fn split(authority: &str) -> Option<(String, Option<u16>)> {
    // Only to be parsed; `*` stands for letters meanwhile.
    let url = Url::parse(&format!("ssh://{}/", authority.replace('*', "x"))).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.has_host();
    let port = url.port();
    let host = match port {
        Some(_) => authority.rsplit_once(':')?.0,
        None => authority,
    };
    plain.then(|| (host.to_ascii_lowercase(), port))
}

/// Whether a label is as a pattern with any number of `*` says.
fn matches(glob: &str, label: &str) -> bool {
    match glob.split_once('*') {
        None => glob == label,
        Some((before, after)) => label
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(after, &rest[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use serde_json::json;

    const KIND: &str = "kubernetes.io/dockerconfigjson";

    fn credentials(auths: serde_json::Value) -> Result<Credentials, CredentialsError> {
        let mut all = Credentials::default();
        let json = json!({ "auths": auths }).to_string();
        all.add("pull", KIND, |_| Some(json.as_bytes())).map(|()| all)
    }

    #[test]
    fn secrets_of_the_old_type_are_read_too() {
        let json = json!({"r.corp": {"username": "u", "password": "p"}}).to_string();
        let mut all = Credentials::default();
        let entry = |key: &str| (key == ".dockercfg").then_some(json.as_bytes());
        all.add("pull", "kubernetes.io/dockercfg", entry).unwrap();
        assert_eq!(all.of(&"r.corp/a".parse().unwrap()).len(), 1);
        let refused = all.add("pull", KIND, entry);
        assert!(matches!(refused, Err(CredentialsError::NoKey { .. })));
        let refused = all.add("pull", "Opaque", entry);
        assert!(matches!(refused, Err(CredentialsError::Kind { .. })));
    }

    #[test]
    fn both_ways_to_write_a_login_are_read() {
        let plain = json!({"r.corp": {"username": "u", "password": "p:w"}});
        // Base64 of u:p:w, with and without padding.
        for auths in [
            plain,
            json!({"r.corp": {"auth": "dTpwOnc="}}),
            json!({"r.corp": {"auth": "dTpwOnc"}}),
        ] {
            let all = credentials(auths).unwrap();
            let [login] = all.of(&"r.corp/a".parse().unwrap())[..] else {
                panic!("one login")
            };
            assert_eq!((login.username.as_str(), login.password.expose_secret()), ("u", "p:w"));
        }
    }

    #[test]
    fn an_entry_without_anything_is_no_login_and_spoils_no_other() {
        let login = json!({"username": "u", "password": "p"});
        let all = credentials(json!({"https://old.corp/v1/": {}, "bare.corp": {"auth": ""}, "r.corp": login})).unwrap();
        let logins = |image: &str| all.of(&image.parse().unwrap()).len();
        assert_eq!(
            (logins("r.corp/a"), logins("old.corp/a"), logins("bare.corp/a")),
            (1, 0, 0)
        );
    }

    #[test]
    fn a_login_is_for_the_images_that_a_kubelet_would_use_it_for() {
        let login = |name: &str| json!({"username": name, "password": "x"});
        let all = credentials(json!({
            "r.corp": login("host"), "r.corp/team": login("team"), "https://old.corp/v1/": login("old"),
            "*.wild.corp": login("wild"), "p.corp:5000": login("port"), "V.corp/v2/x": login("versioned"),
        }))
        .unwrap();
        for (image, expected) in [
            ("r.corp/a", &["host"][..]),
            ("r.corp/team/a", &["team", "host"]),
            ("r.corp:443/a", &[]),
            ("old.corp/a", &["old"]),
            ("x.wild.corp/a", &["wild"]),
            ("x.y.wild.corp/a", &[]),
            ("wild.corp/a", &[]),
            ("p.corp:5000/a", &["port"]),
            ("p.corp/a", &[]),
            ("v.corp/x/a", &["versioned"]),
            ("v.corp/y", &[]),
            ("a:1", &[]),
        ] {
            let logins = all.of(&image.parse().unwrap());
            let names: Vec<_> = logins.iter().map(|login| login.username.as_str()).collect();
            assert_eq!(names, expected, "{image}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_named_and_not_quoted() {
        let mut all = Credentials::default();
        assert!(matches!(
            all.add("s", KIND, |_| Some(b"planted")),
            Err(CredentialsError::NoJson { .. })
        ));
        for (auth, names) in [
            (json!({"r.corp": {"auth": "planted!"}}), "r.corp"),
            (json!({"r.corp": {"auth": "cGxhbnRlZA=="}}), "r.corp"),
            (json!({"r.corp": {"password": "planted"}}), "r.corp"),
            (json!({"": {"username": "u", "password": "planted"}}), "pull"),
        ] {
            let error = credentials(auth).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(names) && !text.contains("planted"), "{text}");
        }
        let all = credentials(json!({"r.corp": {"username": "u", "password": "planted"}})).unwrap();
        assert!(!format!("{all:?}").contains("planted"));
    }
}
