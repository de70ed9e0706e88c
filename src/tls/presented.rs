//! A server becomes the certificates that it presents, whoever issued them, and the judgement that a client would come to.

use super::TlsError;
use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use snafu::{OptionExt, ResultExt, Snafu};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Why nothing was presented.
#[derive(Debug, Snafu)]
pub enum PresentedError {
    #[snafu(display("{host:?} is neither a DNS name nor an address"))]
    Name { host: String, source: InvalidDnsNameError },
    #[snafu(display("can't connect to {host}:{port}: {source}"))]
    Connect { host: String, port: u16, source: io::Error },
    #[snafu(display("{host}:{port} does not speak TLS as this program does: {source}"))]
    Handshake { host: String, port: u16, source: io::Error },
    #[snafu(display("{host}:{port} did not answer within {} s", time.as_secs()))]
    Timeout { host: String, port: u16, time: Duration },
    #[snafu(display("{host}:{port} presents no certificate"))]
    Nothing { host: String, port: u16 },
    #[snafu(display("{source}"), context(false))]
    Settings { source: TlsError },
}

/// The chain that a server presents, its own certificate first. Nothing is sent to it but the handshake.
///
/// # Errors
/// When it can't be reached within `time`, or does not speak TLS.
pub async fn presented(host: &str, port: u16, time: Duration) -> Result<Vec<CertificateDer<'static>>, PresentedError> {
    let name = server_name(host).context(NameSnafu { host })?;
    let config = looking()?;
    let looked = async {
        let stream = TcpStream::connect((bare(host), port)).await;
        let stream = stream.context(ConnectSnafu { host, port })?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let connected = connected.context(HandshakeSnafu { host, port })?;
        let chain = connected.get_ref().1.peer_certificates();
        let chain = chain
            .filter(|chain| !chain.is_empty())
            .context(NothingSnafu { host, port })?;
        Ok(chain
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect())
    };
    let timed = timeout(time, looked).await.ok();
    timed.context(TimeoutSnafu { host, port, time })?
}

/// Whether a client that trusts `roots` and wants `host` accepts a chain at a time.
///
/// # Errors
/// What is wrong with it.
pub fn judge(
    chain: &[CertificateDer<'static>],
    host: &str,
    roots: RootCertStore,
    now: Timestamp,
) -> Result<(), rustls::Error> {
    let general = |reason: &dyn ToString| rustls::Error::General(reason.to_string());
    let name = server_name(host).map_err(|error| general(&error))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| general(&error))?;
    let (own, others) = chain.split_first().ok_or_else(|| general(&"no certificate"))?;
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_server_cert(own, others, &name, &[], now).map(|_| ())
}

fn server_name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(bare(host).to_owned())
}

/// An IPv6 address without the brackets that it has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn looking() -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context(super::VersionsSnafu)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone { provider }))
        .with_no_client_auth();
    Ok(config)
}

/// Takes every certificate, since it is to be looked at, not believed: no word of an application is ever sent on such a connection. That
/// the server has the certificate's key is checked.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
