//! One address in front of several: each connection goes to the first of them that takes it, in turn, as at a Service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

pub struct Balancer {
    pub origin: String,
    /// How many connections each has been given.
    pub given: Arc<[AtomicUsize; 2]>,
}

impl Balancer {
    /// On `port` of 127.0.0.1, in front of two `HOST:PORT`.
    pub async fn at(port: u16, behind: [String; 2]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let given = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (counts, mut turn) = (Arc::clone(&given), 0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                for _ in 0..behind.len() {
                    let index = turn % behind.len();
                    turn += 1;
                    let Ok(mut far) = TcpStream::connect(&behind[index]).await else {
                        continue;
                    };
                    counts[index].fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
                    break;
                }
            }
        });
        Self {
            origin: format!("http://127.0.0.1:{port}"),
            given,
        }
    }
}
