//! The WebSocket protocol, RFC 6455, as a table by section: the bytes that are sent, and the expected frames. It tests
//! the local stack's server, so it is skipped if the suite runs against a deployment.

use futures::future::join_all;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Deployment, Frame, User, within};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The bit in the first byte of the last frame of a message.
const FIN: u8 = 0x80;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The largest frame and the largest message, as at API Gateway.
const MAX_FRAME_BYTES: usize = 32 * 1024;
const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Back {
    /// A message with the request id that was sent.
    Echo(String),
    /// A pong with these bytes.
    Pong(Vec<u8>),
    /// A close with this code or without one. The server then ends the connection.
    Close(Option<u16>),
}

/// The frames of a client and the expected answer. If the answer has no close, the client closes and the server must
/// answer that.
struct Case {
    section: &'static str,
    name: String,
    sent: Vec<u8>,
    back: Vec<Back>,
}

fn case(section: &'static str, name: impl Into<String>, sent: &[Vec<u8>], back: &[Back]) -> Case {
    Case { section, name: name.into(), sent: sent.concat(), back: back.to_vec() }
}

/// A case that the server ends with this code.
fn closed(section: &'static str, name: impl Into<String>, sent: &[Vec<u8>], code: u16) -> Case {
    case(section, name, sent, &[Back::Close(Some(code))])
}

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len()), payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()]
        .concat()
}

/// The header of a client's frame.
fn header(first: u8, length: usize) -> Vec<u8> {
    let length = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..=125), _) => vec![0x80 | length],
        (_, Ok(length)) => [&[0x80 | 126][..], &length.to_be_bytes()].concat(),
        _ => [&[0x80 | 127][..], &length.to_be_bytes()].concat(),
    };
    [vec![first], length, MASK.to_vec()].concat()
}

/// A message that is answered with this request id.
fn message(id: &str) -> String {
    format!(r#"{{"requestId":"{id}"}}"#)
}

fn text(payload: &[u8]) -> Vec<u8> {
    frame(FIN | TEXT, payload)
}

fn echo(id: &str) -> Back {
    Back::Echo(id.to_owned())
}

fn close_of(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// A text message cut into frames at these positions, which may be equal.
fn cut(message: &[u8], places: &[usize]) -> Vec<Vec<u8>> {
    let starts = [&[0], places].concat();
    let ends = [places, &[message.len()]].concat();
    let parts = starts.iter().zip(&ends).enumerate();
    parts
        .map(|(n, (start, end))| {
            let opcode = if n == 0 { TEXT } else { CONTINUATION };
            let fin = if n == places.len() { FIN } else { 0 };
            frame(fin | opcode, &message[*start..*end])
        })
        .collect()
}

/// The sample handshake of section 1.3.
const HANDSHAKE: [&str; 5] = [
    "Host: 127.0.0.1",
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// Sends a request, and returns the head of the response in lower case.
async fn request(deployment: &Deployment, method: &str, version: &str, headers: &[&str]) -> (TcpStream, String) {
    let token = User::of(deployment, "raw").token().to_owned();
    request_line(deployment, &format!("{method} /ws?access_token={token} {version}"), headers).await
}

async fn request_line(deployment: &Deployment, line: &str, headers: &[&str]) -> (TcpStream, String) {
    let address = deployment.public.strip_prefix("http://").expect("the local stack speaks HTTP");
    let mut stream = TcpStream::connect(address).await.expect("the local stack listens");
    let request = format!("{line}\r\n{}\r\n\r\n", headers.join("\r\n"));
    stream.write_all(request.as_bytes()).await.expect("an open connection takes a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the head of a response", stream.read_u8()).await.expect("a response comes"));
    }
    (stream, String::from_utf8(head).expect("the head of a response is text").to_lowercase())
}

/// The next frame, or nothing if the connection has ended. Asserts that it is a whole message without a mask (5.1).
async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<Back> {
    let first = within("a frame or the end", stream.read_u8()).await.ok()?;
    assert_eq!(first & 0xf0, FIN, "a whole message without reserved bits");
    let length = match stream.read_u8().await.ok()? {
        126 => usize::from(stream.read_u16().await.ok()?),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some(match first & 0x0f {
        TEXT => Back::Echo(Frame::read(std::str::from_utf8(&payload).expect("a text is UTF-8")).text("requestId")),
        PONG => Back::Pong(payload),
        CLOSE => Back::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        other => panic!("a frame of opcode {other}"),
    })
}

/// The frames that a case brings back.
async fn outcome(deployment: &Deployment, case: &Case) -> Vec<Back> {
    let (stream, head) = request(deployment, "GET", "HTTP/1.1", &HANDSHAKE).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let (mut reading, mut writing) = stream.into_split();
    let reading = async {
        let mut got = Vec::new();
        while got.len() < case.back.len() {
            match next(&mut reading).await {
                Some(back) => got.push(back),
                None => break,
            }
        }
        (got, reading)
    };
    // The server may close before it has read everything.
    let ((mut got, mut reading), _) = tokio::join!(reading, writing.write_all(&case.sent));
    if !matches!(got.last(), Some(Back::Close(_))) {
        let bye = close_of(1000, b"");
        let _ = writing.write_all(&bye).await;
        got.push(next(&mut reading).await.unwrap_or(Back::Close(None)));
        assert_eq!(got.pop(), Some(Back::Close(Some(1000))), "{} {}: still open", case.section, case.name);
    }
    while let Some(more) = next(&mut reading).await {
        got.push(more);
    }
    got
}

/// Runs all cases in parallel, and reports those that fail.
async fn check(cases: &[Case]) {
    if Deployment::is_elsewhere() {
        return;
    }
    let deployment = Deployment::shared();
    let outcomes = join_all(cases.iter().map(|case| outcome(&deployment, case))).await;
    let wrong = cases.iter().zip(outcomes).filter(|(case, got)| case.back != *got);
    let wrong: Vec<String> = wrong
        .map(|(Case { section, name, back, .. }, got)| format!("{section} {name}: expected {back:?}; got {got:?}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test]
async fn section_4_the_opening_handshake() {
    if Deployment::is_elsewhere() {
        return;
    }
    let deployment = Deployment::shared();
    let (_stream, head) = request(&deployment, "GET", "HTTP/1.1", &HANDSHAKE).await;
    assert!(head.starts_with("http/1.1 101 "), "4.2.2: {head}");
    for line in ["upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="] {
        assert!(head.lines().any(|header| header == line), "4.2.2: {line} in {head}");
    }
    assert!(!head.contains("sec-websocket-extensions") && !head.contains("sec-websocket-protocol"), "4.2.2: {head}");

    // The header to replace, its replacement, and the expected answer.
    for (section, without, instead, answer) in [
        ("4.2.1 host", "Host", "X-Other: 1", "400 "),
        ("4.2.1 upgrade", "Upgrade:", "X-Other: 1", "400 "),
        ("4.2.1 another upgrade", "Upgrade:", "Upgrade: h2c", "400 "),
        ("4.2.1 connection", "Connection", "Connection: close", "400 "),
        ("4.2.1 key", "Sec-WebSocket-Key", "X-Other: 1", "400 "),
        ("4.2.1 a key of 15 bytes", "Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA", "400 "),
        ("4.2.1 a key that is not Base64", "Sec-WebSocket-Key", "Sec-WebSocket-Key: ~~~~", "400 "),
        ("4.4 version", "Sec-WebSocket-Version", "X-Other: 1", "426 "),
        ("4.4 another version", "Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", "426 "),
        ("4.2.1 any case of letters", "Upgrade:", "UPGRADE: WebSocket", "101 "),
        ("9.1 an extension", "Host", "Host: a\r\nSec-WebSocket-Extensions: permessage-deflate", "101 "),
    ] {
        let headers = HANDSHAKE.map(|header| if header.starts_with(without) { instead } else { header });
        let (_stream, head) = request(&deployment, "GET", "HTTP/1.1", &headers).await;
        assert!(head.starts_with(&format!("http/1.1 {answer}")), "{section}: {head}");
        assert!(!head.contains("sec-websocket-extensions"), "{section}: {head}");
        assert_eq!(answer == "426 ", head.contains("\r\nsec-websocket-version: 13\r\n"), "{section}: {head}");
    }
    for (method, version) in [("POST", "HTTP/1.1"), ("GET", "HTTP/1.0")] {
        let (_stream, head) = request(&deployment, method, version, &HANDSHAKE).await;
        assert!(head[9..].starts_with('4'), "4.2.1 {method} {version}: {head}");
    }
}

#[tokio::test]
async fn section_11_3_4_lines_of_subprotocols_are_one_list() {
    if Deployment::is_elsewhere() {
        return;
    }
    let deployment = Deployment::shared();
    let user = User::of(&deployment, "raw");
    let (chat, token) = ("Sec-WebSocket-Protocol: chat", format!("sec-websocket-protocol: {}", user.token()));
    for (lines, status) in [(&[chat, &token][..], "101"), (&[&token, chat], "401"), (&[chat, &token, &token], "401")] {
        let headers = [&HANDSHAKE[..], lines].concat();
        let (_stream, head) = request_line(&deployment, "GET /ws HTTP/1.1", &headers).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{lines:?}: {head}");
        let answered = head.lines().any(|line| line == "sec-websocket-protocol: chat");
        assert_eq!(answered, status == "101", "{lines:?}: {head}");
    }
}

#[tokio::test]
async fn two_origin_headers_are_refused() {
    if Deployment::is_elsewhere() {
        return;
    }
    let deployment = Deployment::shared();
    let own = format!("Origin: {}", deployment.public);
    for (origins, status) in [(&[own.as_str()][..], "101"), (&[&own, &own], "403"), (&[&own, "origin: null"], "403")] {
        let headers = [&HANDSHAKE[..], origins].concat();
        let (_stream, head) = request(&deployment, "GET", "HTTP/1.1", &headers).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{origins:?}: {head}");
    }
}

#[tokio::test]
async fn section_5_1_and_5_2_frames() {
    let whole = message("whole");
    let mut unmasked = text(whole.as_bytes());
    unmasked[1] &= 0x7f;
    let spaced = |bytes| format!("{:bytes$}", message("spaced"));
    let mut cases = vec![
        case("5.2", "one frame", &[text(whole.as_bytes())], &[echo("whole")]),
        case("5.2", "a length in 16 bits", &[text(spaced(300).as_bytes())], &[echo("spaced")]),
        case("5.2", "a frame of 32 KiB", &[text(spaced(MAX_FRAME_BYTES).as_bytes())], &[echo("spaced")]),
        closed("5.1", "a frame without a mask", &[unmasked], 1002),
        closed("5.1", "a control frame without a mask", &[vec![FIN | PING, 0]], 1002),
        closed("5.2", "a length whose first bit is set", &[header(FIN | TEXT, 1 << 63)], 1009),
        closed("10.4", "a frame of 32 KiB and a byte", &[header(FIN | TEXT, MAX_FRAME_BYTES + 1)], 1009),
        closed("10.4", "a frame of all that can be said", &[header(FIN | TEXT, usize::MAX >> 1)], 1009),
        closed("5.6", "a binary message, which API Gateway does not take", &[frame(FIN | BINARY, b"x")], 1003),
    ];
    for bit in [0x40, 0x20, 0x10] {
        cases.push(closed("5.2", format!("reserved bit {bit:#x}"), &[frame(FIN | bit | TEXT, b"{}")], 1002));
        cases.push(closed("5.2", format!("reserved bit {bit:#x} of a ping"), &[frame(FIN | bit | PING, b"")], 1002));
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        cases.push(closed("5.2", format!("reserved opcode {opcode:#x}"), &[frame(FIN | opcode, b"")], 1002));
    }
    check(&cases).await;
}

#[tokio::test]
async fn section_5_4_fragments() {
    let whole = message("whole");
    let whole = whole.as_bytes();
    let each_byte: Vec<usize> = (1..whole.len()).collect();
    let ping = frame(FIN | PING, b"between");
    let mut interleaved = cut(whole, &[5, 9]);
    interleaved.insert(1, ping.clone());
    interleaved.insert(3, ping);
    let pong = Back::Pong(b"between".to_vec());
    let start = frame(TEXT, b"{");
    let many_empty = cut(whole, &[5; 20_000]);
    check(&[
        case("5.4", "three fragments", &cut(whole, &[5, 9]), &[echo("whole")]),
        case("5.4", "a fragment for each byte", &cut(whole, &each_byte), &[echo("whole")]),
        case("5.4", "an empty first and last fragment", &cut(whole, &[0, whole.len()]), &[echo("whole")]),
        case("5.4", "twenty thousand empty fragments", &many_empty, &[echo("whole")]),
        case("5.4", "pings between fragments", &interleaved, &[pong.clone(), pong, echo("whole")]),
        closed("5.4", "a continuation of nothing", &[frame(FIN | CONTINUATION, b"{}")], 1002),
        closed("5.4", "a continuation after the end", &[text(b"{}"), frame(CONTINUATION, b"")], 1002),
        closed("5.4", "a message within a message", &[start.clone(), text(b"{}")], 1002),
        closed("5.4", "a binary message within a message", &[start.clone(), frame(FIN | BINARY, b"")], 1002),
        closed("5.4", "a close within a message", &[start, close_of(1001, b"")], 1001),
    ])
    .await;
}

#[tokio::test]
async fn section_5_5_control_frames() {
    let pong = |payload: &[u8]| Back::Pong(payload.to_vec());
    let full: Vec<u8> = (0..125).map(|byte| byte | 0x80).collect();
    let mut cases = vec![
        case("5.5.2", "an empty ping", &[frame(FIN | PING, b"")], &[pong(b"")]),
        case("5.5.2", "a ping of 125 bytes that are no UTF-8", &[frame(FIN | PING, &full)], &[pong(&full)]),
        case(
            "5.5.3",
            "a pong that nobody asked for",
            &[frame(FIN | PONG, b"x"), frame(FIN | PING, b"y")],
            &[pong(b"y")],
        ),
    ];
    for opcode in [PING, PONG, CLOSE] {
        let long = frame(FIN | opcode, &[&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat());
        cases.push(closed("5.5", format!("126 bytes in a control frame {opcode:#x}"), &[long], 1002));
        let part = frame(opcode, &1000_u16.to_be_bytes());
        cases.push(closed("5.5", format!("a fragment of a control frame {opcode:#x}"), &[part], 1002));
    }
    check(&cases).await;
}

#[tokio::test]
async fn section_5_5_1_and_7_the_closing_handshake() {
    let mut cases = vec![
        case("5.5.1", "a close without a code", &[frame(FIN | CLOSE, b"")], &[Back::Close(None)]),
        closed("5.5.1", "a code cut in half", &[frame(FIN | CLOSE, &[3])], 1002),
        closed("5.5.1", "the longest reason", &[close_of(1000, &[b'x'; 123])], 1000),
        closed("5.5.1", "a reason that is no UTF-8", &[close_of(1000, b"\xce\xba\xe1")], 1007),
        closed("5.5.1", "frames after a close", &[close_of(1000, b""), text(b"{}"), frame(FIN | PING, b"")], 1000),
        closed("5.5.1", "nonsense after a close", &[close_of(1000, b""), vec![0xff; 64]], 1000),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(closed("7.4.1", format!("the code {code}"), &[close_of(code, b"why")], code));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push(closed("7.4.2", format!("the code {code}, which nobody may send"), &[close_of(code, b"why")], 1002));
    }
    check(&cases).await;
}

#[tokio::test]
async fn section_8_1_invalid_utf_8() {
    let greek = "κόσμε-\u{10ffff}-\u{7ff}-\u{ffff}";
    let message = message(greek);
    let (whole, middle) = (message.as_bytes(), message.find("όσμε").unwrap() + 1);
    let mut cases = vec![
        case("8.1", "many scripts", &[text(whole)], &[echo(greek)]),
        case("8.1", "a character in two fragments", &cut(whole, &[middle]), &[echo(greek)]),
        case("8.1", "an empty fragment in a character", &cut(whole, &[middle, middle]), &[echo(greek)]),
        closed("8.1", "no UTF-8 in two fragments", &[frame(TEXT, b"\xce"), frame(FIN | CONTINUATION, b"{")], 1007),
        closed("8.1", "a character that does not end", &cut(&whole[..middle], &[3]), 1007),
    ];
    for (name, bytes) in [
        ("a byte that never occurs", &b"\xff"[..]),
        ("a continuation byte", b"\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong null", b"\xe0\x80\x80"),
        ("half a surrogate pair", b"\xed\xa0\x80"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
        ("a cut character", b"\xf0\x9f\x98"),
    ] {
        cases.push(closed("8.1", name, &[text(&[b"{\"type\":\"", bytes, b"\"}"].concat())], 1007));
    }
    check(&cases).await;
}

#[tokio::test]
async fn section_10_4_limits_hold_for_any_fragments() {
    let longest = [frame(TEXT, b"{"), vec![frame(CONTINUATION, &[b' '; 32 * 1024]); 3].concat()].concat();
    let tiny = |bytes: usize| [frame(TEXT, b" "), frame(CONTINUATION, b" ").repeat(bytes - 1)].concat();
    let end = frame(FIN | CONTINUATION, b"");
    let id = message("padded");
    let padded = [tiny(20_000), frame(FIN | CONTINUATION, id.as_bytes())];
    check(&[
        closed("10.4", "128 KiB and a byte", &[longest, frame(CONTINUATION, &[b' '; 32 * 1024])], 1009),
        closed("10.4", "128 KiB and a byte, one by one", &[tiny(MAX_MESSAGE_BYTES + 1), end], 1009),
        case("10.4", "twenty thousand fragments of a byte", &padded, &[echo("padded")]),
    ])
    .await;
}
