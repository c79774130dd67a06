//! The network between a bed's nodes: a bridge in a namespace of its own, which is also where the administrator sits.
//!
//! Everything that a node sends crosses its port of the bridge. A packet for an address that is none of the bed's goes to
//! the node's default gateway, which is the bridge's own address and has no way on: it is counted there and dropped.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;

use super::place::Place;
use crate::process;
use crate::process::Finished;
use crate::real_site::at;

/// The bed's network, /24.
const NETWORK: [u8; 3] = [10, 77, 0];

/// Addresses that are inside: this network, loopback, pods and services of the clusters that are made here, and what
/// never leaves a link.
const INSIDE: &str = "10.77.0.0/24, 127.0.0.0/8, 10.244.0.0/16, 10.96.0.0/12, 169.254.0.0/16, 224.0.0.0/4, \
                      255.255.255.255, 0.0.0.0";

/// Counts what is sent to anywhere else.
const COUNTING: &str = "
table bridge outside {
  counter sent { }
  set seen { type ipv4_addr; flags dynamic; size 4096; }
  chain watch {
    type filter hook prerouting priority -300
    iifname \"br0\" return
    ether type ip ip daddr != { INSIDE } counter name sent update @seen { ip daddr }
    ether type ip6 ip6 daddr != { ::1, fe80::/10, ff00::/8 } counter name sent
  }
}
";

/// Packets that nodes have sent to addresses outside the bed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// How many, since the bed was made.
    pub packets: u64,
    /// To which IPv4 addresses.
    pub addresses: Vec<String>,
}

/// Address of a host on the bed's network.
pub(super) const fn address(last: u8) -> Ipv4Addr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, last)
}

/// The administrator's address, and every node's default gateway.
pub(super) const ADMINISTRATOR: Ipv4Addr = address(1);

/// The name of a node's port on the bridge; names of interfaces have at most 15 characters.
pub(super) fn port(node: &str) -> String {
    format!("v-{node}")
}

/// Runs a program of this machine, which must succeed.
pub(super) fn does(program: &str, arguments: &str) -> Result<Finished> {
    process::run(&mut process::command(program, arguments.split_whitespace()))?.succeeded()
}

/// A command of this machine on the bed's network.
pub(super) fn command(place: &Place, program: &str, arguments: &[&str]) -> Command {
    let lan = place.lan();
    let mut command = process::command("ip", ["netns", "exec", &lan, program]);
    command.args(arguments);
    command
}

/// Makes the bridge and its counters.
pub(super) fn create(place: &Place) -> Result<()> {
    let lan = place.lan();
    does("ip", &format!("netns add {lan}"))?;
    does("ip", &format!("-n {lan} link set lo up"))?;
    does(
        "ip",
        &format!("-n {lan} link add br0 type bridge forward_delay 0"),
    )?;
    does(
        "ip",
        &format!("-n {lan} addr add {ADMINISTRATOR}/24 dev br0"),
    )?;
    does("ip", &format!("-n {lan} link set br0 up"))?;
    filter(place, &COUNTING.replace("INSIDE", INSIDE))
}

/// Adds rules to the bridge.
pub(super) fn filter(place: &Place, rules: &str) -> Result<()> {
    let file = place.folder.join("rules.nft");
    fs::write(&file, rules)?;
    let path = file.display().to_string();
    process::run(&mut command(place, "nft", &["-f", &path]))?
        .succeeded()
        .with_context(|| rules.to_owned())?;
    Ok(())
}

/// Gives a node a new network namespace with `eth0` on the bridge: a machine that was off has no routes and rules left.
pub(super) fn plug_in(place: &Place, node: &str, address: Ipv4Addr) -> Result<()> {
    let (lan, own, port) = (place.lan(), place.network_of(node), port(node));
    unplug(place, node)?;
    does("ip", &format!("netns add {own}"))?;
    does(
        "ip",
        &format!("-n {lan} link add {port} type veth peer name eth0 netns {own}"),
    )?;
    does("ip", &format!("-n {lan} link set {port} master br0 up"))?;
    does("ip", &format!("-n {own} link set lo up"))?;
    does("ip", &format!("-n {own} addr add {address}/24 dev eth0"))?;
    does("ip", &format!("-n {own} link set eth0 up"))?;
    does(
        "ip",
        &format!("-n {own} route add default via {ADMINISTRATOR}"),
    )?;
    Ok(())
}

/// Takes a node's network away.
pub(super) fn unplug(place: &Place, node: &str) -> Result<()> {
    let (lan, own, port) = (place.lan(), place.network_of(node), port(node));
    if Path::new("/run/netns").join(&own).exists() {
        does("ip", &format!("netns del {own}"))?;
    }
    // A removed namespace gives its end of the cable back late.
    let _none = process::run(&mut process::command(
        "ip",
        ["-n", &lan, "link", "del", &port],
    ))?;
    Ok(())
}

/// What nodes have sent to the outside so far.
pub(super) fn outside(place: &Place) -> Result<Outside> {
    let list = ["-j", "list", "table", "bridge", "outside"];
    let listed = process::run(&mut command(place, "nft", &list))?.succeeded()?;
    let table: Value = serde_json::from_str(&listed.stdout)?;
    let items = || at(&table, "/nftables").as_array().into_iter().flatten();
    let packets = items().find_map(|item| at(item, "/counter/packets").as_u64());
    let seen = items().find_map(|item| at(item, "/set/elem").as_array());
    let addresses = seen.into_iter().flatten().map(|element| {
        let address = at(element, "/elem/val").as_str().or(element.as_str());
        address.unwrap_or_default().to_owned()
    });
    Ok(Outside {
        packets: packets.context("the counter is gone")?,
        addresses: addresses.collect(),
    })
}
