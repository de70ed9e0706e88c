//! Both sides of a conversation, and what passes between them.

use super::super::MAX_MESSAGE;
use super::super::frame;
use super::super::incoming::MAX_CONTROLS;
use super::super::outgoing::STALLED_AFTER;
use super::*;
use crate::api::status::StopReason;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use std::future::pending;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Peer = WebSocket<DuplexStream>;

struct Conversation {
    client: Peer,
    workspace: Peer,
    end: JoinHandle<End>,
}

fn conversation(stop: impl Future<Output = Stop> + Send + 'static) -> Conversation {
    let (client, client_side) = duplex(64 * 1024);
    let (workspace, workspace_side) = duplex(64 * 1024);
    let end = tokio::spawn(async move {
        let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
        relay(client, workspace, |_| (), |_| (), Recorders::default(), stop).await
    });
    let mut peers = [
        WebSocket::after_handshake(client, Role::Client),
        WebSocket::after_handshake(workspace, Role::Server),
    ];
    for peer in &mut peers {
        peer.set_auto_close(false);
    }
    let [client, workspace] = peers;
    Conversation { client, workspace, end }
}

fn binary(fin: bool, opcode: OpCode, bytes: usize) -> Frame<'static> {
    Frame::new(fin, opcode, None, Payload::Owned(vec![b'a'; bytes]))
}

/// The code of the close frame that a peer gets next.
async fn closed(peer: &mut Peer) -> Option<u16> {
    loop {
        let frame = peer.read_frame().await.unwrap();
        if frame.opcode == OpCode::Close {
            return Close::received(&frame.payload).unwrap();
        }
    }
}

#[tokio::test]
async fn messages_pass_as_they_came() {
    let mut talk = conversation(pending());
    talk.client
        .write_frame(Frame::new(false, OpCode::Binary, None, Payload::Borrowed(b"0l")))
        .await
        .unwrap();
    talk.client
        .write_frame(Frame::new(true, OpCode::Continuation, None, Payload::Borrowed(b"s\r")))
        .await
        .unwrap();
    let first = talk.workspace.read_frame().await.unwrap();
    assert_eq!(
        (first.fin, first.opcode, &*first.payload),
        (false, OpCode::Binary, &b"0l"[..])
    );
    let second = talk.workspace.read_frame().await.unwrap();
    assert_eq!((second.fin, &*second.payload), (true, &b"s\r"[..]));
    talk.workspace
        .write_frame(Frame::binary(Payload::Borrowed(b"0out")))
        .await
        .unwrap();
    assert_eq!(&*talk.client.read_frame().await.unwrap().payload, b"0out");
    talk.client.write_frame(Frame::close(1000, b"")).await.unwrap();
    assert_eq!(closed(&mut talk.workspace).await, Some(1000));
    assert_eq!(
        talk.end.await.unwrap(),
        End::By(Side::Client, Cause::Closed(Some(1000)))
    );
}

#[tokio::test]
async fn a_message_of_one_mebibyte_passes_and_one_byte_more_does_not() {
    let talk = conversation(pending());
    let (mut client, mut workspace) = (talk.client, talk.workspace);
    let writing = tokio::spawn(async move {
        client
            .write_frame(binary(true, OpCode::Binary, MAX_MESSAGE))
            .await
            .unwrap();
        // Counted over the fragments.
        client
            .write_frame(binary(false, OpCode::Binary, MAX_MESSAGE / 2))
            .await
            .unwrap();
        client
            .write_frame(binary(true, OpCode::Continuation, MAX_MESSAGE / 2 + 1))
            .await
            .unwrap();
        closed(&mut client).await
    });
    assert_eq!(workspace.read_frame().await.unwrap().payload.len(), MAX_MESSAGE);
    assert_eq!(closed(&mut workspace).await, Some(1001));
    drop(workspace);
    assert_eq!(writing.await.unwrap(), Some(1009));
    assert_eq!(talk.end.await.unwrap(), End::By(Side::Client, Cause::TooBig));
}

#[tokio::test]
async fn a_heartbeat_is_answered_by_the_workspace_and_shown_to_nobody() {
    let (client, client_side) = duplex(64 * 1024);
    let (workspace, workspace_side) = duplex(64 * 1024);
    let seen = std::sync::Arc::new(StdMutex::new(Vec::new()));
    let (shown, recorded) = (seen.clone(), seen.clone());
    let recorders = Recorders {
        from_client: Some(Box::new(move |piece| {
            recorded.lock().unwrap().push(piece.payload.to_vec());
            true
        })),
        from_workspace: None,
    };
    let end = tokio::spawn(async move {
        let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
        let typed = |frame: &[u8]| shown.lock().unwrap().push(frame.to_vec());
        relay(client, workspace, typed, |_| (), recorders, pending()).await
    });
    let mut client: Peer = WebSocket::after_handshake(client, Role::Client);
    let mut workspace: Peer = WebSocket::after_handshake(workspace, Role::Server);
    client.set_auto_close(false);
    for message in [&b"h1"[..], b"0ls", b"h2", b"hello, but too long to be a heartbeat"] {
        client
            .write_frame(Frame::binary(Payload::Borrowed(message)))
            .await
            .unwrap();
    }
    // A workspace that has read nothing yet has answered nothing.
    let early = timeout(Duration::from_millis(100), client.read_frame()).await;
    assert!(early.is_err());
    // It has no heartbeats: what it sends is passed on.
    workspace
        .write_frame(Frame::binary(Payload::Borrowed(b"h3")))
        .await
        .unwrap();
    assert_eq!(&*client.read_frame().await.unwrap().payload, b"h3");
    // It answers pings while it reads.
    assert_eq!(&*workspace.read_frame().await.unwrap().payload, b"0ls");
    assert!(workspace.read_frame().await.unwrap().payload.starts_with(b"hello"));
    for answer in [b"h1", b"h2"] {
        let frame = client.read_frame().await.unwrap();
        assert_eq!((frame.opcode, &*frame.payload), (OpCode::Binary, &answer[..]));
    }
    let seen = seen.lock().unwrap().clone();
    assert!(
        seen.iter().all(|bytes| !bytes.starts_with(b"h1")) && seen.len() == 4,
        "{seen:?}"
    );
    let reading = tokio::spawn(async move { while workspace.read_frame().await.is_ok() {} });
    // As many as control frames at the most.
    for _ in 0..=MAX_CONTROLS {
        let _ = client.write_frame(Frame::binary(Payload::Borrowed(b"h"))).await;
    }
    assert_eq!(closed(&mut client).await, Some(1002));
    drop(client);
    assert_eq!(end.await.unwrap(), End::By(Side::Client, Cause::ProtocolError));
    reading.await.unwrap();
}

#[tokio::test]
async fn a_workspace_answers_what_was_asked_and_each_once() {
    let mut talk = conversation(pending());
    talk.workspace.set_auto_pong(false);
    let pong = |beat: &'static [u8]| Frame::pong(Payload::Borrowed(beat));
    talk.workspace.write_frame(pong(b"h1")).await.unwrap();
    // Read before anything is asked.
    let output = Frame::binary(Payload::Borrowed(b"0"));
    talk.workspace.write_frame(output).await.unwrap();
    assert_eq!(&*talk.client.read_frame().await.unwrap().payload, b"0");
    for beat in [b"h1", b"h2"] {
        let beat = Frame::binary(Payload::Borrowed(&beat[..]));
        talk.client.write_frame(beat).await.unwrap();
    }
    for beat in [b"h1", b"h2"] {
        let ping = talk.workspace.read_frame().await.unwrap();
        assert_eq!((ping.opcode, &*ping.payload), (OpCode::Ping, &beat[..]));
    }
    for forged in [&b"h9"[..], b"h", b"", b"h2", b"h2", b"h1", b"0planted"] {
        let forged = Frame::pong(Payload::Borrowed(forged));
        talk.workspace.write_frame(forged).await.unwrap();
    }
    talk.workspace.write_frame(Frame::close(1000, b"")).await.unwrap();
    let answer = talk.client.read_frame().await.unwrap();
    assert_eq!((answer.opcode, &*answer.payload), (OpCode::Binary, &b"h2"[..]));
    assert_eq!(talk.client.read_frame().await.unwrap().opcode, OpCode::Close);
    let Conversation { client, workspace, end } = talk;
    drop((client, workspace));
    assert_eq!(end.await.unwrap(), End::By(Side::Workspace, Cause::Closed(Some(1000))));
}

/// A large paste over a slow network, and a large answer: no ping can be sent meanwhile, and none is missed.
#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_slowly_is_a_sign_of_life() {
    for from in [Side::Client, Side::Workspace] {
        let (client, client_side) = duplex(1 << 20);
        let (workspace, workspace_side) = duplex(1 << 20);
        let end = tokio::spawn(async move {
            let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
            relay(client, workspace, |_| (), |_| (), Recorders::default(), pending()).await
        });
        let mask = (from == Side::Client).then_some([1, 2, 3, 4]);
        let frame = frame::encode(Opcode::Binary, &[b'0'; 200_000], mask);
        let (mut slow, other, role) = match from {
            Side::Client => (client, workspace, Role::Server),
            Side::Workspace => (workspace, client, Role::Client),
        };
        let sending = tokio::spawn(async move {
            for piece in frame.chunks(5_000) {
                slow.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
            slow
        });
        let mut other = WebSocket::after_handshake(other, role);
        assert_eq!(other.read_frame().await.unwrap().payload.len(), 200_000);
        drop((sending.await.unwrap(), other));
        end.await.unwrap();
    }
}

/// While a large frame is passed on, nothing else is written to that side, no ping either.
#[tokio::test(start_paused = true)]
async fn large_frames_that_stop_on_both_sides_are_given_up() {
    let (mut client, client_side) = duplex(1 << 20);
    let (mut workspace, workspace_side) = duplex(1 << 20);
    let (socket, backend) = (Socket::new(client_side), Socket::new(workspace_side));
    let end = relay(socket, backend, |_| (), |_| (), Recorders::default(), pending());
    let large = |mask| frame::encode(Opcode::Binary, &[b'0'; 200_000], mask);
    client.write_all(&large(Some([1, 2, 3, 4]))[..5_000]).await.unwrap();
    workspace.write_all(&large(None)[..5_000]).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(100), end).await.unwrap();
    assert!(matches!(end, End::By(_, Cause::Silent)), "{end:?}");
}

/// Load balancers close what is quiet for a minute, or half of one.
#[tokio::test(start_paused = true)]
async fn a_quiet_conversation_has_a_ping_every_25_seconds_on_both_sides() {
    let mut talk = conversation(pending());
    for peer in [&mut talk.client, &mut talk.workspace] {
        peer.set_auto_pong(false);
    }
    let began = Instant::now();
    for turn in 1..=4 {
        for peer in [&mut talk.client, &mut talk.workspace] {
            assert_eq!(peer.read_frame().await.unwrap().opcode, OpCode::Ping);
            let late = began.elapsed().abs_diff(Duration::from_secs(25 * turn));
            assert!(
                late < Duration::from_millis(100),
                "ping {turn} after {:?}",
                began.elapsed()
            );
            peer.write_frame(Frame::pong(Payload::Borrowed(b""))).await.unwrap();
        }
    }
}

#[tokio::test]
async fn frames_out_of_turn_end_it() {
    for (first, second) in [(None, OpCode::Continuation), (Some(OpCode::Binary), OpCode::Text)] {
        let mut talk = conversation(pending());
        if let Some(first) = first {
            talk.client.write_frame(binary(false, first, 1)).await.unwrap();
        }
        talk.client.write_frame(binary(true, second, 1)).await.unwrap();
        assert_eq!(closed(&mut talk.client).await, Some(1002));
        drop(talk.workspace);
        assert_eq!(talk.end.await.unwrap(), End::By(Side::Client, Cause::ProtocolError));
    }
}

#[tokio::test]
async fn a_workspace_can_end_the_conversation_but_no_session() {
    let mut talk = conversation(pending());
    talk.workspace
        .write_frame(Frame::close(4401, b"sign in at other.test"))
        .await
        .unwrap();
    assert_eq!(closed(&mut talk.client).await, Some(1011));
    let Conversation { client, workspace, end } = talk;
    drop((client, workspace));
    assert_eq!(end.await.unwrap(), End::By(Side::Workspace, Cause::Closed(Some(4401))));
}

#[tokio::test]
async fn an_expired_session_and_a_shutdown_have_their_own_codes() {
    for (stop, code) in [
        (Stop::SessionExpired, 4401),
        (Stop::SessionUnconfirmed, 1013),
        (Stop::Shutdown, 1012),
    ] {
        let mut talk = conversation(async move { stop });
        assert_eq!(closed(&mut talk.client).await, Some(code));
        let Conversation { client, workspace, end } = talk;
        drop((client, workspace));
        assert_eq!(end.await.unwrap(), End::Stopped(stop));
    }
}

#[tokio::test]
async fn a_stop_of_the_workspace_is_told_in_the_terminal_but_not_amid_a_message() {
    for amid_message in [false, true] {
        let (stop, stopping) = tokio::sync::oneshot::channel();
        let mut talk = conversation(async move { stopping.await.unwrap() });
        talk.workspace
            .write_frame(binary(!amid_message, OpCode::Binary, 3))
            .await
            .unwrap();
        assert_eq!(&*talk.client.read_frame().await.unwrap().payload, b"aaa");
        stop.send(Stop::Workspace(StopReason::Restart)).unwrap();
        if !amid_message {
            let told = talk.client.read_frame().await.unwrap();
            let text = String::from_utf8(told.payload.to_vec()).unwrap();
            assert!(told.fin && told.opcode == OpCode::Binary);
            assert!(
                text.starts_with("0\x1b[") && text.ends_with("asked for it.\r\n"),
                "{text:?}"
            );
        }
        let close = talk.client.read_frame().await.unwrap();
        assert_eq!((close.opcode, &close.payload[2..]), (OpCode::Close, &b"restart"[..]));
        assert_eq!(Close::received(&close.payload), Ok(Some(4410)));
        let Conversation { client, workspace, end } = talk;
        drop((client, workspace));
        assert_eq!(end.await.unwrap().reason(), "workspace_restart");
    }
}

#[tokio::test]
async fn pings_are_answered_here_and_messages_seen() {
    let (client, client_side) = duplex(4096);
    let (workspace, workspace_side) = duplex(4096);
    let seen = std::sync::Arc::new(StdMutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&seen);
    let end = tokio::spawn(async move {
        relay(
            Socket::new(client_side),
            Socket::new(workspace_side),
            |frame| sink.lock().unwrap().push(frame.to_vec()),
            |_| (),
            Recorders::default(),
            pending(),
        )
        .await
    });
    let mut client = WebSocket::after_handshake(client, Role::Client);
    client
        .write_frame(Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b"p")))
        .await
        .unwrap();
    let pong = client.read_frame().await.unwrap();
    assert_eq!((pong.opcode, &*pong.payload), (OpCode::Pong, &b"p"[..]));
    client
        .write_frame(Frame::binary(Payload::Borrowed(b"0x")))
        .await
        .unwrap();
    drop(client);
    let mut workspace = WebSocket::after_handshake(workspace, Role::Server);
    assert_eq!(&*workspace.read_frame().await.unwrap().payload, b"0x");
    drop(workspace);
    assert_eq!(end.await.unwrap(), End::By(Side::Client, Cause::Lost));
    assert_eq!(*seen.lock().unwrap(), [b"0x".to_vec()]);
}

/// Writes raw bytes in the client's place, and gives how the conversation ends.
async fn end_after(bytes: &[u8]) -> End {
    let (mut client, client_side) = duplex(1 << 20);
    let (_workspace, workspace_side) = duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let (client_side, workspace_side) = (Socket::new(client_side), Socket::new(workspace_side));
    relay(
        client_side,
        workspace_side,
        |_| (),
        |_| (),
        Recorders::default(),
        pending(),
    )
    .await
}

#[tokio::test]
async fn what_is_no_frame_of_a_client_ends_it() {
    let unmasked = frame::encode(Opcode::Binary, b"0l", None);
    assert_eq!(end_after(&unmasked).await, End::By(Side::Client, Cause::ProtocolError));
    assert_eq!(
        end_after(b"GET / HTTP/1.1\r\n\r\n").await,
        End::By(Side::Client, Cause::ProtocolError)
    );
    assert_eq!(end_after(&[0x82]).await, End::By(Side::Client, Cause::Lost));
    let ping = frame::encode(Opcode::Ping, b"", Some([1, 2, 3, 4]));
    let few = ping.repeat(MAX_CONTROLS as usize);
    assert_eq!(end_after(&few).await, End::By(Side::Client, Cause::Lost));
    let many = ping.repeat(MAX_CONTROLS as usize + 1);
    assert_eq!(end_after(&many).await, End::By(Side::Client, Cause::ProtocolError));
}

#[tokio::test]
async fn a_side_that_answers_no_ping_is_gone() {
    let (mut peer, side) = duplex(4096);
    let outgoing = Outgoing::new(Side::Client, Socket::new(side).writer);
    assert_eq!(outgoing.ping(Duration::from_millis(20)).await, Cause::Silent);
    assert!(!outgoing.heard.load(Ordering::Relaxed));
    let mut ping = [0; 2];
    peer.read_exact(&mut ping).await.unwrap();
    assert_eq!(ping, [0x89, 0x00]);
}

/// Listens to a workspace that sends these bytes and then maybe no more; gives what was heard, and how it ended.
async fn listened(sent: Vec<u8>, goes_on: bool) -> (Vec<Vec<u8>>, End) {
    let (mut peer, side) = duplex(1 << 20);
    let speaking = tokio::spawn(async move {
        let _ = peer.write_all(&sent).await;
        if !goes_on {
            peer.shutdown().await.unwrap();
        }
        let _ = peer.read_to_end(&mut Vec::new()).await;
    });
    let mut heard = Vec::new();
    let end = listen(Socket::new(side), b"{}", |frame| heard.push(frame.to_vec())).await;
    speaking.await.unwrap();
    (heard, end)
}

#[tokio::test(start_paused = true)]
async fn who_only_listens_keeps_the_same_rules() {
    let frame = |opcode, payload: &[u8]| frame::encode(opcode, payload, None);
    let output = [
        frame(Opcode::Binary, b"0one"),
        frame(Opcode::Ping, b""),
        frame(Opcode::Binary, b"0two"),
    ]
    .concat();
    let both = vec![b"0one".to_vec(), b"0two".to_vec()];
    let by = |cause| End::By(Side::Workspace, cause);
    assert_eq!(listened(output.clone(), false).await, (both.clone(), by(Cause::Lost)));
    // It stays, but says nothing more and answers nothing.
    assert_eq!(listened(output, true).await, (both, by(Cause::Silent)));
    let large = frame(Opcode::Binary, &vec![b'0'; MAX_MESSAGE + 1]);
    assert_eq!(listened(large, true).await, (vec![], by(Cause::TooBig)));
    for controls in [Opcode::Ping, Opcode::Pong] {
        let flood = frame(controls, b"").repeat(MAX_CONTROLS as usize + 1);
        assert_eq!(listened(flood, true).await, (vec![], by(Cause::ProtocolError)));
    }
    let close = frame(Opcode::Close, &1000u16.to_be_bytes());
    assert_eq!(listened(close, true).await, (vec![], by(Cause::Closed(Some(1000)))));
}

/// Sockets with little room on the way, a workspace that prints for ever, and the task that prints.
fn flooded() -> (DuplexStream, JoinHandle<End>, JoinHandle<()>) {
    let (client, client_side) = duplex(1024);
    let (mut workspace, workspace_side) = duplex(1024);
    let end = tokio::spawn(async move {
        let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
        relay(client, workspace, |_| (), |_| (), Recorders::default(), pending()).await
    });
    let printing = tokio::spawn(async move {
        let frame = frame::encode(Opcode::Binary, &[b'y'; 1000], None);
        while workspace.write_all(&frame).await.is_ok() {}
    });
    (client, end, printing)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_talks_but_takes_nothing_is_given_up() {
    let (client, end, printing) = flooded();
    let began = Instant::now();
    let (unread, mut talking) = tokio::io::split(client);
    let talking = tokio::spawn(async move {
        let key = frame::encode(Opcode::Pong, b"", Some([1, 2, 3, 4]));
        while talking.write_all(&key).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    assert_eq!(end.await.unwrap(), End::By(Side::Client, Cause::Stalled));
    let waited = began.elapsed();
    assert!(waited >= STALLED_AFTER && waited < STALLED_AFTER * 2, "{waited:?}");
    printing.await.unwrap();
    talking.await.unwrap();
    drop(unread);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_neither_talks_nor_takes_anything_is_given_up() {
    let (client, end, printing) = flooded();
    assert_eq!(end.await.unwrap(), End::By(Side::Client, Cause::Stalled));
    printing.await.unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_waited_for() {
    let (mut client, end, printing) = flooded();
    let began = Instant::now();
    let mut some = [0; 500];
    // It answers no ping: they come behind what it has not read yet. A buffer takes it longer than any limit.
    while began.elapsed() < STALLED_AFTER * 20 {
        tokio::time::sleep(STALLED_AFTER / 3).await;
        client.read_exact(&mut some).await.unwrap();
        assert!(!end.is_finished());
    }
    drop(client);
    assert_eq!(end.await.unwrap(), End::By(Side::Client, Cause::Lost));
    printing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_takes_nothing_is_given_up() {
    let (client, client_side) = duplex(1024);
    let (workspace, workspace_side) = duplex(1024);
    let end = tokio::spawn(async move {
        let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
        relay(client, workspace, |_| (), |_| (), Recorders::default(), pending()).await
    });
    let (unread, mut talking) = tokio::io::split(workspace);
    let talking = tokio::spawn(async move {
        let frame = frame::encode(Opcode::Binary, b"0", None);
        while talking.write_all(&frame).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    let paste = frame::encode(Opcode::Binary, &[b'0'; 100_000], Some([1, 2, 3, 4]));
    let (mut reading, mut pasting) = tokio::io::split(client);
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        let _ = reading.read_to_end(&mut got).await;
        got
    });
    // As much as there is room for on the way.
    let _ = timeout(Duration::from_secs(5), pasting.write_all(&paste)).await;
    assert_eq!(end.await.unwrap(), End::By(Side::Workspace, Cause::Stalled));
    assert_eq!(
        reading
            .await
            .unwrap()
            .windows(2)
            .filter(|pair| *pair == 1011u16.to_be_bytes())
            .count(),
        1
    );
    talking.await.unwrap();
    drop(unread);
}

/// However the bytes are cut into pieces, the same frames come out.
#[tokio::test]
async fn pieces_do_not_matter() {
    let sizes = [0usize, 1, 125, 126, 1000, 1024, 65_523, 65_536, 70_000, 200_000];
    for piece in [1usize, 7, 1023, 64 * 1024] {
        let (client, client_side) = duplex(1 << 16);
        let (mut workspace, workspace_side) = duplex(1 << 16);
        let relaying = tokio::spawn(async move {
            relay(
                Socket::new(client_side),
                Socket::new(workspace_side),
                |_| (),
                |_| (),
                Recorders::default(),
                pending(),
            )
            .await
        });
        let sizes = if piece == 1 { &sizes[..6] } else { &sizes[..] };
        let mut wire = Vec::new();
        for size in sizes {
            let mut frame = Frame::binary(Payload::Owned(vec![b'x'; *size]));
            let mut encoded = Vec::new();
            wire.extend_from_slice(frame.write(&mut encoded));
            wire.extend(frame::encode(Opcode::Ping, b"p", None));
        }
        let writing = tokio::spawn(async move {
            for piece in wire.chunks(piece) {
                workspace.write_all(piece).await.unwrap();
            }
            workspace
        });
        let mut client = WebSocket::after_handshake(client, Role::Client);
        client.set_max_message_size(MAX_MESSAGE + 1);
        for size in sizes {
            let frame = client.read_frame().await.unwrap();
            assert_eq!(
                (frame.opcode, frame.payload.len()),
                (OpCode::Binary, *size),
                "pieces of {piece}"
            );
        }
        drop(writing.await.unwrap());
        assert_eq!(relaying.await.unwrap(), End::By(Side::Workspace, Cause::Lost));
    }
}

#[tokio::test]
async fn a_recorder_sees_all_that_is_said() {
    let (client, client_side) = duplex(4096);
    let (workspace, workspace_side) = duplex(4096);
    type Messages = StdMutex<Vec<(Option<Kind>, Vec<u8>)>>;
    let told: [std::sync::Arc<Messages>; 2] = Default::default();
    let recorder = |index: usize| -> Option<OnPiece<'static>> {
        let told = std::sync::Arc::clone(&told[index]);
        let mut is_over = true;
        Some(Box::new(move |piece: Piece<'_>| {
            let mut told = told.lock().unwrap();
            assert_eq!(
                piece.begins.is_some(),
                is_over,
                "a message begins where the one before ended"
            );
            if is_over {
                told.push((piece.begins, vec![]));
            }
            told.last_mut().unwrap().1.extend_from_slice(piece.payload);
            assert!(piece.ahead == 0 || !piece.is_last);
            is_over = piece.is_last;
            true
        }))
    };
    let recorders = Recorders {
        from_client: recorder(0),
        from_workspace: recorder(1),
    };
    let end = tokio::spawn(async move {
        let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
        relay(client, workspace, |_| (), |_| (), recorders, pending()).await
    });
    let mut client = WebSocket::after_handshake(client, Role::Client);
    let mut workspace = WebSocket::after_handshake(workspace, Role::Server);
    let long: Vec<u8> = (0..300_001u32).map(|number| (number % 251) as u8).collect();
    let frames = |long: &[u8]| {
        [
            (true, OpCode::Text, b"{}".to_vec()),
            (false, OpCode::Binary, b"0l".to_vec()),
            (false, OpCode::Continuation, vec![]),
            (true, OpCode::Continuation, long.to_vec()),
            (true, OpCode::Binary, vec![]),
            (true, OpCode::Binary, long.to_vec()),
        ]
    };
    let expected = vec![
        (Some(Kind::Text), b"{}".to_vec()),
        (Some(Kind::Binary), [&b"0l"[..], &long].concat()),
        (Some(Kind::Binary), vec![]),
        (Some(Kind::Binary), long.clone()),
    ];
    for (fin, opcode, payload) in frames(&long) {
        let frame = Frame::new(fin, opcode, None, Payload::Owned(payload));
        let (sent, _) = tokio::join!(client.write_frame(frame), workspace.read_frame());
        sent.unwrap();
    }
    for (fin, opcode, payload) in frames(&long) {
        let frame = Frame::new(fin, opcode, None, Payload::Owned(payload));
        let (sent, _) = tokio::join!(workspace.write_frame(frame), client.read_frame());
        sent.unwrap();
    }
    drop((client, workspace));
    end.await.unwrap();
    for told in &told {
        assert_eq!(*told.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn what_a_recorder_does_not_take_does_not_pass() {
    for (size, passed) in [(3, 2), (100_000, 2), (3, 0)] {
        let (client, client_side) = duplex(1 << 20);
        let (workspace, workspace_side) = duplex(1 << 20);
        let mut begun = 0;
        let recorders = Recorders {
            from_client: None,
            from_workspace: Some(Box::new(move |piece: Piece<'_>| {
                begun += usize::from(piece.begins.is_some());
                begun <= passed
            })),
        };
        let end = tokio::spawn(async move {
            let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
            relay(client, workspace, |_| (), |_| (), recorders, pending()).await
        });
        let mut client = WebSocket::after_handshake(client, Role::Client);
        let mut workspace = WebSocket::after_handshake(workspace, Role::Server);
        client.set_auto_close(false);
        workspace.set_auto_close(false);
        let writing = tokio::spawn(async move {
            for _ in 0..4 {
                let _ = workspace.write_frame(binary(true, OpCode::Binary, size)).await;
            }
            workspace
        });
        let mut received = 0;
        let code = loop {
            let frame = client.read_frame().await.unwrap();
            match frame.opcode {
                OpCode::Close => break Close::received(&frame.payload).unwrap(),
                _ if frame.payload.first() == Some(&b'a') => {
                    assert_eq!(frame.payload.len(), size);
                    received += 1;
                }
                // The last line.
                _ => {}
            }
        };
        assert_eq!((received, code), (passed, Some(4503)), "{size}");
        drop((client, writing.await.unwrap()));
        assert_eq!(end.await.unwrap(), End::Stopped(Stop::NotRecorded));
    }
}

/// What both sides get, and how it ends, when the client sends `pieces`.
async fn outcome(pieces: &[&[u8]]) -> (End, Vec<u8>) {
    let (client, client_side) = duplex(1 << 20);
    let (workspace, workspace_side) = duplex(1 << 20);
    let relaying = tokio::spawn(async move {
        let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
        relay(client, workspace, |_| (), |_| (), Recorders::default(), pending()).await
    });
    let (mut from_gateway, mut to_gateway) = tokio::io::split(client);
    let (mut at_workspace, from_workspace) = tokio::io::split(workspace);
    let draining = tokio::spawn(async move { tokio::io::copy(&mut from_gateway, &mut tokio::io::sink()).await });
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        let _ = at_workspace.read_to_end(&mut got).await;
        // It hangs up, as the gateway has.
        drop(from_workspace);
        got
    });
    for piece in pieces {
        let _ = to_gateway.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let _ = to_gateway.shutdown().await;
    let end = relaying.await.unwrap();
    let mut got = reading.await.unwrap();
    draining.abort();
    // The close frame that ends it is masked with what chance gives: two bytes of head, four of mask, two of code.
    got.truncate(got.len().saturating_sub(8));
    (end, got)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Frames and what is none, cut anywhere: the same comes out as from one piece.
    #[test]
    fn any_bytes_in_any_pieces_end_the_same(
        frames in proptest::collection::vec((0u8..=255, proptest::collection::vec(0u8..=255, 0..200)), 0..6),
        garbage in proptest::collection::vec(0u8..=255, 0..20),
        cuts in proptest::collection::vec(1usize..60, 1..20),
    ) {
        let mut wire = Vec::new();
        for (first, payload) in &frames {
            let mut frame = frame::encode(Opcode::Binary, payload, Some([1, 2, 3, 4]));
            // Mostly whole messages, now and then anything at all.
            if first % 4 == 0 {
                frame[0] = *first;
            }
            wire.extend(frame);
        }
        wire.extend(&garbage);
        let (mut pieces, mut rest, mut cuts) = (Vec::new(), &wire[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            pieces.push(piece);
            rest = behind;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (in_pieces, at_once) = runtime.block_on(async { (outcome(&pieces).await, outcome(&[&wire]).await) });
        proptest::prop_assert_eq!(in_pieces, at_once);
    }
}
