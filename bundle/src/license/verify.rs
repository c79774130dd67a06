//! From bytes to a [`VerifiedLicense`]: signature first, then the same buffer is parsed.

use crate::digest::Digest;
use crate::index::BundleIndex;
use crate::index::CarriedLicense;
use crate::json::JsonError;
use crate::license::License;
use crate::license::LicenseError;
use crate::license::VerifiedLicense;
use crate::limits;
use crate::root::RoleName;
use crate::signers::Document;
use crate::signers::Signers;
use crate::verify::Trust;

impl VerifiedLicense {
    /// Verifies a license file with what the site trusts.
    pub fn verify(file: Vec<u8>, trust: &Trust) -> Result<Self, LicenseError> {
        let root = trust.root().root();
        let (signature, json) = split(&file)?;
        let keys = trust.keys_of(|role| matches!(role, RoleName::License(_)));
        let signers = Signers::of(Document::License, json, std::iter::once(signature), &keys)
            .map_err(LicenseError::Signers)?;
        let license = License::parse(json)?;
        if license.vendor != root.vendor {
            return Err(LicenseError::Vendor {
                expected: root.vendor.clone(),
                actual: license.vendor,
            });
        }
        let digest = Digest::of(json);
        let quorum = trust
            .quorum(RoleName::License(license.product.clone()), None)
            .ok_or_else(|| LicenseError::NoRole(license.product.clone()))?;
        let comment = license.purpose().comment(&digest);
        let signers = signers
            .require(&quorum, &comment)
            .map_err(LicenseError::Signers)?;
        if let Some(reason) = trust.license_revoked(&license.license_id) {
            return Err(LicenseError::Revoked {
                id: license.license_id,
                reason: reason.to_owned(),
            });
        }
        Ok(Self {
            license,
            digest,
            signers,
            file,
        })
    }

    /// Verifies a license that travels in a bundle: the file that the index pins, for the bundle's own product.
    pub fn verify_carried(
        file: Vec<u8>,
        entry: &CarriedLicense,
        index: &BundleIndex,
        trust: &Trust,
    ) -> Result<Self, LicenseError> {
        let actual = Digest::of(&file);
        if actual != entry.digest {
            return Err(LicenseError::Digest {
                expected: entry.digest,
                actual,
            });
        }
        let verified = Self::verify(file, trust)?;
        if verified.license.license_id != entry.id {
            return Err(LicenseError::Id {
                expected: entry.id.clone(),
                actual: verified.license.license_id,
            });
        }
        verified.require_product(&index.product)?;
        Ok(verified)
    }
}

/// Cuts a license file behind its fourth line.
fn split(file: &[u8]) -> Result<(&[u8], &[u8]), LicenseError> {
    if file.len() > limits::LICENSE_BYTES_MAX {
        return Err(LicenseError::Json(JsonError::Size {
            actual: file.len(),
            limit: limits::LICENSE_BYTES_MAX,
        }));
    }
    if !file.starts_with(b"untrusted comment: ") {
        return Err(LicenseError::Foreign(recognise(file)));
    }
    let ends = file.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let (end, _line_feed) = ends.clone().nth(3).ok_or(LicenseError::NoDocument)?;
    let (signature, json) = file
        .split_at_checked(end.saturating_add(1))
        .ok_or(LicenseError::NoDocument)?;
    if json.is_empty() {
        return Err(LicenseError::NoDocument);
    }
    Ok((signature, json))
}

/// Names what somebody gave by mistake.
fn recognise(file: &[u8]) -> &'static str {
    let begins = |with: &[u8]| file.starts_with(with);
    let holds = |text: &[u8]| file.windows(text.len()).take(4096).any(|part| part == text);
    if file.is_empty() {
        "an empty file"
    } else if begins(b"PK\x03\x04") {
        "a zip archive"
    } else if begins(b"\x28\xb5\x2f\xfd") {
        "a zstd file, perhaps a bundle"
    } else if begins(b"\x1f\x8b") {
        "a gzip file"
    } else if begins(b"-----BEGIN LICENSE FILE") || begins(b"-----BEGIN MACHINE FILE") {
        "a keygen license file"
    } else if begins(b"-----BEGIN ") {
        "a PEM file"
    } else if holds(b"kots.io/") || holds(b"kind: License") {
        "a Replicated license"
    } else if begins(b"{") {
        "JSON without a signature"
    } else {
        "something else"
    }
}
