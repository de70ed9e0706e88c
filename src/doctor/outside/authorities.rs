//! Values and settings become the certificate authorities that they name.

use crate::causes::with_causes;
use crate::doctor::context::Context;
use crate::doctor::values::Values;
use crate::tls::facts::Facts;
use crate::tls::{self, TlsError};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

/// What there is to trust beside the system's authorities.
#[derive(Debug)]
pub enum Given {
    /// None are named.
    Nothing,
    Authorities(Authorities),
    /// They are named, and can't be used.
    Unusable {
        from: String,
        problem: String,
    },
    /// What is to hold them is not there.
    Missing {
        why: String,
    },
    /// They can't be looked at from here.
    Unknown {
        why: String,
    },
}

/// Certificates with what they say.
#[derive(Debug)]
pub struct Authorities {
    /// Where they are, in words.
    pub from: String,
    pub certificates: Vec<CertificateDer<'static>>,
    /// The same as they are written.
    pub pem: String,
    pub facts: Vec<Facts>,
}

impl Given {
    /// Those and the system's.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = tls::system_roots();
        if let Self::Authorities(given) = self {
            roots.add_parsable_certificates(given.certificates.iter().cloned());
        }
        roots
    }

    /// The settings of a client that trusts those and the system's.
    ///
    /// # Errors
    /// Never with the protocol versions of this program.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        tls::client_of(self.roots())
    }

    /// Whom one would ask for a certificate: their names.
    pub fn names(&self) -> String {
        match self {
            Self::Authorities(given) => {
                let names: Vec<_> = given.facts.iter().map(|facts| facts.subject.as_str()).collect();
                format!("{} of {} and the system's", names.join("; "), given.from)
            }
            _ => "the system's authorities".to_owned(),
        }
    }
}

/// Where authorities are named.
enum Place {
    Nowhere,
    Text {
        from: String,
        pem: String,
    },
    ConfigMap {
        namespace: String,
        name: String,
        key: String,
    },
}

/// Those of the gateway, which are also taken for registries.
pub async fn of_gateway(context: &Context) -> Given {
    let installation = &context.installation;
    if let Some(values) = &installation.values {
        let own = values.text("gateway.tls.customCABundle.configMapName");
        let place = if own.is_empty() {
            common(values, &installation.namespace)
        } else {
            Place::ConfigMap {
                namespace: installation.namespace.clone(),
                name: own,
                key: values.text("gateway.tls.customCABundle.key"),
            }
        };
        return given(context, place).await;
    }
    let Some(path) = installation.gateway().and_then(|config| config.ca_bundle.as_deref()) else {
        return Given::Nothing;
    };
    let from = format!("the file {}", path.display());
    match std::fs::read_to_string(path) {
        Ok(pem) => read(from, pem.as_bytes()),
        Err(error) => Given::Unusable {
            problem: format!("it can't be read: {error}"),
            from,
        },
    }
}

/// Those of workspaces.
pub async fn of_workspaces(context: &Context) -> Given {
    let installation = &context.installation;
    let Some(values) = &installation.values else {
        return of_gateway(context).await;
    };
    let own = values.text("workspace.defaultCABundle.configMapName");
    let place = if own.is_empty() {
        common(values, &installation.workspaces)
    } else {
        Place::ConfigMap {
            namespace: installation.workspaces.clone(),
            name: own,
            key: String::new(),
        }
    };
    given(context, place).await
}

fn common(values: &Values, namespace: &str) -> Place {
    let (pem, name) = (values.text("customCA.pem"), values.text("customCA.configMap.name"));
    if !pem.is_empty() {
        return Place::Text {
            from: "customCA.pem".to_owned(),
            pem,
        };
    }
    if name.is_empty() {
        return Place::Nowhere;
    }
    Place::ConfigMap {
        namespace: namespace.to_owned(),
        name,
        key: values.text("customCA.configMap.key"),
    }
}

async fn given(context: &Context, place: Place) -> Given {
    let (namespace, name, key) = match place {
        Place::Nowhere => return Given::Nothing,
        Place::Text { from, pem } => return read(from, pem.as_bytes()),
        Place::ConfigMap { namespace, name, key } => (namespace, name, key),
    };
    let from = format!("ConfigMap {name} of namespace {namespace}");
    let Ok(client) = context.client() else {
        return Given::Unknown {
            why: format!("{from} holds the authorities, and there is no API server to ask"),
        };
    };
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    let data = match maps.get_opt(&name).await {
        Ok(map) => map.map(|map| map.data.unwrap_or_default()),
        Err(error) => {
            return Given::Unknown {
                why: format!("{from} can't be read: {}", with_causes(&error)),
            };
        }
    };
    let Some(data) = data else {
        return Given::Missing {
            why: format!("there is no {from}"),
        };
    };
    if key.is_empty() {
        // Workspaces take every key of theirs.
        let all: Vec<_> = data.into_values().collect();
        return read(from, all.join("\n").as_bytes());
    }
    match data.get(&key) {
        Some(pem) => read(format!("{from}, key {key}"), pem.as_bytes()),
        None => Given::Missing {
            why: format!("{from} has no key {key}"),
        },
    }
}

fn read(from: String, pem: &[u8]) -> Given {
    let unusable = |from, problem: &str| Given::Unusable {
        from,
        problem: problem.to_owned(),
    };
    let Ok(certificates) = tls::certificates_in(pem) else {
        return unusable(from, "a PEM block in it is damaged");
    };
    if certificates.is_empty() {
        return unusable(from, "there is no PEM block `-----BEGIN CERTIFICATE-----` in it");
    }
    let facts: Option<Vec<_>> = certificates.iter().map(Facts::of).collect();
    let mut roots = RootCertStore::empty();
    let are_usable = certificates.iter().all(|one| roots.add(one.clone()).is_ok());
    match facts.filter(|_| are_usable) {
        Some(facts) => Given::Authorities(Authorities {
            from,
            certificates,
            pem: String::from_utf8_lossy(pem).into_owned(),
            facts,
        }),
        None => unusable(from, "a PEM block in it is no X.509 certificate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn a_bundle_is_certificates_and_nothing_else() {
        let pem = || {
            let key = KeyPair::generate().unwrap();
            CertificateParams::new(vec!["a.test".into()])
                .unwrap()
                .self_signed(&key)
                .unwrap()
                .pem()
        };
        let two = format!("# ours\n{}{}", pem(), pem());
        let Given::Authorities(given) = read("x".into(), two.as_bytes()) else {
            panic!("two certificates")
        };
        assert_eq!(given.facts.len(), 2);
        for bad in [
            "",
            "no PEM",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(
                matches!(read("x".into(), bad.as_bytes()), Given::Unusable { .. }),
                "{bad}"
            );
        }
    }
}
