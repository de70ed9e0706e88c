//! A wire to the API server that can be cut: connections stay open, but nothing comes through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

pub struct Wire {
    pub port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    /// To a port of 127.0.0.1, from another one.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            is_cut: Arc::clone(&is_cut),
        };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, Arc::clone(&is_cut)));
                tokio::spawn(carry(far_in, near_out, Arc::clone(&is_cut)));
            }
        });
        wire
    }

    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::Relaxed);
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, is_cut: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        while is_cut.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
