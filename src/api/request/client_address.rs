//! The network address of the client, as the listener saw it.

use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv6 address that name a network. A single customer of a provider has the
/// other 64 bits to choose from, so a limit by whole addresses would limit nothing.
const IPV6_NETWORK: u128 = !0 << 64;

/// Inserted into each request's extensions by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(IpAddr);

impl PeerAddress {
    pub fn new(address: IpAddr) -> Self {
        Self(address)
    }

    /// The unit of limits by address: an IPv4 address, or the /64 network of an IPv6
    /// address.
    pub fn network(self) -> IpAddr {
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
