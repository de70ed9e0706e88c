//! A reverse proxy in front of the provider: it passes everything on, or answers for one that is down.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The status with which it answers itself; `None` passes on.
pub struct Front(watch::Sender<Option<u16>>);

impl Front {
    /// On `port` of 127.0.0.1, in front of another one.
    pub async fn at(port: u16, behind: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (answers, mut answering) = watch::channel(None);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut answering = answering.clone();
                let status = *answering.borrow_and_update();
                tokio::spawn(async move {
                    // What it does changes for connections that are open, too.
                    tokio::select! {
                        () = serve(&mut near, behind, status) => {}
                        _ = answering.changed() => {}
                    }
                });
            }
            let _ = answering.changed().await;
        });
        Self(answers)
    }

    pub fn answer(&self, status: Option<u16>) {
        self.0.send_replace(status);
    }
}

async fn serve(near: &mut TcpStream, behind: u16, status: Option<u16>) {
    let Some(status) = status else {
        if let Ok(mut far) = TcpStream::connect(("127.0.0.1", behind)).await {
            let _ = copy_bidirectional(near, &mut far).await;
        }
        return;
    };
    // The worst that may stand in such an answer.
    let page = r#"{"error": "invalid_grant"}"#;
    let answer = format!(
        "HTTP/1.1 {status} Down\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    let _ = near.read(&mut [0; 64 * 1024]).await;
    let _ = near.write_all(answer.as_bytes()).await;
    let _ = near.shutdown().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
}
