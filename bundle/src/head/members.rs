//! The members of a head: one encoding, and a decoder that accepts nothing else.

use std::collections::BTreeMap;

use crate::head::HeadFiles;
use crate::head::SignedFile;
use crate::key::KeyId;
use crate::limits;
use crate::tar;
use crate::tar::HeadHeader;

/// A head frame whose members are not those of the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A header that is not the canonical one, or a member that ends behind the frame.
    #[error("head member at byte {offset} is not a canonical tar member")]
    Member {
        /// Offset of its header in the plain head.
        offset: usize,
    },
    /// A name that a head does not have.
    #[error("head holds a member {name:?}, which the format does not know")]
    Name {
        /// The name.
        name: String,
    },
    /// A member that must be there.
    #[error("head has no {0}")]
    Missing(&'static str),
    /// Too large, or too many.
    #[error("head has {actual} bytes or entries of {what}, at most {limit} are allowed")]
    Limit {
        /// Of what.
        what: String,
        /// How many there are.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// Everything known, but twice, out of order, or with a gap; or padding that is not zero.
    #[error("head is not in canonical order, first difference at byte {at}")]
    NotCanonical {
        /// Offset of the first byte that differs from the canonical encoding.
        at: usize,
    },
}

const INDEX: &str = "bundle.json";
const INDEX_SIGNATURE: &str = "bundle.json.minisig";
const REVOCATIONS: &str = "trust/revocations.json";
const PACKING: &str = "packing.json";

/// Encodes a head; the limits are checked here, so that no writer makes what no reader takes.
pub(crate) fn encode(files: &HeadFiles, packing_json: &[u8]) -> Result<Vec<u8>, HeadError> {
    let mut plain = Vec::new();
    visit(files, packing_json, &mut |part| {
        plain.extend_from_slice(part);
    })?;
    at_most("the head", plain.len(), limits::HEAD_BYTES_MAX)?;
    Ok(plain)
}

/// Decodes a head: takes each member by its name, then requires that the encoding of all is `plain`.
pub(crate) fn decode(plain: &[u8]) -> Result<(HeadFiles, Vec<u8>), HeadError> {
    let mut parts = Parts::default();
    let mut offset = 0;
    while offset < plain.len() {
        let (name, body) = member_at(plain, offset).ok_or(HeadError::Member { offset })?;
        parts.take(name, body)?;
        offset += tar::BLOCK_BYTES + body.len().next_multiple_of(tar::BLOCK_BYTES);
    }
    let packing_json = parts.packing_json.ok_or(HeadError::Missing(PACKING))?;
    if !parts.has_index {
        return Err(HeadError::Missing(INDEX));
    }
    let (mut rest, mut differs_at) = (plain, None);
    visit(
        &parts.files,
        &packing_json,
        &mut |part| match rest.strip_prefix(part) {
            Some(behind) => rest = behind,
            None => differs_at = differs_at.or(Some(plain.len() - rest.len())),
        },
    )?;
    match differs_at {
        None if rest.is_empty() => Ok((parts.files, packing_json)),
        at => Err(HeadError::NotCanonical {
            at: at.unwrap_or(plain.len() - rest.len()),
        }),
    }
}

/// Shows all bytes of the one encoding, part by part.
fn visit(
    files: &HeadFiles,
    packing_json: &[u8],
    show: &mut dyn FnMut(&[u8]),
) -> Result<(), HeadError> {
    check_limits(files, packing_json)?;
    put(show, INDEX, &files.bundle_json)?;
    if let Some(signature) = &files.signature {
        put(show, INDEX_SIGNATURE, signature)?;
    }
    for (key, signature) in &files.more_signatures {
        put(show, &format!("sig/bundle.json.{key}.minisig"), signature)?;
    }
    for (version, root) in &files.roots {
        put_signed(show, &format!("trust/{version}.root.json"), root)?;
    }
    if let Some(revocations) = &files.revocations {
        put_signed(show, REVOCATIONS, revocations)?;
    }
    put(show, PACKING, packing_json)
}

#[derive(Default)]
struct Parts {
    files: HeadFiles,
    has_index: bool,
    packing_json: Option<Vec<u8>>,
}

impl Parts {
    fn take(&mut self, name: &str, body: &[u8]) -> Result<(), HeadError> {
        let unknown = || HeadError::Name {
            name: name.chars().take(120).collect(),
        };
        let body = body.to_vec();
        match name {
            INDEX => {
                self.has_index = true;
                self.files.bundle_json = body;
            }
            INDEX_SIGNATURE => self.files.signature = Some(body),
            PACKING => self.packing_json = Some(body),
            REVOCATIONS => self.revocations().json = body,
            _ => {
                if let Some(key) = between(name, "sig/bundle.json.", ".minisig") {
                    let key = key.parse().map_err(|_not_a_key| unknown())?;
                    self.files.more_signatures.insert(key, body);
                } else if let Some(key) = between(name, "trust/revocations.json.", ".minisig") {
                    let key = key.parse().map_err(|_not_a_key| unknown())?;
                    self.revocations().signatures.insert(key, body);
                } else {
                    let (version, key) = root_name(name).ok_or_else(unknown)?;
                    let root = self.files.roots.entry(version).or_default();
                    match key {
                        Some(key) => drop(root.signatures.insert(key, body)),
                        None => root.json = body,
                    }
                }
            }
        }
        Ok(())
    }

    fn revocations(&mut self) -> &mut SignedFile {
        self.files.revocations.get_or_insert_default()
    }
}

/// Reads `trust/<N>.root.json` and `trust/<N>.root.json.<KEYID>.minisig`.
fn root_name(name: &str) -> Option<(u32, Option<KeyId>)> {
    let (version, rest) = name.strip_prefix("trust/")?.split_once(".root.json")?;
    let version = version.parse().ok()?;
    if rest.is_empty() {
        return Some((version, None));
    }
    let key = between(rest, ".", ".minisig")?.parse().ok()?;
    Some((version, Some(key)))
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(behind)
}

fn member_at(plain: &[u8], offset: usize) -> Option<(&str, &[u8])> {
    let rest = plain.get(offset..)?;
    let header = HeadHeader::parse(rest.first_chunk()?)?;
    let end = tar::BLOCK_BYTES.checked_add(usize::try_from(header.size).ok()?)?;
    let body = rest.get(tar::BLOCK_BYTES..end)?;
    Some((header.name, body))
}

fn put_signed(show: &mut dyn FnMut(&[u8]), name: &str, file: &SignedFile) -> Result<(), HeadError> {
    put(show, name, &file.json)?;
    for (key, signature) in &file.signatures {
        put(show, &format!("{name}.{key}.minisig"), signature)?;
    }
    Ok(())
}

fn put(show: &mut dyn FnMut(&[u8]), name: &str, body: &[u8]) -> Result<(), HeadError> {
    let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let header = tar::header(name, size).ok_or_else(|| HeadError::Name {
        name: name.to_owned(),
    })?;
    let padding = body.len().next_multiple_of(tar::BLOCK_BYTES) - body.len();
    let zeros = [0; tar::BLOCK_BYTES];
    show(&header);
    show(body);
    show(zeros.get(..padding).unwrap_or_default());
    Ok(())
}

fn check_limits(files: &HeadFiles, packing_json: &[u8]) -> Result<(), HeadError> {
    at_most(INDEX, files.bundle_json.len(), limits::INDEX_BYTES_MAX)?;
    at_most(PACKING, packing_json.len(), limits::PACKING_BYTES_MAX)?;
    if files.signature.is_none() && !files.more_signatures.is_empty() {
        return Err(HeadError::Missing(INDEX_SIGNATURE));
    }
    if let Some(signature) = &files.signature {
        at_most(
            INDEX_SIGNATURE,
            signature.len(),
            limits::SIGNATURE_BYTES_MAX,
        )?;
    }
    let more = limits::SIGNATURES_MAX - 1;
    check_signatures(INDEX_SIGNATURE, &files.more_signatures, more)?;
    at_most("trust roots", files.roots.len(), limits::ROOTS_MAX)?;
    for ((version, root), expected) in files.roots.iter().zip(2..) {
        if *version != expected {
            return Err(HeadError::Missing("complete row of trust roots from 2 on"));
        }
        let name = format!("trust/{version}.root.json");
        at_most(&name, root.json.len(), limits::ROOT_BYTES_MAX)?;
        check_signatures(&name, &root.signatures, limits::SIGNATURES_MAX)?;
    }
    if let Some(list) = &files.revocations {
        at_most(REVOCATIONS, list.json.len(), limits::REVOCATIONS_BYTES_MAX)?;
        check_signatures(REVOCATIONS, &list.signatures, limits::SIGNATURES_MAX)?;
    }
    Ok(())
}

fn check_signatures(
    of: &str,
    signatures: &BTreeMap<KeyId, Vec<u8>>,
    count_max: usize,
) -> Result<(), HeadError> {
    at_most(&format!("signatures of {of}"), signatures.len(), count_max)?;
    for signature in signatures.values() {
        let what = format!("a signature of {of}");
        at_most(&what, signature.len(), limits::SIGNATURE_BYTES_MAX)?;
    }
    Ok(())
}

fn at_most(what: &str, actual: usize, limit: usize) -> Result<(), HeadError> {
    if actual <= limit {
        return Ok(());
    }
    Err(HeadError::Limit {
        what: what.to_owned(),
        actual,
        limit,
    })
}
