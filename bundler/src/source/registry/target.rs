//! Where a registry may send us: the rules for `realm` and for redirects, and for the addresses behind their names.
//!
//! | attack | answer |
//! |---|---|
//! | redirect or realm without TLS, to read or change what follows | refused, but to hosts that the release lists as insecure |
//! | redirect to the metadata service of a cloud, or to this machine | link-local never, loopback and private addresses only when the registry itself has such an address, or the host is listed |
//! | a public name with a private address behind it | names are looked up here, and addresses of the wrong kind are dropped |
//! | a password in the address | refused |

use std::collections::BTreeSet;
use std::env;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;

/// The rules for one registry.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The registry itself, `host:port`.
    own: String,
    /// Whether the registry's own address is a private or loopback one.
    own_is_inside: bool,
    /// `host:port` that the vendor named in the release, of any address.
    listed: BTreeSet<String>,
    /// Those of them that are spoken to without TLS.
    plain: BTreeSet<String>,
}

/// How far away an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Inside,
    /// Link-local, unspecified, multicast: nothing that a registry has business with.
    Never,
}

impl Rules {
    /// Makes the rules of the registry at `base`; looks its name up.
    pub(super) async fn of(base: &Url, listed: BTreeSet<String>, plain: BTreeSet<String>) -> Self {
        let own = authority(base);
        let addresses = tokio::net::lookup_host(&own).await;
        let own_is_inside =
            addresses.is_ok_and(|mut all| all.any(|it| reach(it.ip()) == Reach::Inside));
        Self {
            own,
            own_is_inside,
            listed,
            plain,
        }
    }

    /// Says why `target` is refused.
    pub(super) fn check(&self, target: &Url) -> Result<(), &'static str> {
        let authority = authority(target);
        if !target.username().is_empty() || target.password().is_some() {
            return Err("it has a password in it");
        }
        match target.scheme() {
            "https" => {}
            "http" if self.plain.contains(&authority) => {}
            _other => return Err("it is not https, and not listed as insecure"),
        }
        if authority == self.own || self.listed.contains(&authority) {
            return Ok(());
        }
        let literal = target.host_str().map(|host| host.trim_matches(['[', ']']));
        let reach = match literal.map(|host| (host, host.parse::<IpAddr>())) {
            Some((_, Ok(address))) => reach(address),
            Some((name, Err(_))) if name == "localhost" || name.ends_with(".localhost") => {
                Reach::Inside
            }
            Some(_name) => Reach::Public,
            None => Reach::Never,
        };
        self.check_reach(reach)
    }

    fn check_reach(&self, reach: Reach) -> Result<(), &'static str> {
        match reach {
            Reach::Public => Ok(()),
            Reach::Inside if self.own_is_inside => Ok(()),
            Reach::Inside => Err("it is inside this network, and the registry is not"),
            Reach::Never => Err("its address is link-local"),
        }
    }

    /// Names whose addresses are taken as they are: those that the vendor or this machine's environment chose.
    fn trusted_names(&self) -> BTreeSet<String> {
        let chosen = self.listed.iter().chain([&self.own]);
        let mut names: BTreeSet<String> = chosen.filter_map(|it| host_of(it)).collect();
        for variable in [
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            let proxy = env::var(variable).unwrap_or_default();
            let proxy = if proxy.contains("://") {
                proxy
            } else {
                format!("http://{proxy}")
            };
            names.extend(
                Url::parse(&proxy)
                    .ok()
                    .and_then(|url| url.host_str().map(str::to_owned)),
            );
        }
        names
    }
}

/// Looks names up, and drops the addresses that the rules refuse.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    rules: Rules,
    trusted: BTreeSet<String>,
}

impl Resolver {
    pub(super) fn of(rules: &Rules) -> Self {
        Self {
            trusted: rules.trusted_names(),
            rules: rules.clone(),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = (!self.trusted.contains(name.as_str())).then(|| self.rules.clone());
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = |it: &SocketAddr| {
                rules
                    .as_ref()
                    .is_none_or(|rules| rules.check_reach(reach(it.ip())).is_ok())
            };
            let kept: Vec<SocketAddr> = found.into_iter().filter(allowed).collect();
            if kept.is_empty() {
                return Err(format!(
                    "{} has no address that this registry may send us to",
                    name.as_str()
                )
                .into());
            }
            let addresses: Addrs = Box::new(kept.into_iter());
            Ok(addresses)
        })
    }
}

/// `host:port` of an address, the port always written.
pub(super) fn authority(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

fn host_of(authority: &str) -> Option<String> {
    authority
        .rsplit_once(':')
        .map(|(host, _port)| host.to_owned())
}

fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(address) => reach_of_v4(address),
        IpAddr::V6(address) => match address.segments() {
            // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to an IPv4 address.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                reach_of_v4(Ipv4Addr::new(a, b, c, d))
            }
            _ if address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local() =>
            {
                Reach::Never
            }
            _ if address.is_loopback() || address.is_unique_local() => Reach::Inside,
            _ => Reach::Public,
        },
    }
}

fn reach_of_v4(address: Ipv4Addr) -> Reach {
    let [first, second, ..] = address.octets();
    // 100.64.0.0/10 is shared by carriers and clouds (RFC 6598).
    let shared = first == 100 && (64..128).contains(&second);
    if first == 0 || address.is_link_local() || address.is_multicast() || address.is_broadcast() {
        Reach::Never
    } else if address.is_loopback() || address.is_private() || shared {
        Reach::Inside
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(own: &str, own_is_inside: bool) -> Rules {
        Rules {
            own: own.to_owned(),
            own_is_inside,
            listed: ["10.0.0.9:5000".to_owned()].into(),
            plain: ["10.0.0.9:5000".to_owned()].into(),
        }
    }

    fn is_refused(rules: &Rules, target: &str) -> bool {
        rules.check(&Url::parse(target).unwrap()).is_err()
    }

    #[test]
    fn a_public_registry_leads_to_public_hosts_with_tls_only() {
        let rules = rules("registry.example:443", false);
        for good in [
            "https://cdn.example/x",
            "https://8.8.8.8/x",
            "https://registry.example/x",
            "http://10.0.0.9:5000/x",
        ] {
            assert!(!is_refused(&rules, good), "{good}");
        }
        for bad in [
            "http://cdn.example/x",
            "http://registry.example/x",
            "ftp://cdn.example/x",
            "https://me:secret@cdn.example/x",
            "https://127.0.0.1/x",
            "https://2130706433/x",
            "https://localhost/x",
            "https://10.0.0.9/x",
            "https://[::1]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://[64:ff9b::a00:1]/x",
            "https://[fd00::1]/x",
            "https://169.254.169.254/x",
            "https://100.64.0.1/x",
            "https://0.0.0.0/x",
        ] {
            assert!(is_refused(&rules, bad), "{bad}");
        }
    }

    #[test]
    fn a_registry_inside_may_lead_to_its_neighbours_but_never_to_link_local() {
        let rules = rules("registry.corp.example:443", true);
        assert!(!is_refused(&rules, "https://10.1.2.3/token"));
        assert!(!is_refused(&rules, "https://127.0.0.1:8443/token"));
        assert!(is_refused(&rules, "https://169.254.169.254/token"));
        assert!(is_refused(&rules, "https://[fe80::1]/token"));
    }

    #[tokio::test]
    async fn a_public_name_with_a_private_address_behind_it_is_not_followed() {
        let outside = Resolver::of(&rules("registry.example:443", false));
        assert!(outside.resolve("localhost".parse().unwrap()).await.is_err());
        let own = Resolver::of(&rules("localhost:5000", true));
        assert!(own.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
