//! What a well-formed index may not say. All problems are found, not only the first.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::index::BundleIndex;
use crate::limits;
use crate::name::EntryPath;
use crate::name::ImageName;
use crate::oci;
use crate::pieces;

/// Something in an index that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No platform at all.
    #[error("no platform is named")]
    NoPlatform,
    /// A floor that the release itself does not reach.
    #[error("rollback_floor is {floor}, above the sequence {sequence}")]
    Floor {
        /// The floor.
        floor: u64,
        /// The release's sequence.
        sequence: u64,
    },
    /// Roots are counted from 1.
    #[error("root_version is 0, roots are counted from 1")]
    RootVersion,
    /// Too many members for a reader.
    #[error("{actual} members, at most {limit} are allowed", limit = limits::MEMBERS_MAX)]
    Members {
        /// How many there are.
        actual: usize,
    },
    /// Blobs out of order or twice.
    #[error("blob {0} is not behind the one before it (order is stage, then digest)")]
    Order(Digest),
    /// One digest for two members.
    #[error("digest {0} names two members")]
    Twice(Digest),
    /// A blob beyond the limit.
    #[error("blob {digest} is {size} bytes, at most {limit} are allowed", limit = limits::BLOB_BYTES_MAX)]
    BlobSize {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// A large blob without piece list, or a small one with.
    #[error("blob {digest} of {size} bytes {}", if *.listed { "needs no piece list and has one" } else { "has no piece list" })]
    Pieces {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// Whether it has one.
        listed: bool,
    },
    /// A media type that is none (RFC 6838 §4.2), or one that the format keeps for itself.
    #[error("blob {digest} has the media type {media_type:?}")]
    MediaType {
        /// The blob.
        digest: Digest,
        /// The text.
        media_type: String,
    },
    /// Something names a blob that is not carried.
    #[error("{what} names the blob {digest}, which is not listed")]
    Missing {
        /// What names it.
        what: String,
        /// The blob.
        digest: Digest,
    },
    /// One image name twice.
    #[error("image {0} is listed twice")]
    ImageTwice(ImageName),
    /// One path twice in the same list.
    #[error("{list} lists the path {path} twice")]
    PathTwice {
        /// The list.
        list: &'static str,
        /// The path.
        path: EntryPath,
    },
    /// An image without manifest among the blobs, or one that is none by its media type.
    #[error(
        "image {name} points to {digest}, which is a {media_type:?} and no image manifest or index"
    )]
    NotAnImage {
        /// The image.
        name: ImageName,
        /// Its digest.
        digest: Digest,
        /// The media type of the blob.
        media_type: String,
    },
}

impl BundleIndex {
    /// Everything that is wrong with it; empty when it can be used.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_release(&mut problems);
        self.check_blobs(&mut problems);
        self.check_references(&mut problems);
        self.check_images(&mut problems);
        self.check_paths(&mut problems);
        problems
    }

    fn check_release(&self, problems: &mut Vec<Problem>) {
        if self.platforms.is_empty() {
            problems.push(Problem::NoPlatform);
        }
        if self.rollback_floor > self.sequence {
            problems.push(Problem::Floor {
                floor: self.rollback_floor,
                sequence: self.sequence,
            });
        }
        if self.root_version == 0 {
            problems.push(Problem::RootVersion);
        }
    }

    fn check_blobs(&self, problems: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        let mut last = None;
        for blob in &self.blobs {
            if last.is_some_and(|last| last >= blob.order()) {
                problems.push(Problem::Order(blob.digest));
            }
            last = Some(blob.order());
            for digest in [Some(blob.digest), blob.pieces].into_iter().flatten() {
                if !seen.insert(digest) {
                    problems.push(Problem::Twice(digest));
                }
            }
            if blob.size > limits::BLOB_BYTES_MAX {
                problems.push(Problem::BlobSize {
                    digest: blob.digest,
                    size: blob.size,
                });
            }
            if blob.pieces.is_some() != (blob.size > limits::PIECED_BLOB_BYTES_MIN) {
                problems.push(Problem::Pieces {
                    digest: blob.digest,
                    size: blob.size,
                    listed: blob.pieces.is_some(),
                });
            }
            if !is_media_type(&blob.media_type) || blob.media_type == pieces::MEDIA_TYPE {
                problems.push(Problem::MediaType {
                    digest: blob.digest,
                    media_type: blob.media_type.clone(),
                });
            }
        }
        // `oci-layout` and `index.json` count as well.
        let actual = seen.len() + 2;
        if actual > limits::MEMBERS_MAX {
            problems.push(Problem::Members { actual });
        }
    }

    fn check_references(&self, problems: &mut Vec<Problem>) {
        let blobs: BTreeSet<Digest> = self.blobs.iter().map(|blob| blob.digest).collect();
        let mut need = |what: &dyn Fn() -> String, digest: &Digest| {
            if !blobs.contains(digest) {
                problems.push(Problem::Missing {
                    what: what(),
                    digest: *digest,
                });
            }
        };
        for image in &self.images {
            for digest in std::iter::once(&image.digest).chain(&image.referrers) {
                need(&|| format!("image {}", image.name), digest);
            }
        }
        for chart in &self.charts {
            for digest in std::iter::once(&chart.digest).chain(&chart.values) {
                need(&|| format!("chart {}", chart.name), digest);
            }
        }
        for (list, documents) in self.documents_by_list() {
            for document in documents {
                need(
                    &|| format!("{list} entry {}", document.path),
                    &document.digest,
                );
            }
        }
        for file in &self.files {
            need(&|| format!("file {}", file.path), &file.digest);
        }
        for license in &self.licenses {
            need(&|| format!("license {}", license.id), &license.digest);
        }
    }

    fn check_images(&self, problems: &mut Vec<Problem>) {
        let blobs: BTreeMap<_, _> = self.blobs_by_digest();
        let mut names = BTreeSet::new();
        for image in &self.images {
            if !names.insert(&image.name) {
                problems.push(Problem::ImageTwice(image.name.clone()));
            }
            if let Some(blob) = blobs.get(&image.digest)
                && !oci::is_manifest(&blob.media_type)
            {
                problems.push(Problem::NotAnImage {
                    name: image.name.clone(),
                    digest: image.digest,
                    media_type: blob.media_type.clone(),
                });
            }
        }
    }

    fn check_paths(&self, problems: &mut Vec<Problem>) {
        for (list, documents) in self.documents_by_list() {
            let mut paths = BTreeSet::new();
            for document in documents {
                if !paths.insert(&document.path) {
                    problems.push(Problem::PathTwice {
                        list,
                        path: document.path.clone(),
                    });
                }
            }
        }
        let mut files = BTreeSet::new();
        for file in &self.files {
            if !files.insert((file.role, &file.path, &file.platform)) {
                problems.push(Problem::PathTwice {
                    list: "files",
                    path: file.path.clone(),
                });
            }
        }
    }

    fn documents_by_list(&self) -> [(&'static str, &[super::Document]); 4] {
        [
            ("manifests", &self.manifests),
            ("documents", &self.documents),
            ("sboms", &self.sboms),
            ("preflights", &self.preflights),
        ]
    }
}

/// Whether `text` is a media type without parameters (RFC 6838 §4.2).
fn is_media_type(text: &str) -> bool {
    let part = |part: &str| {
        (1..=127).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| part(kind) && part(subtype))
}
