//! The system's authorities and those of a mounted bundle become whom clients trust; the bundle is read again when it changes.

use super::{AuthoritySnafu, RELOAD_EVERY, TlsError, VersionsSnafu, certificates, system_roots};
use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use snafu::ResultExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whom clients trust: every client of it at once, also after a change.
#[derive(Debug)]
pub struct Trust {
    bundle: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Trusted>,
}

#[derive(Debug)]
struct Trusted {
    /// Those of the bundle.
    authorities: Vec<CertificateDer<'static>>,
    /// Those and the system's.
    roots: RootCertStore,
}

impl Trust {
    /// # Errors
    /// When the bundle can't be read or holds no authority. System authorities that can't be read are left out, and logged.
    pub fn read(bundle: Option<&Path>) -> Result<Arc<Self>, TlsError> {
        let authorities = bundle.map(certificates).transpose()?.unwrap_or_default();
        Ok(Arc::new(Self {
            bundle: bundle.map(Path::to_owned),
            provider: Arc::new(ring::default_provider()),
            current: ArcSwap::from_pointee(trusted(authorities, bundle.unwrap_or(Path::new("")))?),
        }))
    }

    /// The settings of a client that shows no certificate.
    ///
    /// # Errors
    /// Never with the protocol versions of this program.
    pub fn client(self: &Arc<Self>) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .context(VersionsSnafu)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        // A resumed session shows no certificate (RFC 8446, section 2.2), and would outlive its authority.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Follows the bundle for ever. One that can't be used leaves the last good one in place.
    pub async fn follow(&self) {
        let Some(bundle) = &self.bundle else {
            return std::future::pending().await;
        };
        let mut last_error = String::new();
        loop {
            tokio::time::sleep(RELOAD_EVERY).await;
            match self.changed(bundle) {
                Ok(new) => {
                    last_error.clear();
                    if let Some(new) = new {
                        let count = new.authorities.len();
                        self.current.store(Arc::new(new));
                        tracing::info!(path = %bundle.display(), count, "the authorities to trust have changed");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != last_error {
                        tracing::error!(
                            error,
                            "the changed authorities can't be used; those of before stay trusted"
                        );
                        last_error = error;
                    }
                }
            }
        }
    }

    fn changed(&self, bundle: &Path) -> Result<Option<Trusted>, TlsError> {
        let authorities = certificates(bundle)?;
        if authorities == self.current.load().authorities {
            return Ok(None);
        }
        trusted(authorities, bundle).map(Some)
    }
}

/// The system's authorities and those of `bundle`.
fn trusted(authorities: Vec<CertificateDer<'static>>, bundle: &Path) -> Result<Trusted, TlsError> {
    let mut roots = system_roots();
    for certificate in &authorities {
        roots
            .add(certificate.clone())
            .context(AuthoritySnafu { path: bundle })?;
    }
    Ok(Trusted { authorities, roots })
}

/// As rustls does it by default, but with the authorities of now.
impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let roots = &self.current.load().roots;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};
    use std::fs;
    use std::time::Duration;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// The settings of a server at `name` that `authority` has signed.
    fn server(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into());
        Arc::new(config.unwrap())
    }

    /// A handshake in memory.
    fn connect(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<(), Error> {
        let name = ServerName::try_from("idp.test").unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name)?;
        let mut server = ServerConnection::new(Arc::clone(server))?;
        for _ in 0..4 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            // The client says what is wrong.
            let _ = server.process_new_packets();
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking());
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_bundle_is_whom_the_same_client_trusts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let (first, second) = (authority(), authority());
        fs::write(&path, first.pem()).unwrap();
        let trust = Trust::read(Some(&path)).unwrap();
        let client = Arc::new(trust.client().unwrap());
        let following = Arc::clone(&trust);
        tokio::spawn(async move { following.follow().await });
        let (of_first, of_second) = (server(&first, "idp.test"), server(&second, "idp.test"));
        connect(&client, &of_first).unwrap();
        connect(&client, &of_second).unwrap_err();
        connect(&client, &server(&first, "elsewhere.test")).unwrap_err();

        // Both, for as long as certificates of both are about; then the new one alone.
        fs::write(&path, first.pem() + &second.pem()).unwrap();
        tokio::time::sleep(RELOAD_EVERY + Duration::from_secs(1)).await;
        connect(&client, &of_first).unwrap();
        connect(&client, &of_second).unwrap();
        fs::write(&path, second.pem()).unwrap();
        tokio::time::sleep(RELOAD_EVERY + Duration::from_secs(1)).await;
        connect(&client, &of_first).unwrap_err();
        connect(&client, &of_second).unwrap();

        // One that can't be used changes nothing.
        fs::write(&path, "no certificate").unwrap();
        tokio::time::sleep(RELOAD_EVERY + Duration::from_secs(1)).await;
        connect(&client, &of_second).unwrap();
        connect(&client, &of_first).unwrap_err();
    }

    #[test]
    fn without_a_bundle_nobody_but_the_system_s_own_is_trusted() {
        let client = Arc::new(Trust::read(None).unwrap().client().unwrap());
        connect(&client, &server(&authority(), "idp.test")).unwrap_err();
    }
}
