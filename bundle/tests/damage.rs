//! Every byte of a golden bundle flipped, every prefix of it: refused with a code, or the identical tree.

#![expect(clippy::unwrap_used, reason = "a test's own helpers may end the test")]

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bundle::Digest;
use bundle::fault::Fault;
use bundle::head::UntrustedHead;
use bundle::head::VerifiedHead;
use bundle::index::BlobMember;
use bundle::pieces::PieceList;
use bundle::read::PayloadSink;
use bundle::read::read_payload;
use bundle::root::TrustedRoot;
use bundle::verify::Trust;

/// The tree of a bundle: names that were given, and what their bytes hash to.
#[derive(Debug, Default)]
struct Tree {
    open: bundle::Hasher,
    blobs: BTreeMap<Digest, Digest>,
}

impl PayloadSink for Tree {
    fn wants(&mut self, _: &BlobMember) -> io::Result<bool> {
        self.open = bundle::Hasher::new();
        Ok(true)
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open.update(bytes);
        Ok(())
    }

    fn end(&mut self, blob: &BlobMember, _: Option<&PieceList>) -> io::Result<()> {
        let digest = std::mem::take(&mut self.open).finish();
        self.blobs.insert(blob.digest, digest);
        Ok(())
    }
}

fn golden(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../testdata/golden/1", name]
        .iter()
        .collect();
    std::fs::read(path).unwrap()
}

fn trust() -> Trust {
    let root = golden("root.json");
    let fingerprint = Digest::of(&root);
    Trust::new(TrustedRoot::pin(root, &fingerprint).unwrap())
}

/// Reads and verifies a head; the code when it is refused.
fn read_head(bytes: &mut &[u8], trust: &Trust) -> Result<VerifiedHead, &'static str> {
    let head = UntrustedHead::read(bytes).map_err(|error| code(&error))?;
    head.verify(trust).map_err(|error| code(&error))
}

/// Reads a payload; every name that was given is right even when it is refused.
fn read_tree(
    head: &VerifiedHead,
    payload: &[u8],
) -> Result<BTreeMap<Digest, Digest>, &'static str> {
    let mut tree = Tree::default();
    let result = read_payload(head, payload, &mut tree, &mut |_| {});
    assert!(tree.blobs.iter().all(|(name, bytes)| name == bytes));
    result.map_err(|error| code(&error))?;
    Ok(tree.blobs)
}

fn code(fault: &dyn Fault) -> &'static str {
    assert!(!fault.code().is_empty());
    assert!(fault.to_string().len() < 1000);
    fault.code()
}

#[test]
fn a_flipped_byte_is_refused_or_changes_nothing() {
    let good = golden("small.airgap");
    let trust = trust();
    let mut payload = &good[..];
    let head = read_head(&mut payload, &trust).unwrap();
    let tree = read_tree(&head, payload).unwrap();
    let head_bytes = good.len() - payload.len();

    let mut codes = BTreeMap::<_, usize>::new();
    let mut bad = good.clone();
    for at in 0..good.len() {
        bad[at] ^= 1 << (at % 8);
        // The head before a flipped payload is the one that was verified already.
        let result = if at < head_bytes {
            let mut payload = &bad[..];
            read_head(&mut payload, &trust).and_then(|head| read_tree(&head, payload))
        } else {
            read_tree(&head, &bad[head_bytes..])
        };
        match result {
            Ok(changed) => assert_eq!(changed, tree, "byte {at}"),
            Err(code) => *codes.entry(code).or_default() += 1,
        }
        bad[at] = good[at];
    }
    let refused: usize = codes.values().sum();
    assert!(refused > good.len() * 9 / 10, "{codes:?}");
    assert!(
        codes.contains_key("BUNDLE_FORMAT") && codes.contains_key("BUNDLE_DIGEST"),
        "{codes:?}"
    );
    assert_peak_below(64 << 10);
}

#[test]
fn every_prefix_is_refused_as_truncated() {
    let good = golden("small.airgap");
    let trust = trust();
    let mut payload = &good[..];
    let head = read_head(&mut payload, &trust).unwrap();
    let head_bytes = good.len() - payload.len();
    for cut in 0..good.len() {
        let code = if cut < head_bytes {
            read_head(&mut &good[..cut], &trust).unwrap_err()
        } else {
            read_tree(&head, &good[head_bytes..cut]).unwrap_err()
        };
        assert_eq!(code, "BUNDLE_TRUNCATED", "cut at {cut}");
    }
    assert_peak_below(64 << 10);
}

/// The most memory that this process ever had, in KiB (`VmHWM` of proc(5)).
fn assert_peak_below(kib_max: u64) {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return;
    };
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < kib_max, "{peak} KiB at the peak");
}
