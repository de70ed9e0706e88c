//! A provider whose certificate an authority of a company has signed, before and after that authority is exchanged.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::Site;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use std::fs;
use std::path::Path;

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The provider's certificate and key, where it reads them when it starts.
fn give(directory: &Path, authority: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    fs::write(directory.join("idp.crt"), certificate.pem()).unwrap();
    fs::write(directory.join("idp.key"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_s_authority_is_exchanged_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (first, second) = (authority("first"), authority("second"));
    give(directory.path(), &first);
    // What Kubernetes mounts, and what the user's browser has.
    fs::write(path("ca.crt"), first.pem()).unwrap();
    fs::write(path("browser.crt"), first.pem() + &second.pem()).unwrap();
    let tls = json!({"tls": {"cert": path("idp.crt"), "key": path("idp.key")}});
    let site = Site::at_provider("private-ca", tls).await;
    let origin = site.origin();
    let browser = || Browser::trusting(path("browser.crt"));

    let bundle = path("ca.crt");
    let gateway = site.gateway(&[("CA_BUNDLE_FILE", bundle.to_str().unwrap())]).await;
    assert_eq!(browser().sign_in(&origin, "dev1").await.status, 302);

    // The provider is first: nobody signs in at one that can't be believed to be it.
    give(directory.path(), &second);
    site.start_provider();
    let refused = eventually(async || browser().page(&format!("{origin}/login")).await.status == 503);
    assert!(refused.await, "{}", gateway.log());
    fs::write(&bundle, second.pem()).unwrap();
    let back = eventually(async || browser().page(&format!("{origin}/login")).await.status == 302);
    assert!(back.await, "{}", gateway.log());
    assert_eq!(browser().sign_in(&origin, "dev1").await.status, 302);
    assert!(gateway.log().contains("the authorities to trust have changed"));
}
