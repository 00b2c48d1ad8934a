//! Which addresses a callback may be sent to. Whoever may name a URL would else reach what only this network may
//! (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// A server on the internet.
    Public,
    /// A server of one's own network, or this machine.
    Private,
    /// What no callback ever goes to, whatever is allowed: what tells a machine its credentials, and what is no server's address.
    Shut,
}

/// Which addresses may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRules {
    /// Whether those of private networks and of this machine are among them.
    pub allow_private: bool,
}

impl AddressRules {
    /// Whether an address may be connected to.
    #[must_use]
    pub fn permit(self, address: IpAddr) -> bool {
        let reach = match address {
            IpAddr::V4(address) => reach_of_v4(address),
            IpAddr::V6(address) => reach_of_v6(address),
        };
        match reach {
            Reach::Public => true,
            Reach::Private => self.allow_private,
            Reach::Shut => false,
        }
    }
}

/// A network: its address and the bits of its prefix.
type Network<A> = (A, u32);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> Network<Ipv4Addr> {
    (Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u32) -> Network<Ipv6Addr> {
    (Ipv6Addr::from_segments(segments), prefix)
}

/// Private networks and the machine itself (RFC 1918, RFC 6598, RFC 1122).
const PRIVATE_V4: [Network<Ipv4Addr>; 5] =
    [v4(10, 0, 0, 0, 8), v4(172, 16, 0, 0, 12), v4(192, 168, 0, 0, 16), v4(100, 64, 0, 0, 10), v4(127, 0, 0, 0, 8)];

/// What no server has (IANA's registry of special-purpose addresses, RFC 6890), and where clouds keep credentials.
const SHUT_V4: [Network<Ipv4Addr>; 14] = [
    // This network, with the unspecified address, which leads to this machine.
    v4(0, 0, 0, 0, 8),
    // Link-local: the metadata of nearly every cloud, such as 169.254.169.254, 169.254.170.2 and .23 (AWS), 169.254.42.42 (Scaleway).
    v4(169, 254, 0, 0, 16),
    // IETF protocol assignments: 192.0.0.192 was Oracle's metadata.
    v4(192, 0, 0, 0, 24),
    // Alibaba's metadata, inside the shared addresses.
    v4(100, 100, 100, 200, 32),
    // Azure's, a public address.
    v4(168, 63, 129, 16, 32),
    // Documentation.
    v4(192, 0, 2, 0, 24),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Relays of 6to4, which are no more (RFC 7526).
    v4(192, 88, 99, 0, 24),
    // Name servers of private networks (AS112), and relays of multicast.
    v4(192, 175, 48, 0, 24),
    v4(192, 52, 193, 0, 24),
    // Benchmarks.
    v4(198, 18, 0, 0, 15),
    // Multicast.
    v4(224, 0, 0, 0, 4),
    // Reserved, with the broadcast address.
    v4(240, 0, 0, 0, 4),
];

/// This machine, unique-local networks and their forerunner, site-local (RFC 4193, RFC 3879).
const PRIVATE_V6: [Network<Ipv6Addr>; 3] =
    [v6([0, 0, 0, 0, 0, 0, 0, 1], 128), v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10)];

/// Where clouds keep credentials inside the private networks.
const METADATA_V6: [Network<Ipv6Addr>; 3] = [
    // AWS: fd00:ec2::254, and ::23 for pods.
    v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0], 32),
    // Google.
    v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254], 128),
    // Scaleway.
    v6([0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042], 128),
];

/// All that IANA has given to the internet; what is outside is not on it (RFC 4291, IANA's registry of the IPv6 address space).
const GLOBAL_V6: Network<Ipv6Addr> = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What is inside, and no server's (IANA's registry of special-purpose addresses).
const SHUT_V6: [Network<Ipv6Addr>; 5] = [
    // IETF protocol assignments: Teredo (2001::/32, an IPv4 address inside, bits turned), benchmarks, ORCHID.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    // Documentation.
    v6([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    // 6to4: an IPv4 address inside, which a router near by would send to.
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    // Name servers of private networks (AS112).
    v6([0x2620, 0x004f, 0x8000, 0, 0, 0, 0, 0], 48),
];

/// IPv4 by another name (RFC 4291, 2.5.5.2), and by a translator (RFC 6052): both lead to the address in the last 32 bits. One's own
/// translators (64:ff9b:1::/48, RFC 8215) may lead anywhere, so they are shut like everything outside the internet.
const IPV4_INSIDE: [Network<Ipv6Addr>; 2] =
    [v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), v6([0x0064, 0xff9b, 0, 0, 0, 0, 0, 0], 96)];

fn reach_of_v4(address: Ipv4Addr) -> Reach {
    let is_in = |networks: &[Network<Ipv4Addr>]| {
        networks.iter().any(|(network, prefix)| (address.to_bits() ^ network.to_bits()) >> (32 - prefix) == 0)
    };
    // The private ones last: metadata is among them.
    if is_in(&SHUT_V4) {
        Reach::Shut
    } else if is_in(&PRIVATE_V4) {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_of_v6(address: Ipv6Addr) -> Reach {
    let is_in = |networks: &[Network<Ipv6Addr>]| {
        networks.iter().any(|(network, prefix)| (address.to_bits() ^ network.to_bits()) >> (128 - prefix) == 0)
    };
    if is_in(&IPV4_INSIDE) {
        let [.., a, b, c, d] = address.octets();
        return reach_of_v4(Ipv4Addr::new(a, b, c, d));
    }
    if is_in(&METADATA_V6) || is_isatap(address) {
        Reach::Shut
    } else if is_in(&PRIVATE_V6) {
        Reach::Private
    } else if is_in(&[GLOBAL_V6]) && !is_in(&SHUT_V6) {
        Reach::Public
    } else {
        Reach::Shut
    }
}

/// Whether a router would unpack it and send it on to the IPv4 address in its last 32 bits, whatever its network (RFC 5214, 6.1).
fn is_isatap(address: Ipv6Addr) -> bool {
    let [.., first, second, _, _] = address.segments();
    matches!(first, 0 | 0x0200) && second == 0x5efe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(allow_private: bool, text: &str) -> bool {
        AddressRules { allow_private }.permit(text.parse().unwrap())
    }

    #[test]
    fn servers_on_the_internet_may_be_called() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "168.63.129.15",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:80b::200e",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(permitted(false, address) && permitted(true, address), "{address}");
        }
    }

    #[test]
    fn private_addresses_may_be_called_where_that_is_allowed() {
        for address in [
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "::1",
            "fc00::1",
            "fd12:3456:789a::1",
            "fec0::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
        ] {
            assert!(!permitted(false, address), "{address}");
            assert!(permitted(true, address), "{address}");
        }
    }

    #[test]
    fn metadata_and_what_is_no_server_is_never_called() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "169.254.42.42",
            "169.254.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:42::42",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "febf::1",
            "::ffff:169.254.169.254",
            "::ffff:168.63.129.16",
            "::169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a00:0:100::",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:808:808::1",
            "2001:0:7f00:1::8080:8080",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
            "2a00:1450::5efe:127.0.0.1",
            "2a00:1450::200:5efe:10.0.0.1",
            "fd12::5efe:169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.8",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0.0.0.0",
            "100::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "ff02::1",
            "ff0e::1",
            "4000::1",
        ] {
            assert!(!permitted(false, address) && !permitted(true, address), "{address}");
        }
    }
}
