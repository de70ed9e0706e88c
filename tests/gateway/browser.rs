//! A browser as far as HTTP goes: cookies, redirects, forms and WebSockets, to loopback addresses.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

/// Where our own page opens a terminal.
const OWN_TERMINAL: &str = "/ws?client=page";
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub url: Url,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn location(&self) -> Url {
        self.url.join(self.header(LOCATION.as_str())).unwrap()
    }

    pub fn cookies(&self) -> Vec<&str> {
        let values = self.headers.get_all(SET_COOKIE).iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }
}

/// Cookies by origin: ports are sites of their own here, unlike in a real browser.
#[derive(Default)]
pub struct Browser {
    cookies: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// Whom it trusts where it speaks HTTPS.
    authorities: Option<PathBuf>,
}

impl Browser {
    /// One that trusts the authorities of a file.
    pub fn trusting(authorities: PathBuf) -> Self {
        Self {
            authorities: Some(authorities),
            ..Self::default()
        }
    }

    pub async fn get(&self, url: &str) -> Option<Answer> {
        self.request(Method::GET, url, &[], "").await
    }

    pub async fn page(&self, url: &str) -> Answer {
        let accept = [("accept", "text/html")];
        self.request(Method::GET, url, &accept, "").await.unwrap()
    }

    /// One request, without following a redirect; `None` when nothing answers.
    pub async fn request(&self, method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let url = Url::parse(url).unwrap();
        let request = self
            .head(method, &url, headers)
            .body(Full::new(Bytes::from(body.to_owned())));
        let answered = timeout(LIMIT, async {
            let mut sender = connect(&url, self.authorities.as_deref()).await?;
            let response = sender.send_request(request.unwrap()).await.ok()?;
            let (head, body) = response.into_parts();
            Some((head, body.collect().await.ok()?.to_bytes()))
        });
        let (head, body) = answered.await.expect("no answer in time")?;
        self.keep(&url, &head.headers);
        Some(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            url,
        })
    }

    /// `count` requests, one after the other on one connection that is kept alive; each is answered with 200.
    #[allow(dead_code, reason = "only the benchmark keeps connections")]
    pub async fn keep_asking(&self, url: &str, count: usize) {
        let url = Url::parse(url).unwrap();
        let mut sender = connect(&url, self.authorities.as_deref()).await.unwrap();
        for _ in 0..count {
            let request = self.head(Method::GET, &url, &[]).body(Full::new(Bytes::new()));
            sender.ready().await.unwrap();
            let response = sender.send_request(request.unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap();
        }
    }

    fn head(&self, method: Method, url: &Url, headers: &[(&str, &str)]) -> hyper::http::request::Builder {
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", url.authority());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies = self.cookies.lock().unwrap();
        if let Some(jar) = cookies.get(url.authority()).filter(|jar| !jar.is_empty()) {
            let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        request
    }

    fn keep(&self, url: &Url, headers: &HeaderMap) {
        let mut cookies = self.cookies.lock().unwrap();
        let jar = cookies.entry(url.authority().to_owned()).or_default();
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie::Cookie::parse(cookie.to_str().unwrap().to_owned()).unwrap();
            if cookie.value().is_empty() || cookie.max_age().is_some_and(|age| age.is_zero()) {
                jar.remove(cookie.name());
            } else {
                jar.insert(cookie.name().to_owned(), cookie.value().to_owned());
            }
        }
    }

    /// The cookies for a site.
    pub fn jar(&self, origin: &str) -> BTreeMap<String, String> {
        let authority = Url::parse(origin).unwrap().authority().to_owned();
        self.cookies
            .lock()
            .unwrap()
            .get(&authority)
            .cloned()
            .unwrap_or_default()
    }

    /// Another one with the same cookies for a site, which it goes on to send whatever this one is given later.
    pub fn frozen(&self, origin: &str) -> Self {
        let authority = Url::parse(origin).unwrap().authority().to_owned();
        Self {
            cookies: Mutex::new([(authority, self.jar(origin))].into()),
            authorities: self.authorities.clone(),
        }
    }

    /// Takes over what another browser has for a site, and for this site gives it to another address.
    pub fn copy(&self, from: &str, to: &str) {
        let jar = self.jar(from);
        let authority = Url::parse(to).unwrap().authority().to_owned();
        self.cookies.lock().unwrap().insert(authority, jar);
    }

    /// From an address of the provider to where it sends the browser back, which is not asked yet.
    pub async fn sign_in_at_provider(&self, start: &Url, user: &str, back: &str) -> Url {
        let mut url = start.clone();
        for _ in 0..10 {
            if url.as_str().starts_with(back) {
                return url;
            }
            let answer = self.page(url.as_str()).await;
            let answer = if answer.status == 200 {
                let form = format!("login={user}&password=any");
                let headers = [(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")];
                self.request(Method::POST, url.as_str(), &headers, &form).await.unwrap()
            } else {
                answer
            };
            assert!((300..400).contains(&answer.status), "{answer:?}");
            url = answer.location();
        }
        panic!("the provider does not send the browser back");
    }

    /// The whole sign-in; gives the answer of the callback.
    pub async fn sign_in(&self, origin: &str, user: &str) -> Answer {
        let login = self.page(&format!("{origin}/login")).await;
        assert_eq!(login.status, 302, "{login:?}");
        let back = self.sign_in_at_provider(&login.location(), user, origin).await;
        self.page(back.as_str()).await
    }

    /// An ID token for a client of the provider, as a program would get one: with a code that the gateway never sees.
    pub async fn id_token(&self, issuer: &str, client: (&str, &str), redirect: &str, user: &str) -> String {
        let verifier = "a-verifier-that-is-long-enough-for-the-rules-of-rfc-7636";
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let mut url = Url::parse(&format!("{issuer}/auth")).unwrap();
        url.query_pairs_mut().extend_pairs([
            ("client_id", client.0),
            ("redirect_uri", redirect),
            ("response_type", "code"),
            ("scope", "openid email profile"),
            ("state", "s"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let back = self.sign_in_at_provider(&url, user, redirect).await;
        let code = back
            .query_pairs()
            .find(|(name, _)| name == "code")
            .unwrap()
            .1
            .into_owned();
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "authorization_code"),
                ("code", &code),
                ("redirect_uri", redirect),
                ("code_verifier", verifier),
            ])
            .finish();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", client.0, client.1));
        let headers = [
            (CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded"),
            ("authorization", &format!("Basic {basic}")),
        ];
        let answer = self
            .request(Method::POST, &format!("{issuer}/token"), &headers, &form)
            .await;
        answer.unwrap().json()["id_token"].as_str().unwrap().to_owned()
    }

    /// Asks for a WebSocket, as a program does: the terminal, or the answer that refuses it.
    pub async fn terminal(&self, origin: &str, headers: &[(&str, &str)]) -> Result<Terminal, Answer> {
        self.terminal_at(origin, "/ws", headers).await
    }

    /// The same at a path of one's own.
    pub async fn terminal_at(&self, origin: &str, path: &str, headers: &[(&str, &str)]) -> Result<Terminal, Answer> {
        let url = Url::parse(&format!("{origin}{path}")).unwrap();
        let mut request = self
            .head(Method::GET, &url, headers)
            .body(Full::new(Bytes::new()))
            .unwrap();
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "tty"),
        ] {
            let name = HeaderName::from_static(name);
            request
                .headers_mut()
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        let mut sender = connect(&url, self.authorities.as_deref()).await.unwrap();
        let mut response = sender.send_request(request).await.unwrap();
        if response.status() != 101 {
            let (head, body) = response.into_parts();
            return Err(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned(),
                url,
            });
        }
        // RFC 6455, section 1.3, gives the answer to this key.
        assert_eq!(
            response.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(response.headers()["sec-websocket-protocol"], "tty");
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        let mut socket = WebSocket::after_handshake(TokioIo::new(upgraded), Role::Client);
        socket.set_auto_close(false);
        Ok(Terminal {
            socket,
            screen: String::new(),
            recorded: serde_json::Value::Null,
            refused: None,
        })
    }

    /// A terminal of our own page that shows a prompt.
    pub async fn own_shell(&self, origin: &str) -> Terminal {
        let mut terminal = self.own_terminal(origin, origin).await;
        terminal.hello().await;
        terminal.until("$ ").await;
        terminal
    }

    /// What a browser sends when our own page opens a terminal, and the first that it is told: whether the session is recorded, or by a
    /// close code that there is no terminal.
    pub async fn own_terminal(&self, origin: &str, public: &str) -> Terminal {
        let opened = self.terminal_at(origin, OWN_TERMINAL, &[("origin", public)]).await;
        let mut terminal = opened.unwrap_or_else(|answer| panic!("no terminal: {answer:?}"));
        let first = timeout(LIMIT, terminal.socket.read_frame()).await.unwrap().unwrap();
        match (first.opcode, &*first.payload) {
            (OpCode::Binary, [b'r', notice @ ..]) => terminal.recorded = serde_json::from_slice(notice).unwrap(),
            (OpCode::Close, payload) => terminal.refused = Some(close(payload)),
            other => panic!("neither a notice nor a refusal: {other:?}"),
        }
        terminal
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn connect(url: &Url, authorities: Option<&Path>) -> Option<Sender> {
    let host = url.host_str().unwrap();
    let stream = TcpStream::connect((host, url.port().unwrap())).await.ok()?;
    if url.scheme() == "http" {
        return speak(stream).await;
    }
    let tls = TlsConnector::from(Arc::new(devplane::tls::client(authorities).unwrap()));
    let name = ServerName::try_from(host.to_owned()).unwrap();
    speak(tls.connect(name, stream).await.ok()?).await
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Option<Sender> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Some(sender)
}

/// An open terminal, speaking ttyd's protocol.
pub struct Terminal {
    pub socket: WebSocket<TokioIo<Upgraded>>,
    pub screen: String,
    /// What our own page was told of it.
    pub recorded: serde_json::Value,
    /// The close code and reason of one that our own page was refused.
    pub refused: Option<(u16, String)>,
}

/// The code and the reason of a close frame (RFC 6455, section 5.5.1).
fn close(payload: &[u8]) -> (u16, String) {
    let (code, reason) = payload.split_first_chunk().unwrap();
    (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned())
}

impl Terminal {
    pub async fn send(&mut self, message: &[u8]) {
        let frame = Frame::binary(Payload::Borrowed(message));
        self.socket.write_frame(frame).await.unwrap();
    }

    pub async fn hello(&mut self) {
        self.send(br#"{"AuthToken":"","columns":80,"rows":24}"#).await;
    }

    pub async fn type_keys(&mut self, keys: &str) {
        self.send(format!("0{keys}").as_bytes()).await;
    }

    /// Reads until the screen shows `text`.
    pub async fn until(&mut self, text: &str) {
        self.until_shown(text, |screen| screen.contains(text)).await;
    }

    /// Reads until the shell asks again behind `text`.
    pub async fn until_asked_behind(&mut self, text: &str) {
        let asks = |screen: &str| {
            screen
                .rsplit_once(text)
                .is_some_and(|(_, behind)| behind.contains("$ "))
        };
        self.until_shown(text, asks).await;
    }

    async fn until_shown(&mut self, text: &str, is_shown: impl Fn(&str) -> bool) {
        while !is_shown(&self.screen) {
            let frame = timeout(LIMIT, self.socket.read_frame()).await;
            let frame = frame
                .unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.screen))
                .unwrap();
            match frame.opcode {
                OpCode::Binary if frame.payload.first() == Some(&b'0') => {
                    self.screen.push_str(&String::from_utf8_lossy(&frame.payload[1..]));
                }
                OpCode::Close => panic!("closed: {:?} {:?}", frame.payload, self.screen),
                _ => {}
            }
        }
    }

    /// Reads until the close frame, and gives its code.
    pub async fn closed(&mut self) -> u16 {
        self.closed_because().await.0
    }

    /// Reads until the close frame, and gives its code and reason.
    pub async fn closed_because(&mut self) -> (u16, String) {
        if let Some(refused) = self.refused.take() {
            return refused;
        }
        loop {
            let frame = timeout(LIMIT, self.socket.read_frame()).await.unwrap().unwrap();
            if frame.opcode == OpCode::Close {
                let (code, reason) = close(&frame.payload);
                // The close handshake (RFC 6455, section 7.1.2).
                let _ = self.socket.write_frame(Frame::close(code, b"")).await;
                return (code, reason);
            }
        }
    }
}
