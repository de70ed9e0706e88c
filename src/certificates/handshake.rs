//! What a gateway was given becomes the settings of its connections to workspaces.

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use snafu::{ResultExt, Snafu};
use std::sync::Arc;

/// Why there are no settings.
#[derive(Debug, Snafu)]
pub enum HandshakeError {
    #[snafu(display("{what} can't be read: {source}; expected PEM blocks `-----BEGIN CERTIFICATE-----`"))]
    Certificates { what: &'static str, source: PemError },
    // Not the source: a parser may quote what it read, and that is a key.
    #[snafu(display("the private key can't be read: expected a PEM block `-----BEGIN PRIVATE KEY-----`"))]
    Key,
    #[snafu(display("{source}"), context(false))]
    Unusable { source: rustls::Error },
}

/// TLS 1.3 alone (RFC 8446), with a certificate of its own; every connection is a full handshake, so that each proves its name.
///
/// # Errors
/// When one of the three is not what it should be, all in PEM form.
pub fn client(authorities: &[u8], certificate: &[u8], key: &[u8]) -> Result<ClientConfig, HandshakeError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("the list of authorities", authorities)? {
        roots.add(authority)?;
    }
    let chain = certificates("the certificate", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| HandshakeError::Key)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, HandshakeError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.context(CertificatesSnafu { what })
}

#[cfg(test)]
mod tests {
    use super::super::{Authorities, Issued, terminal_name};
    use super::*;
    use jiff::Timestamp;
    use rustls::pki_types::UnixTime;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    /// Handshakes have no other.
    fn now() -> Timestamp {
        Timestamp::from_second(UnixTime::now().as_secs() as i64).unwrap()
    }

    fn gateway(all: &Authorities, own: &Issued) -> ClientConfig {
        let (certificate, key) = (own.certificate.as_bytes(), own.key.as_bytes());
        client(all.of_workspaces().as_bytes(), certificate, key).unwrap()
    }

    /// As a workspace does it.
    fn workspace(all: &Authorities, own: &Issued) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates("", all.of_gateways().as_bytes()).unwrap());
        let provider = || Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let chain = certificates("", own.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap()
    }

    /// Whether both sides are content.
    fn connect(client: ClientConfig, server: ServerConfig, name: &str) -> Result<(), rustls::Error> {
        let name = name.to_owned().try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
            let mut wire = vec![];
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn only_the_right_ones_get_together() {
        let now = now();
        let [own, foreign] = [(); 2].map(|()| Authorities::make(now).unwrap());
        let [one, other] = ["1", "2"].map(terminal_name);
        let issued = |all: &Authorities, name: &str| all.for_workspaces(now).workspace(name).unwrap();
        let as_gateway = own.for_gateways().gateway().unwrap();
        let server = || workspace(&own, &issued(&own, &one));
        connect(gateway(&own, &as_gateway), server(), &one).unwrap();
        connect(gateway(&own, &as_gateway), server(), &other).expect_err("another workspace at this address");
        let stranger = foreign.for_gateways().gateway().unwrap();
        connect(gateway(&own, &stranger), server(), &one).expect_err("a gateway of another installation");
        connect(gateway(&own, &issued(&own, &other)), server(), &one).expect_err("a workspace for a gateway");
        let pretender = workspace(&own, &issued(&foreign, &one));
        connect(gateway(&own, &as_gateway), pretender, &one).expect_err("a workspace of another installation");
        let pretender = workspace(&own, &as_gateway);
        connect(gateway(&own, &as_gateway), pretender, "gateway.workspace.devplane.io")
            .expect_err("a gateway for a workspace");
    }

    #[test]
    fn what_can_not_be_used_is_not_quoted() {
        let own = Authorities::make(now()).unwrap();
        let Issued { certificate, key } = own.for_gateways().gateway().unwrap();
        let broken = key.replace("-----END", "planted\n-----END");
        let error = client(
            own.of_workspaces().as_bytes(),
            certificate.as_bytes(),
            broken.as_bytes(),
        )
        .unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
        client(b"", b"", key.as_bytes()).unwrap_err();
    }
}
