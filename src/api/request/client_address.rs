//! Network address of the client, as seen by the listener.

use std::net::{IpAddr, Ipv6Addr};

/// The /64 network mask of IPv6. One subscriber usually controls a whole /64 network
/// (RFC 6177), so a limit by full address would have no effect.
const IPV6_NETWORK: u128 = !0 << 64;

/// The address of the connection's peer. The server inserts it into the extensions of
/// each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(IpAddr);

impl PeerAddress {
    pub fn new(address: IpAddr) -> Self {
        Self(address)
    }

    /// The unit of limits by address: an IPv4 address, or the /64 network of an IPv6
    /// address. An IPv4-mapped IPv6 address counts as IPv4.
    pub(crate) fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_of_one_network_share_a_limit() {
        let network = |text: &str| PeerAddress::new(text.parse().unwrap()).network().to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
