//! Protection against server-side request forgery (SSRF): the author of a channel must not
//! reach addresses that only this machine can.
//!
//! A name is resolved once, and the connection goes to the checked address, so a second
//! resolution cannot return another one (DNS rebinding).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;
use url::{Host, Url};

/// First address and prefix length of the blocks that the IANA IPv4 special-purpose address
/// registry (RFC 6890) does not mark as globally reachable, and of multicast.
const NOT_PUBLIC_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Global unicast (RFC 4291): no other IPv6 block is public.
const GLOBAL_V6: (u128, u8) = (0x2000 << 112, 3);

/// Blocks of global unicast that are not public.
const NOT_PUBLIC_V6: [(u128, u8); 4] = [
    // IETF protocol assignments, Teredo among them.
    (0x2001 << 112, 23),
    (0x2001_0db8 << 96, 32),
    // 6to4: embeds an arbitrary IPv4 address.
    (0x2002 << 112, 16),
    (0x3fff << 112, 20),
];

/// NAT64 (RFC 6052): IPv4 addresses embedded behind this prefix, in IPv6-only networks.
const NAT64: (u128, u8) = (0x0064_ff9b << 96, 96);

/// Whether the address belongs to the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    // Shifted to the top, so that prefixes of both versions compare alike.
    let bits = u128::from(address.to_bits()) << 96;
    !NOT_PUBLIC_V4.iter().any(|(first, length)| {
        let first = u128::from(u32::from_be_bytes(*first)) << 96;
        share_prefix(bits, first, *length)
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    if share_prefix(bits, NAT64.0, NAT64.1) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    share_prefix(bits, GLOBAL_V6.0, GLOBAL_V6.1)
        && !NOT_PUBLIC_V6.iter().any(|(first, length)| share_prefix(bits, *first, *length))
}

/// Whether the first `length` bits are equal; `length` is at least one, as a shift by 128
/// overflows.
fn share_prefix(one: u128, other: u128, length: u8) -> bool {
    (one ^ other) >> (128 - u32::from(length)) == 0
}

/// The address, or every address of the name, is not public.
#[derive(Debug)]
pub(super) struct AddressNotAllowed {
    host: String,
}

impl fmt::Display for AddressNotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        write!(f, "{host} is not a public address; see alerts.allow_private_addresses")
    }
}

impl Error for AddressNotAllowed {}

/// Checks an address literal, which never reaches the [`GuardedResolver`].
pub(super) fn check_literal(url: &Url) -> Result<(), AddressNotAllowed> {
    let address: IpAddr = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(_)) | None => return Ok(()),
    };
    if is_public(address) { Ok(()) } else { Err(AddressNotAllowed { host: address.to_string() }) }
}

/// DNS resolver that returns only permitted addresses.
#[derive(Debug, Clone)]
pub(super) struct GuardedResolver {
    pub(super) allow_private: bool,
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allow_private = self.allow_private;
        Box::pin(async move {
            // The connector sets the port.
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let is_known = !found.is_empty();
            let mut allowed = found;
            allowed.retain(|address| allow_private || is_public(address.ip()));
            if allowed.is_empty() && is_known {
                return Err(AddressNotAllowed { host: name.as_str().to_owned() }.into());
            }
            Ok(allowed.into_iter())
        })
    }
}
