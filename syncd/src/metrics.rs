//! The status as metrics in the `OpenMetrics` text format, made anew for every scrape: nothing is counted twice.

use api::sync::Copy;
use api::sync::Link;
use api::sync::NodeName;
use api::sync::Status;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Node {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ContentCopy {
    content: String,
    title: String,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: String,
}

/// Writes every metric of a status.
pub fn metrics_text(status: &Status) -> String {
    let mut registry = Registry::with_prefix("syncd");
    safety(&mut registry, status);
    links(&mut registry, status);
    traffic(&mut registry, status);
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        // A String takes everything that is written to it.
        Err(_never) => String::new(),
    }
}

fn safety(registry: &mut Registry, status: &Status) {
    let safe = gauges(
        registry,
        "node_loss_safe",
        "1 when nothing would be lost with the node",
    );
    for node in &status.nodes {
        safe.get_or_create(&label(&node.name))
            .set(i64::from(node.safe_to_lose));
    }
    let missing = Family::<ContentCopy, Gauge>::default();
    registry.register(
        "content_missing_bytes",
        "Bytes that a node lacks of a content",
        missing.clone(),
    );
    for content in &status.contents {
        for (node, copy) in &content.copies {
            let bytes = match copy {
                Copy::Complete => 0,
                Copy::Incomplete { missing_bytes, .. } => *missing_bytes,
                // Nobody knows: no sample is better than a guess.
                Copy::Unknown => continue,
            };
            let labels = ContentCopy {
                content: content.id.to_string(),
                title: content.title.clone(),
                node: node.to_string(),
            };
            missing.get_or_create(&labels).set(whole(bytes));
        }
    }
}

fn links(registry: &mut Registry, status: &Status) {
    let up = gauges(registry, "peer_up", "1 when the peer answers");
    let lag = gauges(
        registry,
        "peer_lag_bytes",
        "Bytes of known contents that the peer lacks",
    );
    let records = gauges(registry, "peer_lag_records", "Records that the peer lacks");
    for peer in &status.peers {
        up.get_or_create(&label(&peer.name))
            .set(i64::from(peer.link == Link::Up));
        lag.get_or_create(&label(&peer.name))
            .set(whole(peer.lag_bytes));
        records
            .get_or_create(&label(&peer.name))
            .set(whole(peer.lag_records));
    }
    let troubles = Family::<Code, Gauge>::default();
    registry.register(
        "troubles",
        "What does not work at the moment, by code",
        troubles.clone(),
    );
    for trouble in &status.troubles {
        troubles
            .get_or_create(&Code {
                code: trouble.code.clone(),
            })
            .inc();
    }
}

fn traffic(registry: &mut Registry, status: &Status) {
    let counters = &status.counters;
    let by_node = [
        (
            "received_bytes",
            "Bytes of blobs received, by source",
            &counters.received_bytes,
        ),
        (
            "sent_bytes",
            "Bytes of blobs sent, by receiver",
            &counters.sent_bytes,
        ),
        (
            "refused_pieces",
            "Pieces and blobs whose hash was wrong, by source",
            &counters.refused_pieces,
        ),
    ];
    for (name, help, values) in by_node {
        let family = Family::<Node, prometheus_client::metrics::counter::Counter>::default();
        registry.register(name, help, family.clone());
        for (node, value) in values {
            family.get_or_create(&label(node)).inc_by(*value);
        }
    }
    for (name, help, value) in [
        (
            "resumed_bytes",
            "Bytes found verified in partials at start",
            counters.resumed_bytes,
        ),
        (
            "published_blobs",
            "Blobs published by transfers",
            counters.published_blobs,
        ),
        (
            "damaged_blobs",
            "Blobs found damaged at rest",
            counters.damaged_blobs,
        ),
        ("full_passes", "Full passes made", counters.full_passes),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Family<Node, Gauge> {
    let family = Family::<Node, Gauge>::default();
    registry.register(name, help, family.clone());
    family
}

fn label(node: &NodeName) -> Node {
    Node {
        node: node.to_string(),
    }
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::status;

    #[test]
    fn a_scrape_tells_who_may_be_lost_and_who_lacks_what() {
        let mut status = status();
        status.counters.sent_bytes.insert("m3".parse().unwrap(), 7);
        let text = metrics_text(&status);
        for line in [
            "syncd_node_loss_safe{node=\"m1\"} 1",
            "title=\"acme/shop 1.4.0\",node=\"m3\"} 840000000",
            "syncd_sent_bytes_total{node=\"m3\"} 7",
            "syncd_full_passes_total 0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}
