//! The least that anything between two sockets can do: a process that copies bytes. What it costs is the measure for the gateway.

use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Makes this program the relay.
pub const ARGUMENT: &str = "--relay";

pub struct Relay(Child);

impl Relay {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn start(from: &str, to: &str) -> Relay {
    let program = std::env::current_exe().unwrap();
    let relay = Relay(Command::new(program).args([ARGUMENT, from, to]).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(from).is_err() {
        assert!(Instant::now() < deadline, "the relay does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    relay
}

pub async fn run(from: &str, to: &str) {
    let listener = TcpListener::bind(from).await.unwrap();
    while let Ok((mut client, _)) = listener.accept().await {
        let to = to.to_owned();
        tokio::spawn(async move {
            let mut backend = TcpStream::connect(to).await?;
            client.set_nodelay(true)?;
            backend.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut backend).await
        });
    }
}
