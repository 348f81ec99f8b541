//! The address of the public gateway for other machines of the network, such as a phone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// Returns the address at which programs of this machine reach a listener.
pub(crate) fn from_here(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

/// Returns the URL at which other machines reach a listener. Returns nothing if they cannot.
pub(crate) fn url(listener: SocketAddr) -> Option<String> {
    let ip = match listener.ip() {
        ip if ip.is_loopback() => return None,
        ip if ip.is_unspecified() => own_ip()?,
        ip => ip,
    };
    Some(format!("http://{}", SocketAddr::new(ip, listener.port())))
}

/// Returns the IPv4 address that this machine uses towards other machines. Nothing is sent: to connect a UDP socket only
/// chooses the route. The other address is one that documents use as an example.
fn own_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// Draws a text as a QR code for a terminal, two rows a line. Returns nothing if the text is too long for one.
///
/// The light modules are drawn, since most terminals are dark. The crate names the colours as on white paper.
pub fn qr_code(text: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn all_addresses_mean_this_machine_from_here() {
        let all = [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("192.168.1.2:80", "192.168.1.2:80"),
        ];
        for (bound, reached) in all {
            assert_eq!(from_here(listener(bound)).to_string(), reached);
        }
    }

    #[test]
    fn other_machines_get_no_loopback_address() {
        assert_eq!(url(listener("127.0.0.1:3000")), None);
        assert_eq!(url(listener("[::1]:3000")), None);
        assert_eq!(url(listener("192.168.1.2:3000")).as_deref(), Some("http://192.168.1.2:3000"));
        // The machine of this test may be on no network.
        let any = url(listener("0.0.0.0:3000"));
        assert!(any.is_none_or(|url| !url.contains("0.0.0.0") && !url.contains("127.") && url.ends_with(":3000")));
    }

    /// Reads the drawing as a camera does: each character is two modules, one above the other.
    fn read(drawing: &str) -> String {
        let rows: Vec<Vec<char>> = drawing.lines().map(|line| line.chars().collect()).collect();
        let is_light = |x: usize, y: usize| match rows[y / 2].get(x) {
            Some('\u{2588}') => true,
            Some('\u{2580}') => y.is_multiple_of(2),
            Some('\u{2584}') => !y.is_multiple_of(2),
            _ => false,
        };
        const SCALE: usize = 4;
        let (width, height) = (rows[0].len() * SCALE, rows.len() * 2 * SCALE);
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            if is_light(x / SCALE, y / SCALE) { 255 } else { 0 }
        });
        let grids = image.detect_grids();
        grids.first().expect("a QR code").decode().expect("a readable one").1
    }

    #[test]
    fn the_qr_code_can_be_read() {
        let url = "http://192.168.100.200:65535";
        assert_eq!(read(&qr_code(url).expect("it fits")), url);
        assert_eq!(qr_code(&"x".repeat(10_000)), None);
    }
}
