//! PEM files become the settings of TLS connections: whom to trust, and who to be.
//!
//! Trusted are the system's authorities and those of a mounted bundle; no list of authorities is compiled in. `presented` and `facts` look
//! at certificates of others.

pub mod facts;
pub mod presented;
mod trust;

pub use trust::Trust;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use snafu::{OptionExt, ResultExt, Snafu};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the files are read again. Kubernetes brings a renewed Secret or ConfigMap into the pod within about a minute.
const RELOAD_EVERY: Duration = Duration::from_secs(10);

/// Why TLS can't be set up.
#[derive(Debug, Snafu)]
pub enum TlsError {
    #[snafu(display(
        "can't read certificates from {}: {source}; expected PEM blocks `-----BEGIN CERTIFICATE-----`",
        path.display()
    ))]
    Certificates {
        path: PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    #[snafu(display("{} holds no certificate; expected PEM blocks `-----BEGIN CERTIFICATE-----`", path.display()))]
    NoCertificate { path: PathBuf },
    #[snafu(display("{} holds a certificate that can't be an authority: {source}", path.display()))]
    Authority { path: PathBuf, source: rustls::Error },
    // Not the source: a parser may quote what it read, and that is a key.
    #[snafu(display("{} holds no private key that can be read; expected one PEM block in PKCS#8, PKCS#1 or SEC1 form", path.display()))]
    Key { path: PathBuf },
    #[snafu(display("the key of {} can't be used: {source}", path.display()))]
    KeyUse { path: PathBuf, source: rustls::Error },
    #[snafu(display("the certificate of {} does not belong to the key beside it: {source}", path.display()))]
    Mismatch { path: PathBuf, source: rustls::Error },
    #[snafu(display("no TLS version that both sides know: {source}"))]
    Versions { source: rustls::Error },
}

/// The settings of a client that trusts the system's authorities and those in `bundle`, as it is now.
///
/// # Errors
/// When the bundle can't be read or holds no authority. System authorities that can't be read are left out, and logged.
pub fn client(bundle: Option<&Path>) -> Result<ClientConfig, TlsError> {
    Trust::read(bundle)?.client()
}

/// The settings of a client that trusts `roots` alone.
///
/// # Errors
/// Never with the protocol versions of this program.
pub fn client_of(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context(VersionsSnafu)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// The system's authorities. Those that can't be read are left out, and logged.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "an authority of the system can't be read");
    }
    roots.add_parsable_certificates(native.certs);
    roots
}

/// The certificates of a text of PEM blocks.
///
/// # Errors
/// When a block is damaged. Nothing of it is quoted.
pub fn certificates_in(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

/// The certificate that a server shows: read again when its files change.
#[derive(Debug)]
pub struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl ServerCertificate {
    /// # Errors
    /// When a file can't be read, or the two don't belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            current: ArcSwap::from_pointee(certified_key(certificate, key)?),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }))
    }

    /// The settings of a server that shows this certificate and speaks HTTP/1.1 only: a WebSocket is an upgrade of it.
    ///
    /// # Errors
    /// Never with the protocol versions of this program.
    pub fn server(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context(VersionsSnafu)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Follows the files for ever. Files that can't be used leave the last good certificate in place.
    pub async fn follow(&self) {
        let mut last_error = String::new();
        loop {
            tokio::time::sleep(RELOAD_EVERY).await;
            match certified_key(&self.certificate, &self.key) {
                Ok(new) => {
                    last_error.clear();
                    if new.cert != self.current.load().cert {
                        self.current.store(Arc::new(new));
                        tracing::info!(path = %self.certificate.display(), "the TLS certificate was renewed");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != last_error {
                        tracing::error!(error, "the TLS certificate can't be renewed; the last one stays");
                        last_error = error;
                    }
                }
            }
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).ok().context(KeySnafu { path: key })?;
    let signer = ring::sign::any_supported_type(&private).context(KeyUseSnafu { path: key })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        // Unknown: a kind of key that can't be compared.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(source) => Err(source).context(MismatchSnafu { path: certificate }),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.context(CertificatesSnafu { path })?;
    snafu::ensure!(!certificates.is_empty(), NoCertificateSnafu { path });
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["devplane.test".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_belongs_together_serves() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate_path, key_path) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        let (pem, key) = certificate();
        fs::write(&certificate_path, &pem).unwrap();
        fs::write(&key_path, &key).unwrap();
        let served = ServerCertificate::read(&certificate_path, &key_path).unwrap();
        assert_eq!(served.server().unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(client(Some(&certificate_path)).is_ok());

        let (_, foreign) = self::certificate();
        fs::write(&key_path, &foreign).unwrap();
        let error = ServerCertificate::read(&certificate_path, &key_path)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tls.crt does not belong to the key beside it"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_pem_is_refused_without_being_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tls.key");
        fs::write(
            &path,
            "-----BEGIN PRIVATE KEY-----\nplanted-secret\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let (pem, _) = certificate();
        let certificate_path = directory.path().join("tls.crt");
        fs::write(&certificate_path, pem).unwrap();
        let error = ServerCertificate::read(&certificate_path, &path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
        fs::write(&path, "no certificate").unwrap();
        let error = client(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
        let error = client(Some(&directory.path().join("missing"))).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
