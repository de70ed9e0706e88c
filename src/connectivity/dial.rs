//! A target becomes what came back from it.

use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long an attempt takes at most: half of it for the connection, half for the answer.
pub const LONGEST_ATTEMPT: Duration = Duration::from_secs(4);

const HALF: Duration = Duration::from_secs(2);
/// A datagram may get lost.
const DATAGRAMS: u32 = 4;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Observed {
    /// At least one byte came back.
    Answered,
    /// A connection was made, and nothing came back on it: a proxy on the way may have taken it.
    Opened,
    /// No connection, in whatever way: policies are enforced by dropping packets, by a reset, or by a message that nobody is there.
    Refused,
}

/// Where to, and what to say so that somebody who is there answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    pub address: SocketAddr,
    pub asks: Asks,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asks {
    /// Nothing, by TCP: the other side speaks first.
    Nothing,
    /// A request of HTTP/1.0. A server that wants TLS answers that it does, or with an alert.
    Http,
    /// A name of DNS, by UDP.
    Name,
}

impl Asks {
    fn words(self) -> &'static [u8] {
        match self {
            Self::Nothing => b"",
            Self::Http => b"GET /healthz HTTP/1.0\r\n\r\n",
            // The address of localhost (RFC 1035, section 4.1), which every server answers, with a refusal at least.
            Self::Name => b"\xd0\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01",
        }
    }
}

/// Makes the attempt. It never fails: what goes wrong is what was observed.
pub async fn dial(target: Target) -> Observed {
    let Target { address, asks } = target;
    match asks {
        Asks::Name => ask_name(address, asks.words()).await.unwrap_or(Observed::Refused),
        Asks::Nothing | Asks::Http => match timeout(HALF, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => timeout(HALF, ask(stream, asks.words()))
                .await
                .unwrap_or(Observed::Opened),
            Ok(Err(_)) | Err(_) => Observed::Refused,
        },
    }
}

async fn ask(mut stream: TcpStream, words: &[u8]) -> Observed {
    let mut answer = [0];
    if stream.write_all(words).await.is_err() {
        return Observed::Opened;
    }
    match stream.read(&mut answer).await {
        Ok(1..) => Observed::Answered,
        Ok(0) | Err(_) => Observed::Opened,
    }
}

async fn ask_name(address: SocketAddr, words: &[u8]) -> io::Result<Observed> {
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    let mut answer = [0; 512];
    for _ in 0..DATAGRAMS {
        socket.send(words).await?;
        if timeout(LONGEST_ATTEMPT / DATAGRAMS, socket.recv(&mut answer))
            .await
            .is_ok_and(|got| got.is_ok())
        {
            return Ok(Observed::Answered);
        }
    }
    Ok(Observed::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn who_speaks_has_answered_and_who_only_accepts_has_not() {
        let (speaks, speaking) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = speaks.accept().await.unwrap();
            stream.write_all(b"x").await.unwrap();
        });
        let (_silent, silent) = listener().await;
        let (closed, nobody) = listener().await;
        drop(closed);
        for (address, expected) in [
            (speaking, Observed::Answered),
            (silent, Observed::Opened),
            (nobody, Observed::Refused),
        ] {
            let target = Target {
                address,
                asks: Asks::Nothing,
            };
            assert_eq!(dial(target).await, expected);
        }
    }

    #[tokio::test]
    async fn a_name_is_asked_for_until_somebody_answers() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let mut question = [0; 512];
            server.recv_from(&mut question).await.unwrap();
            let (length, from) = server.recv_from(&mut question).await.unwrap();
            server.send_to(&question[..length], from).await.unwrap();
            // One question (RFC 1035, section 4.1.1), and nothing behind it.
            (question[4..6].to_vec(), length)
        });
        let target = Target {
            address,
            asks: Asks::Name,
        };
        assert_eq!(dial(target).await, Observed::Answered);
        assert_eq!(asked.await.unwrap(), (vec![0, 1], 12 + 11 + 4));
        let (unbound, nobody) = listener().await;
        drop(unbound);
        let target = Target {
            address: nobody,
            asks: Asks::Name,
        };
        assert_eq!(dial(target).await, Observed::Refused);
    }
}
