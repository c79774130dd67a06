//! What `syncd status` shows people: releases × masters, who can be lost, and what does not work.
//!
//! ```text
//! release           sequence   m1   m2   m3       size
//! acme/shop 1.4.0   42         ●    ●    ◐ 71 %   2.90 GB
//!
//! m1  SAFE to lose
//! m2  SAFE to lose
//! m3  SAFE to lose   it still lacks 41 blobs, 840 MB
//! ```
//! `●` has all of it, `◐` a part, `○` nothing, `?` does not answer. Pure: from a status to lines.

use api::report::escape;
use api::sync::ContentStatus;
use api::sync::Copy;
use api::sync::Link;
use api::sync::NodeName;
use api::sync::NodeStatus;
use api::sync::OnlyHere;
use api::sync::Status;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use program::output::bytes;
use program::output::count;

/// Contents that are told by name for a node that is not safe to lose; the rest is counted.
const TOLD_MAX: usize = 3;

/// Every line of the status.
pub fn status_lines(status: &Status) -> Vec<String> {
    let mut lines = matrix(status);
    lines.push(String::new());
    lines.extend(verdicts(status));
    let work = transfers(status)
        .into_iter()
        .chain(links(status))
        .chain(troubles(status));
    let mut work = work.peekable();
    if work.peek().is_some() {
        lines.push(String::new());
        lines.extend(work);
    }
    lines
}

fn matrix(status: &Status) -> Vec<String> {
    if status.contents.is_empty() {
        return vec!["nothing has been imported yet".to_owned()];
    }
    let members: Vec<_> = status.nodes.iter().map(|node| &node.name).collect();
    let mut table = Table::new();
    table.load_style(NOTHING);
    let head = members.iter().map(ToString::to_string);
    table.set_header(
        ["release".to_owned(), "sequence".to_owned()]
            .into_iter()
            .chain(head)
            .chain(["size".to_owned()]),
    );
    for content in &status.contents {
        let copies = members.iter().map(|name| copy(content, name));
        let size = match content.bytes {
            0 => String::new(),
            size => bytes(size).to_string(),
        };
        table.add_row(
            [escape(&content.title), content.sequence.to_string()]
                .into_iter()
                .chain(copies)
                .chain([size]),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn copy(content: &ContentStatus, name: &NodeName) -> String {
    match content.copies.get(name) {
        Some(Copy::Complete) => "●".to_owned(),
        Some(Copy::Incomplete { missing_bytes, .. }) if *missing_bytes >= content.bytes => {
            "○".to_owned()
        }
        Some(Copy::Incomplete { missing_bytes, .. }) => {
            let have = u128::from(content.bytes.saturating_sub(*missing_bytes));
            // Rounded down, and never 100: only a complete copy is complete.
            format!(
                "◐ {} %",
                have.saturating_mul(100) / u128::from(content.bytes.max(1))
            )
        }
        Some(Copy::Unknown) | None => "?".to_owned(),
    }
}

fn verdicts(status: &Status) -> Vec<String> {
    let width = status
        .nodes
        .iter()
        .map(|node| node.name.as_str().len())
        .max()
        .unwrap_or(0);
    let verdict = |node: &NodeStatus| {
        let name = format!("{:width$}", node.name.as_str());
        let line = if node.safe_to_lose {
            format!("{name}  SAFE to lose       {}", lacks(status, &node.name))
        } else {
            format!(
                "{name}  NOT SAFE TO LOSE   only here: {}",
                only_here(&node.only_here)
            )
        };
        line.trim_end().to_owned()
    };
    status.nodes.iter().map(verdict).collect()
}

/// What a node that may be lost still lacks itself.
fn lacks(status: &Status, name: &NodeName) -> String {
    let missing = status
        .contents
        .iter()
        .filter_map(|content| match content.copies.get(name) {
            Some(Copy::Incomplete {
                missing_blobs,
                missing_bytes,
            }) => Some((*missing_blobs, *missing_bytes)),
            Some(Copy::Complete | Copy::Unknown) | None => None,
        });
    let (blobs, size) = missing.fold((0, 0), |(blobs, size): (u64, u64), (more_blobs, more)| {
        (blobs.saturating_add(more_blobs), size.saturating_add(more))
    });
    match blobs {
        0 => String::new(),
        blobs => format!("it still lacks {}, {}", count(blobs, "blob"), bytes(size)),
    }
}

fn only_here(contents: &[OnlyHere]) -> String {
    let told = contents.iter().take(TOLD_MAX).map(|only| match only.blobs {
        0 => only.title.clone(),
        blobs => format!(
            "{} of {}, {}",
            count(blobs, "blob"),
            only.title,
            bytes(only.bytes)
        ),
    });
    let mut told: Vec<_> = told.collect();
    let more = contents.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        told.push(format!("{more} more"));
    }
    told.join("; ")
}

fn transfers(status: &Status) -> Vec<String> {
    let (blobs, have, size) =
        status
            .transfers
            .iter()
            .fold((0_u64, 0_u64, 0_u64), |(blobs, have, size), transfer| {
                (
                    blobs.saturating_add(1),
                    have.saturating_add(transfer.have_bytes),
                    size.saturating_add(transfer.bytes),
                )
            });
    if blobs == 0 {
        return Vec::new();
    }
    vec![format!(
        "receiving {}: {} of {}",
        count(blobs, "blob"),
        bytes(have),
        bytes(size)
    )]
}

fn links(status: &Status) -> Vec<String> {
    let down = status.peers.iter().filter_map(|peer| match &peer.link {
        Link::Up => None,
        Link::Down(reason) => Some(match peer.silent_ms {
            Some(ms) => format!(
                "{} does not answer since {} s: {reason}",
                peer.name,
                ms / 1000
            ),
            None => format!("{} has not answered yet: {reason}", peer.name),
        }),
    });
    down.collect()
}

fn troubles(status: &Status) -> Vec<String> {
    let told = status.troubles.iter().map(|trouble| {
        let object = trouble
            .object
            .map(|object| format!(" {object}"))
            .unwrap_or_default();
        let peer = trouble
            .peer
            .as_ref()
            .map(|peer| format!(" from {peer}"))
            .unwrap_or_default();
        let retry = trouble.retry_ms.div_ceil(1000);
        format!(
            "[{}]{object}{peer}: {}; next try in {retry} s",
            trouble.code, trouble.text
        )
    });
    told.collect()
}

#[cfg(test)]
pub(crate) mod tests;
