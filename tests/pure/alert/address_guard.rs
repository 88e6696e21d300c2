//! Public addresses, compared with IANA's registries of special-purpose blocks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use segmentd::outbound::guard::is_public;

/// Every block of the "IPv4 Special-Purpose Address Registry" that is not globally
/// reachable, and multicast. Two single addresses of 192.0.0.0/24 are reachable and still
/// refused: no alert goes to a protocol anycast.
const SPECIAL: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "192.88.99.2/32",
    "255.255.255.255/32",
];

/// The same for IPv6, including addresses that embed an IPv4 address, and unallocated
/// blocks.
const SPECIAL_V6: [&str; 22] = [
    "::/128",
    "::1/128",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:2::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "4000::/3",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

fn block(text: &str) -> (u32, u32) {
    let (first, length) = text.split_once('/').unwrap();
    let first = first.parse::<Ipv4Addr>().unwrap().to_bits();
    (first, first | u32::MAX.checked_shr(length.parse().unwrap()).unwrap_or(0))
}

fn block_v6(text: &str) -> (u128, u128) {
    let (first, length) = text.split_once('/').unwrap();
    let first = first.parse::<Ipv6Addr>().unwrap().to_bits();
    (first, first | u128::MAX.checked_shr(length.parse().unwrap()).unwrap_or(0))
}

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

fn v6(bits: u128) -> IpAddr {
    Ipv6Addr::from_bits(bits).into()
}

#[test]
fn both_ends_of_every_special_block_are_refused() {
    for (first, last) in SPECIAL.map(block) {
        assert!(!is_public(v4(first)) && !is_public(v4(last)), "{} {}", v4(first), v4(last));
    }
    for (first, last) in SPECIAL_V6.map(block_v6) {
        assert!(!is_public(v6(first)) && !is_public(v6(last)), "{} {}", v6(first), v6(last));
    }
}

#[test]
fn public_addresses_are_allowed() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        // Name servers for private addresses: globally reachable.
        "192.31.196.1",
        "192.175.48.1",
        "223.255.255.255",
        "2001:200::1",
        "2606:4700:4700::1111",
        "2620:4f:8000::1",
        "2a00:1450:4001:80b::200e",
        // NAT64 of 8.8.8.8, as seen in an IPv6-only network.
        "64:ff9b::808:808",
    ] {
        assert!(is_public(address.parse().unwrap()), "{address}");
    }
}

#[test]
fn an_address_embedded_in_another_is_checked() {
    for address in [
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "2002:0a00:0001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fe80::5efe:10.0.0.1",
    ] {
        assert!(!is_public(address.parse().unwrap()), "{address}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    #[test]
    fn an_ipv4_address_is_public_exactly_outside_of_the_blocks(bits: u32) {
        let is_special = SPECIAL.map(block).iter().any(|(first, last)| (*first..=*last).contains(&bits));
        prop_assert_eq!(is_public(v4(bits)), !is_special, "{}", v4(bits));
        let nat64 = v6((0x0064_ff9b << 96) | u128::from(bits));
        prop_assert_eq!(is_public(nat64), !is_special, "{}", nat64);
        let mapped = v6((0xffff << 32) | u128::from(bits));
        prop_assert!(!is_public(mapped));
    }

    #[test]
    fn no_ipv6_address_within_a_block_is_public(block in prop::sample::select(&SPECIAL_V6[..]), bits: u128) {
        let (first, last) = block_v6(block);
        let within = first | (bits & (last - first));
        prop_assert!(!is_public(v6(within)), "{}", v6(within));
    }

    #[test]
    fn global_unicast_outside_of_the_blocks_is_public(bits: u128) {
        let bits = (0x2000 << 112) | (bits >> 3);
        let is_special =
            SPECIAL_V6.map(block_v6).iter().any(|(first, last)| (*first..=*last).contains(&bits));
        prop_assert_eq!(is_public(v6(bits)), !is_special, "{}", v6(bits));
    }
}
