//! Address-range text (`10.96.0.0/16`) becomes an [`IpNet`] without host bits, and ranges are cut out of each other.

use ipnet::IpNet;
use std::net::IpAddr;

/// Where clouds give out credentials and what machines are to run at their start: whoever reaches it may be the machine.
/// Amazon's and others' (with those for containers), Alibaba's, Azure's, Amazon's over IPv6, and Google's over IPv6.
pub const METADATA: &[&str] = &[
    "169.254.169.254/32",
    "169.254.170.0/24",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "fd00:ec2::/32",
    "fd20:ce::254/128",
];

pub fn is_metadata(address: IpAddr) -> bool {
    let mut ranges = METADATA.iter().filter_map(|range| range.parse::<IpNet>().ok());
    ranges.any(|range| range.contains(&address))
}

/// Reads one range, or a single address as the range that holds just it.
///
/// # Errors
/// Says what was expected when the text is no range of RFC 4632 / RFC 4291 notation, or has bits set behind its prefix
/// (Kubernetes refuses those too, and they are nearly always a mistake).
pub fn parse(text: &str) -> Result<IpNet, String> {
    let expected = || "an address range such as 10.96.0.0/16 or fd00::/8".to_owned();
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| expected())?),
    };
    if net.trunc() != net {
        return Err(format!(
            "an address range without bits behind its prefix, here {}",
            net.trunc()
        ));
    }
    Ok(net)
}

/// The ranges of `carve` that lie inside `from`, without those that another one already covers, in a fixed order:
/// what a NetworkPolicy `ipBlock.except` takes (Kubernetes API: each entry must be strictly inside the CIDR).
pub fn except(from: IpNet, carve: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let inside: Vec<IpNet> = carve
        .into_iter()
        .filter(|net| *net != from && from.contains(net))
        .collect();
    IpNet::aggregate(&inside)
}

/// The ranges that lie in some of `one` and in some of `two`, in a fixed order.
pub fn intersect(one: &[IpNet], two: &[IpNet]) -> Vec<IpNet> {
    let mut both = Vec::new();
    for (one, two) in one.iter().flat_map(|one| two.iter().map(move |two| (one, two))) {
        if one.contains(two) {
            both.push(*two);
        } else if two.contains(one) {
            both.push(*one);
        }
    }
    IpNet::aggregate(&both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect(text)
    }

    #[test]
    fn reads_ranges_and_single_addresses() {
        assert_eq!(parse("10.96.0.0/16"), Ok(net("10.96.0.0/16")));
        assert_eq!(parse("10.0.0.7"), Ok(net("10.0.0.7/32")));
        assert_eq!(parse("fd00:ec2::254"), Ok(net("fd00:ec2::254/128")));
        assert!(parse("10.0.0.7/8").unwrap_err().contains("10.0.0.0/8"));
        assert!(parse("cluster").is_err());
    }

    #[test]
    fn intersects_what_lies_in_both() {
        let all = ["0.0.0.0/0", "::/0"].map(net);
        let some = ["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"].map(net);
        assert_eq!(intersect(&all, &some), some);
        assert_eq!(
            intersect(&some, &["10.1.0.0/16", "10.2.3.4/32", "8.0.0.0/6"].map(net)),
            [net("10.0.0.0/8")]
        );
        assert_eq!(
            intersect(&some, &["10.1.0.0/16", "198.51.100.0/24"].map(net)),
            [net("10.1.0.0/16")]
        );
        assert_eq!(intersect(&some, &[]), []);
    }

    #[test]
    fn carves_only_what_lies_inside_and_once() {
        let all = net("0.0.0.0/0");
        let carved = except(
            all,
            ["10.0.0.0/8", "10.96.0.0/16", "fe80::/10", "0.0.0.0/0", "10.0.0.0/8"].map(net),
        );
        assert_eq!(carved, [net("10.0.0.0/8")]);
    }
}
