//! The license of an install: given, kept, or carried by the bundle itself; and it must allow what is asked for.

use bundle::Digest;
use bundle::fault::Blame;
use bundle::fault::Fault;
use bundle::head::VerifiedHead;
use bundle::index::BundleIndex;
use bundle::license::Action;
use bundle::license::Feature;
use bundle::license::VerifiedLicense;
use program::Outcome;
use store::Store;

use super::settings::Settings;
use crate::clock;
use crate::run::Journal;
use crate::run::Step;
use crate::run::Work;

/// A bundle that is to be installed without anybody's license.
#[derive(Debug, thiserror::Error)]
#[error("no license for {product} is here")]
struct NoLicense {
    product: String,
}

/// The license that is there before the bundle is read; `None` only when the bundle carries one itself.
pub(super) fn given_or_kept(
    store: &Store,
    head: &VerifiedHead,
    settings: &Settings,
) -> Outcome<Option<VerifiedLicense>> {
    let index = head.index();
    let license = match &settings.license_file {
        Some(file) => Some(store.verify_license(file)?),
        None => store.license_for(index)?,
    };
    match license {
        Some(license) => {
            require(store, index, &license, settings.site.ha)?;
            Ok(Some(license))
        }
        None if index.licenses.is_empty() => Err(absent(index).into()),
        None => Ok(None),
    }
}

fn require(store: &Store, index: &BundleIndex, license: &VerifiedLicense, ha: bool) -> Outcome {
    license.allows_release(index)?;
    license.allows_feature(Feature::Airgap)?;
    if ha {
        license.allows_feature(Feature::Ha)?;
    }
    license.allows_action(Action::Install, store.judging_time(clock::now())?)?;
    Ok(())
}

fn absent(index: &BundleIndex) -> NoLicense {
    NoLicense {
        product: index.product.to_string(),
    }
}

/// `license`: the one in the store allows it. Nothing after this step happens without.
pub(super) struct Licensed<'a> {
    pub(super) store: &'a Store,
    pub(super) index: &'a BundleIndex,
    pub(super) ha: bool,
}

impl Step for Licensed<'_> {
    fn id(&self) -> &'static str {
        "license"
    }

    fn input(&self) -> Digest {
        Digest::of(self.index.product.as_str().as_bytes())
    }

    fn probe(&self, _past: &Journal) -> Outcome<Option<String>> {
        let license = self.store.license_for(self.index)?;
        let license = license.ok_or_else(|| absent(self.index))?;
        require(self.store, self.index, &license, self.ha)?;
        let document = license.license();
        Ok(Some(format!(
            "{}, {}",
            document.license_id, document.customer.name
        )))
    }

    fn apply(&self, _work: &mut Work<'_>) -> Outcome {
        // The probe finds it or fails: there is nothing that could be done about it here.
        Ok(())
    }
}

impl Fault for NoLicense {
    fn code(&self) -> &'static str {
        "LICENSE_ABSENT"
    }

    fn blame(&self) -> Blame {
        Blame::Policy
    }

    fn hint(&self) -> Option<String> {
        Some("give the customer's file with license=FILE, or bring it in with installer import FILE.lic".to_owned())
    }
}
