//! A certificate authority of a site's own, and servers' certificates that it signs.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pub pem: String,
}

/// A server's certificate with its key, in files.
pub struct Served {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::until(name, 2099)
    }

    /// One that ended on the first day of a year.
    pub fn until(name: &str, year: i32) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// For a server at `names`, in files of `directory`.
    pub fn serve(&self, names: &[&str], directory: &Path) -> Served {
        self.serve_until(names, 2099, directory)
    }

    pub fn serve_until(&self, names: &[&str], year: i32, directory: &Path) -> Served {
        let mut params = Self::server(names);
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(&params, directory)
    }

    /// One that ends in some days.
    #[allow(dead_code, reason = "one tier alone looks at what ends soon")]
    #[allow(
        clippy::disallowed_methods,
        reason = "whoever looks at the certificate has the real clock"
    )]
    pub fn serve_for_days(&self, names: &[&str], days: u64, directory: &Path) -> Served {
        let mut params = Self::server(names);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(days * 86400);
        self.sign(&params, directory)
    }

    fn server(names: &[&str]) -> CertificateParams {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params
    }

    fn sign(&self, params: &CertificateParams, directory: &Path) -> Served {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        let served = Served {
            certificate: directory.join("server.crt"),
            key: directory.join("server.key"),
        };
        std::fs::write(&served.certificate, pem).unwrap();
        std::fs::write(&served.key, key.serialize_pem()).unwrap();
        served
    }

    /// What a client trusts, in a file.
    pub fn bundle(&self, directory: &Path) -> PathBuf {
        let path = directory.join(format!("ca-{}.crt", self.pem.len()));
        std::fs::write(&path, &self.pem).unwrap();
        path
    }
}
