//! The build: settings → gather → resolve → plan → fetch and write → sign.
//!
//! 1. Everything that can be refused without the network is refused first: release file, trust root, local files, keys.
//! 2. All images are resolved, so every problem of every image, and the size of all, is known before the first layer.
//! 3. Room on the disk is checked for cache and bundle before the first layer.
//! 4. The index is composed from sorted inputs. When the bundle that is there was built of the same, that is all.
//! 5. The bundle is written beside its name while its blobs are fetched, in its own order. Only the digests of piece
//!    lists come last: then the index is signed in memory and verified as a site will do it.
//! 6. The file is synced and renamed.
//!
//! Killed anywhere it leaves the old bundle or the new one under the name, never half of one. Nothing of the clock, the
//! host, the user, the umask, the folder or the order of answers gets into the bytes.

mod memo;
mod progress;
mod reuse;
mod settings;
mod show;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use bundle::Digest;
use bundle::Hasher;
use bundle::head::HeadFiles;
use bundle::index::BundleIndex;
use bundle::key::SecretKey;
use bundle::minisig::Signature;
use bundle::write::Effort;
use bundle::write::WriteError;
use bundle::write::WriteOptions;
use bundle::write::Written;
use bundle::write::write_bundle_late;

use self::memo::Memo;
use self::progress::Progress;
use self::settings::Settings;
use self::show::Built;
use self::show::Planned;
use crate::cache::Cache;
use crate::cli::BuildArgs;
use crate::durable;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::fetch::FetchOptions;
use crate::fetch::Fetcher;
use crate::fetch::Fetching;
use crate::gather::gather;
use crate::local::at;
use crate::output::Output;
use crate::pending;
use crate::pending::Pending;
use crate::plan::Blobs;
use crate::plan::plan;
use crate::release::ImageFrom;
use crate::secrets::Unlocking;
use crate::signing;
use crate::source::ImageRequest;
use crate::source::Origin;
use crate::source::registry::RegistryOptions;
use crate::trust;

/// Builds one bundle, or says what it would be made of.
pub fn run(arguments: &BuildArgs, output: &Arc<Output>) -> Outcome {
    let begun = Instant::now();
    let settings = Settings::of(arguments)?;
    output.note(show::title(&settings));
    let gathered = gather(&settings.release, &settings.folder, &settings.trust)?;
    // A wrong password shall not be found after an hour of fetching. Unlocking is slow on purpose, though: it goes on
    // beside the look-ups, and where a bundle is there already, it waits until it is known that a new one is needed.
    let unlock = || Unlocking::begin(&settings.keys, &arguments.password, output);
    let early = if settings.target.exists() {
        None
    } else {
        Some(unlock()?)
    };
    let cache = Cache::open(&settings.cache)?;
    let progress = Progress::new(output);
    let options = fetch_options(&settings, arguments);
    let fetcher = Fetcher::new(&cache, options, progress.of_fetch())?;
    let images = fetcher.resolve(&requests(&settings))?;
    show::found(&images, &gathered, output);
    let missing = fetcher.bytes_missing(&images)?;
    if arguments.dry_run {
        return Planned::of(&settings, &images, &gathered, missing).print(output);
    }
    let need = show::payload_bytes(&images, &gathered);
    let decided = settings.decided.clone();
    let (index, blobs) = plan(&settings.release, decided, &images, gathered, &cache);
    let memo = Memo::of(&settings.cache, &settings.target);
    let inputs = inputs(&settings, &index.to_bytes()?)?;
    if let Some(bundle) = memo.recall(&settings.target, &inputs) {
        return Built::unchanged(&settings, &index, bundle, begun).print(output);
    }
    require_space(&settings, need, missing)?;
    let unlocking = early.map_or_else(unlock, Ok)?;
    let keys = unlocking.finish()?;
    signing::require_role(
        &keys,
        settings.trust.root().root(),
        &settings.release.product,
    )?;
    let pending = Pending::begin(&settings.target)?;
    let fetching = fetcher.begin(&images)?;
    let mut making = Making {
        settings: &settings,
        cache: &cache,
        index: &index,
        keys: &keys,
        blobs,
        progress: &progress,
    };
    let before = reuse::look_at(&settings.target);
    let written = making.run(pending, fetching)?;
    output.end_step();
    memo.keep(&settings.target, &inputs, &written.id);
    reuse::warn(before.as_ref(), &index, &written.id, output);
    let root = settings.trust.root().root();
    let lacks = signing::lacks(&keys, root, &settings.release.product);
    Built::new(&settings, &index, &written, &keys, lacks, begun).print(output)
}

fn fetch_options(settings: &Settings, arguments: &BuildArgs) -> FetchOptions {
    let at_once = NonZeroUsize::new(arguments.concurrency.into()).unwrap_or(NonZeroUsize::MIN);
    let registries = &settings.release.registries;
    FetchOptions {
        images_at_once: at_once,
        layers_at_once: at_once,
        registry: RegistryOptions {
            insecure: registries.insecure.iter().cloned().collect(),
            ..RegistryOptions::default()
        },
        mirrors: registries.mirrors.clone(),
    }
}

fn requests(settings: &Settings) -> Vec<ImageRequest> {
    let request = |image: &crate::release::Image| ImageRequest {
        name: image.name.clone(),
        digest: image.digest,
        from: match &image.from {
            ImageFrom::Registry => Origin::Registry,
            ImageFrom::OciLayout(path) => Origin::Layout(at(&settings.folder, path)),
        },
        platforms: settings.decided.platforms.clone(),
        stage: image.stage.of_blobs(),
    };
    settings.release.images.iter().map(request).collect()
}

/// Says that the disk is too small before the first layer, not after the last.
fn require_space(settings: &Settings, bundle: u64, missing: u64) -> Outcome {
    let marker = settings.cache.join("blobs");
    let also_cache = pending::share_disk(&settings.target, &marker);
    let need = if also_cache {
        bundle.saturating_add(missing)
    } else {
        bundle
    };
    pending::require_space(&settings.target, need)
}

/// All that decides the bytes of the file: the index, how hard it is compressed, the root and the keys.
fn inputs(settings: &Settings, json: &[u8]) -> Outcome<Digest> {
    let mut hasher = Hasher::new();
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.update(Digest::of(json).as_bytes());
    hasher.update(match settings.effort {
        Effort::Release => b"release",
        Effort::Fast => b"fast...",
    });
    hasher.update(settings.trust.root().fingerprint().as_bytes());
    for key in &settings.keys {
        let file = durable::read_capped(key, bundle::key::KEY_FILE_BYTES_MAX)?;
        hasher.update(Digest::of(&file).as_bytes());
    }
    Ok(hasher.finish())
}

/// A bundle being made: fetched, written and signed.
struct Making<'a> {
    settings: &'a Settings,
    cache: &'a Cache,
    /// The draft: all but the digests of piece lists.
    index: &'a BundleIndex,
    keys: &'a [SecretKey],
    blobs: Blobs<'a>,
    progress: &'a Progress,
}

impl Making<'_> {
    /// Writes the bundle while its blobs come, and gives it its name.
    fn run(&mut self, mut pending: Pending, fetching: Fetching<'_>) -> Outcome<Written> {
        self.blobs.follow(fetching.arrivals());
        let mut written = self.write(&mut pending);
        // Both are the fetch's to explain: what did not come, and what has come by then and can be looked at.
        if let Err(Unwritten::Bundle(WriteError::Source { .. } | WriteError::Mislabelled(_))) =
            written
        {
            fetching.finish()?;
            if matches!(written, Err(Unwritten::Bundle(WriteError::Mislabelled(_)))) {
                pending.restart()?;
                written = self.write(&mut pending);
            }
        }
        match written {
            Ok(written) => {
                pending.publish()?;
                Ok(written)
            }
            Err(Unwritten::Bundle(error)) => {
                if let WriteError::Blob { digest, .. } = &error {
                    // A cached blob that rotted is fetched anew by the next run.
                    self.cache.evict(digest)?;
                }
                Err(error.into())
            }
            Err(Unwritten::Other(failure)) => Err(failure),
        }
    }

    fn write(&self, pending: &mut Pending) -> Result<Written, Unwritten> {
        let options = WriteOptions {
            effort: self.settings.effort,
            ..WriteOptions::default()
        };
        // Of the same length as the final head, its signatures as well.
        let draft = self.sign(self.index).map_err(Unwritten::Other)?;
        let complete = |lists: &BTreeMap<Digest, Digest>| {
            let mut index = self.index.clone();
            index.set_pieces(lists);
            let head = self.sign(&index).and_then(|head| self.verify(head));
            head.map_err(Unwritten::Other)
        };
        let events = |event| self.progress.write(event);
        write_bundle_late(
            &draft,
            &self.blobs,
            pending.file(),
            &options,
            &events,
            complete,
        )
    }

    fn sign(&self, index: &BundleIndex) -> Outcome<HeadFiles> {
        let settings = self.settings;
        let mut head = HeadFiles {
            bundle_json: index.to_bytes()?,
            signature: None,
            more_signatures: BTreeMap::new(),
            roots: trust::load_chain(&settings.root, &settings.trust)?,
            revocations: None,
        };
        for key in self.keys {
            let signature = Signature::sign(key, &head.bundle_json, &index.purpose());
            signing::add(&mut head, &signature)?;
        }
        Ok(head)
    }

    /// What a site would refuse does not leave the house.
    fn verify(&self, head: HeadFiles) -> Outcome<HeadFiles> {
        if !self.keys.is_empty() {
            signing::require_verifies(&head, &self.settings.trust)?;
        }
        Ok(head)
    }
}

/// Why a bundle was not written.
enum Unwritten {
    Bundle(WriteError),
    Other(Failure),
}

impl From<WriteError> for Unwritten {
    fn from(error: WriteError) -> Self {
        Self::Bundle(error)
    }
}
