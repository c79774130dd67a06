//! Why something that is validly signed is refused here.

use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;
use crate::name::LicenseId;
use crate::name::Name;
use crate::name::Platform;
use crate::signers::Document;
use crate::state::Position;
use crate::state::Release;
use crate::state::ReleaseProblem;
use crate::state::Seen;

/// Something validly signed that the site's state, or the site itself, does not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each field is named in its variant's facts")]
pub enum PolicyError {
    /// A bundle for another product than the one that runs here.
    #[error("this bundle is for another product")]
    Product { bundle: Name, site: Name },
    /// A bundle that does not run on this platform.
    #[error("this bundle does not run on {site}")]
    Platform {
        bundle: Vec<Platform>,
        site: Platform,
    },
    /// A release out of order.
    #[error("{}", release_sentence(*problem))]
    Release {
        product: String,
        bundle: Box<Release>,
        site: Box<Release>,
        floor: Position,
        problem: ReleaseProblem,
    },
    /// A root, list of revocations or license out of order.
    #[error("{}", document_sentence(*document, *problem))]
    Document {
        document: Document,
        known: Seen,
        offered: Seen,
        problem: ReleaseProblem,
    },
    /// The site has accepted a list of revocations and now lacks it.
    #[error("the site has accepted a list of revocations and does not have it now")]
    RevocationsMissing { sequence: u64 },
    /// A license that another one has replaced.
    #[error("license {id} was replaced by another one")]
    LicenseSuperseded { id: LicenseId },
    /// A license beside another one.
    #[error("license {offered} does not replace the site's license {current}")]
    LicenseOther {
        current: LicenseId,
        offered: LicenseId,
    },
}

const fn release_sentence(problem: ReleaseProblem) -> &'static str {
    match problem {
        ReleaseProblem::Older => "this bundle is older than what the site has accepted",
        ReleaseProblem::BelowFloor => "this bundle is older than the vendor lets a site go back",
        ReleaseProblem::Equivocation => {
            "this bundle has the sequence of another bundle that the site has accepted"
        }
    }
}

fn document_sentence(document: Document, problem: ReleaseProblem) -> String {
    let what = document.word();
    match problem {
        ReleaseProblem::Older | ReleaseProblem::BelowFloor => {
            format!("this {what} is older than what the site has accepted")
        }
        ReleaseProblem::Equivocation => {
            format!("this {what} has the sequence of another one that the site has accepted")
        }
    }
}

impl Fault for PolicyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Product { .. } => "BUNDLE_PRODUCT",
            Self::Platform { .. } => "BUNDLE_PLATFORM",
            Self::Release { problem, .. } => match problem {
                ReleaseProblem::Older => "BUNDLE_ROLLBACK",
                ReleaseProblem::BelowFloor => "BUNDLE_ROLLBACK_FLOOR",
                ReleaseProblem::Equivocation => "BUNDLE_EQUIVOCATION",
            },
            Self::Document {
                document, problem, ..
            } => match (document, problem) {
                (Document::Bundle, ReleaseProblem::Equivocation) => "BUNDLE_EQUIVOCATION",
                (Document::Bundle, _) => "BUNDLE_ROLLBACK",
                (Document::License, ReleaseProblem::Equivocation) => "LICENSE_EQUIVOCATION",
                (Document::License, _) => "LICENSE_ROLLBACK",
                (Document::Root, ReleaseProblem::Equivocation) => "ROOT_EQUIVOCATION",
                (Document::Root, _) => "ROOT_ROLLBACK",
                (Document::Revocations, ReleaseProblem::Equivocation) => "REVOCATIONS_EQUIVOCATION",
                (Document::Revocations, _) => "REVOCATIONS_ROLLBACK",
            },
            Self::RevocationsMissing { .. } => "REVOCATIONS_MISSING",
            Self::LicenseSuperseded { .. } => "LICENSE_SUPERSEDED",
            Self::LicenseOther { .. } => "LICENSE_OTHER",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::RevocationsMissing { .. } => Blame::Machine,
            Self::Product { .. }
            | Self::Platform { .. }
            | Self::Release { .. }
            | Self::Document { .. }
            | Self::LicenseSuperseded { .. }
            | Self::LicenseOther { .. } => Blame::Policy,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Product { bundle, site } => {
                vec![Fact::new("bundle", bundle), Fact::new("site", site)]
            }
            Self::Platform { bundle, site } => {
                let platforms: Vec<_> = bundle.iter().map(Platform::as_str).collect();
                vec![
                    Fact::new("bundle", platforms.join(", ")),
                    Fact::new("site", site),
                ]
            }
            Self::Release {
                product,
                bundle,
                site,
                floor,
                problem,
            } => {
                let mut facts = vec![
                    Fact::new("bundle", release(product, bundle)),
                    Fact::new("site", release(product, site)),
                ];
                match problem {
                    ReleaseProblem::Older => {}
                    ReleaseProblem::BelowFloor => facts.push(Fact::new("floor", place(*floor))),
                    ReleaseProblem::Equivocation => facts.push(Fact::new("its id", site.id)),
                }
                facts
            }
            Self::Document {
                document,
                known,
                offered,
                ..
            } => vec![
                Fact::new(label(*document), seen(offered)),
                Fact::new("site", seen(known)),
            ],
            Self::RevocationsMissing { sequence } => {
                vec![Fact::new("accepted", format!("sequence {sequence}"))]
            }
            Self::LicenseSuperseded { .. } | Self::LicenseOther { .. } => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Product { .. } => "give the bundle of the product that runs here",
            Self::Platform { .. } => "ask the vendor for the bundle of this platform",
            Self::Release { problem, .. } => match problem {
                ReleaseProblem::Older => "a downgrade needs a permit signed by the vendor",
                ReleaseProblem::BelowFloor => {
                    "no permit goes below the floor: ask the vendor for a later release"
                }
                ReleaseProblem::Equivocation => {
                    "tell the vendor: one of the two bundles should not exist"
                }
            },
            Self::Document { problem, .. } => match problem {
                ReleaseProblem::Older | ReleaseProblem::BelowFloor => {
                    "nothing is to be done: the site has a newer one"
                }
                ReleaseProblem::Equivocation => "tell the vendor: one of the two should not exist",
            },
            Self::RevocationsMissing { .. } => {
                "restore it from another master, or import a newer bundle"
            }
            Self::LicenseSuperseded { .. } | Self::LicenseOther { .. } => {
                "confirm the replacement, or ask the vendor for a license that supersedes the current one"
            }
        };
        Some(hint.to_owned())
    }
}

const fn label(document: Document) -> &'static str {
    match document {
        Document::Bundle => "bundle",
        Document::License => "license",
        Document::Root => "root",
        Document::Revocations => "list",
    }
}

fn release(product: &str, release: &Release) -> String {
    format!("{product} {}, {}", release.version, place(release.position))
}

fn place(position: Position) -> String {
    if position.epoch <= 1 {
        return format!("sequence {}", position.sequence);
    }
    format!("epoch {}, sequence {}", position.epoch, position.sequence)
}

fn seen(seen: &Seen) -> String {
    format!("sequence {}, {}", seen.sequence, seen.digest)
}
