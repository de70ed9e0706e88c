//! Recordings that a web server has are verified from there, and nothing that it answers is believed.

use crate::harness::{ended, keys, options};
use assert_cmd::Command;
use bytes::Bytes;
use devplane::recording::Options;
use http_body_util::Full;
use hyper::header::LOCATION;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server of the files of a directory under `/r/`, and what it was asked for.
struct Server {
    origin: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn serve(directory: &Path, tls: Option<ServerConfig>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let origin = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
    let asked = Arc::new(Mutex::new(vec![]));
    let (directory, told) = (directory.to_owned(), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (directory, told, acceptor) = (directory.clone(), Arc::clone(&told), acceptor.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let path = request.uri().path().to_owned();
                    told.lock().unwrap().push(path.clone());
                    let answer = answer(&directory, &path);
                    async { Ok::<_, Infallible>(answer) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let _ = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                    None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                }
            });
        }
    });
    Server { origin, asked }
}

fn answer(directory: &Path, path: &str) -> Response<Full<Bytes>> {
    let with = |status, body: Vec<u8>| {
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        answer
    };
    match path.strip_prefix("/r/") {
        // As a web server lists a directory.
        Some("") => {
            let names = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
            let links = names.map(|name| {
                let name = name.to_str().unwrap().to_owned();
                format!("<a href=\"{name}\">{name}</a>")
            });
            with(StatusCode::OK, links.collect::<String>().into_bytes())
        }
        Some(name) if !name.contains('/') => match fs::read(directory.join(name)) {
            Ok(bytes) => with(StatusCode::OK, bytes),
            Err(_) => with(StatusCode::NOT_FOUND, vec![]),
        },
        _ if path.starts_with("/moved/") => {
            let mut moved = with(StatusCode::FOUND, vec![]);
            let elsewhere = path.replace("/moved/", "/r/");
            moved.headers_mut().insert(LOCATION, elsewhere.parse().unwrap());
            moved
        }
        _ => with(StatusCode::FORBIDDEN, vec![]),
    }
}

/// Where copies are kept meanwhile.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// What `verify` says, and with which code it exits.
fn verify(url: &str, scratch: &Path, more: &[&str]) -> (i32, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_devplane"));
    program
        .env_clear()
        .args(["doctor", "recording", "verify", url, "--scratch"]);
    let output = program
        .arg(scratch)
        .arg("--public-key")
        .arg(&keys().1)
        .args(more)
        .output()
        .unwrap();
    assert_eq!(scratch.read_dir().unwrap().count(), 0, "the copies are removed");
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

async fn verified(url: String, more: &'static [&'static str]) -> (i32, String) {
    tokio::task::spawn_blocking(move || verify(&url, scratch().path(), more))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_a_ledger_and_a_directory_are_verified_from_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let compressed = Options {
        compress: true,
        ..options(directory.path(), "g1")
    };
    let first = ended(compressed, 1).await;
    ended(options(directory.path(), "g2"), 2).await;
    let server = serve(directory.path(), None).await;
    let at = |name: &str| format!("{}/r/{name}", server.origin);

    let id = &first[0].id;
    let (code, one) = verified(at(&format!("{id}.manifest.json")), &[]).await;
    assert!(
        code == 0 && one.contains("one session alone") && one.contains(id),
        "{one}"
    );
    // The last ledger leads to the one before, and both to all sessions.
    for name in ["ledger-g2.ndjson", ""] {
        let (code, all) = verified(at(name), &[]).await;
        assert!(
            code == 0 && all.ends_with("3 sessions: 3 ok, 0 failed; 2 ledgers, 0 problems between sessions\n"),
            "{name}: {all}"
        );
    }

    // Taken away from the server: found by the ledger.
    for file in first[0].all() {
        let _ = fs::remove_file(file);
    }
    for name in ["ledger-g2.ndjson", ""] {
        let (code, missing) = verified(at(name), &[]).await;
        assert!(
            code == 1 && missing.contains(&format!("the session {id} is missing")),
            "{missing}"
        );
    }
    fs::remove_file(directory.path().join("ledger-g1.ndjson")).unwrap();
    let (code, cut) = verified(at(""), &[]).await;
    assert!(
        code == 1 && cut.contains("the ledger of g1 is missing or was cut"),
        "{cut}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_answers_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = ended(options(directory.path(), "g"), 1).await;
    let server = serve(directory.path(), None).await;
    let manifest = format!("{}.manifest.json", sessions[0].id);
    let of = |path: &str, name: &str| format!("{}/{path}/{name}", server.origin);
    for (url, more, code, says) in [
        (of("moved", &manifest), &[][..], 1, "redirects are not followed"),
        (of("closed", &manifest), &[], 1, "HTTP status 403"),
        (
            of("r", "session-20261125T072312Z-0123456789abcdef.ndjson"),
            &[],
            64,
            "there are no recordings",
        ),
        (of("r", &manifest), &["--max-size", "1Ki"], 1, "is too large"),
        (of("r", "x?token=planted"), &[], 64, "is no address"),
        ("http://localhost:1/".to_owned(), &[], 1, "can't reach"),
    ] {
        let (found, text) = verified(url, more).await;
        assert!(
            found == code && text.contains(says) && !text.contains("planted"),
            "{found} {text}"
        );
    }
    // A ledger that names what is elsewhere: nothing but plain names is asked for.
    let ledger = directory.path().join("ledger-g.ndjson");
    let text = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, text.replace(&sessions[0].id, "../../etc/passwd")).unwrap();
    server.asked.lock().unwrap().clear();
    let (code, _) = verified(of("r", "ledger-g.ndjson"), &[]).await;
    assert_eq!(code, 1);
    assert_eq!(*server.asked.lock().unwrap(), ["/r/ledger-g.ndjson"]);
}

/// What was said in terminals does not stay behind when whoever verifies has no patience.
#[tokio::test(flavor = "multi_thread")]
async fn copies_are_removed_when_it_is_interrupted() {
    // A server that answers nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/r/", listener.local_addr().unwrap());
    for signal in ["TERM", "INT"] {
        let scratch = scratch();
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_devplane"))
            .env_clear()
            .args(["doctor", "recording", "verify", &url, "--scratch"])
            .arg(scratch.path())
            .spawn()
            .unwrap();
        let copies = || scratch.path().read_dir().unwrap().count();
        let _connection = listener.accept().await.unwrap();
        assert_eq!(copies(), 1);
        let sent = std::process::Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let status = tokio::task::spawn_blocking(move || child.wait())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(status.code(), Some(130), "{signal}");
        assert_eq!(copies(), 0, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_must_show_a_certificate_that_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    ended(options(directory.path(), "g"), 1).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    let bundle: PathBuf = directory.path().join("ca.pem");
    fs::write(&bundle, &certificate).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let server = serve(directory.path(), Some(tls)).await;
    let url = format!("{}/r/", server.origin);
    let (code, refused) = verified(url.clone(), &[]).await;
    assert!(code == 1 && refused.contains("certificate"), "{refused}");
    assert!(server.asked.lock().unwrap().is_empty());
    let (url, bundle) = (url, bundle.to_str().unwrap().to_owned());
    let (code, all) = tokio::task::spawn_blocking(move || verify(&url, scratch().path(), &["--ca-bundle", &bundle]))
        .await
        .unwrap();
    assert!(code == 0 && all.contains("1 sessions: 1 ok"), "{all}");
}
