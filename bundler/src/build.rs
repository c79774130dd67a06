//! The build: settings → gather → resolve → fetch → plan → sign → write.
//!
//! 1. Everything that can be refused without the network is refused first: release file, trust root, local files, keys.
//! 2. All images are resolved, so every problem of every image, and the size of all, is known before the first layer.
//! 3. Room on the disk is checked for cache and bundle before the first layer.
//! 4. The index is composed from sorted inputs, signed in memory, and verified as a site will do it.
//! 5. The bundle is written beside its name, synced, renamed.
//!
//! Killed anywhere it leaves the old bundle or the new one under the name, never half of one. Nothing of the clock, the
//! host, the user, the umask, the folder or the order of answers gets into the bytes.

mod memo;
mod progress;
mod settings;
mod show;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use api::event::Event;
use bundle::Digest;
use bundle::Hasher;
use bundle::head::HeadFiles;
use bundle::index::BundleIndex;
use bundle::key::SecretKey;
use bundle::minisig::Signature;
use bundle::write::Effort;
use bundle::write::WriteOptions;
use bundle::write::Written;
use bundle::write::write_bundle;

use self::memo::Memo;
use self::settings::Settings;
use self::show::Built;
use self::show::Planned;
use crate::cache::Cache;
use crate::cli::BuildArgs;
use crate::durable;
use crate::failure::Outcome;
use crate::fetch::FetchOptions;
use crate::fetch::FetchedImage;
use crate::fetch::Fetcher;
use crate::gather::Gathered;
use crate::gather::gather;
use crate::local::at;
use crate::output::Output;
use crate::pending;
use crate::pending::Pending;
use crate::plan::Blobs;
use crate::plan::plan;
use crate::release::ImageFrom;
use crate::secrets;
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
    // A wrong password shall not be found after an hour of fetching. Unlocking is slow on purpose, though, so where a
    // bundle is there already, it waits until it is known that a new one is needed.
    let early = if settings.target.exists() {
        None
    } else {
        Some(unlock(&settings, arguments, output)?)
    };
    let cache = Cache::open(&settings.cache)?;
    let fetcher = Fetcher::new(
        &cache,
        fetch_options(&settings, arguments),
        progress::of_fetch(output),
    )?;
    let images = fetcher.resolve(&requests(&settings))?;
    output.note(show::found(&settings, &images, &gathered));
    let missing = fetcher.bytes_missing(&images)?;
    if arguments.dry_run {
        return Planned::of(&settings, &images, &gathered, missing).print(output);
    }
    require_space(&settings, &images, &gathered, missing)?;
    fetch(&fetcher, &images, missing, output)?;
    let (index, blobs) = plan(
        &settings.release,
        settings.decided.clone(),
        &images,
        gathered,
        &cache,
    )?;
    let json = index.to_bytes()?;
    let memo = Memo::of(&settings.cache, &settings.target);
    let inputs = inputs(&settings, &json)?;
    if memo.vouches_for(&settings.target, &inputs) {
        return Built::unchanged(&settings, &index, &json, begun).print(output);
    }
    let keys = early.map_or_else(|| unlock(&settings, arguments, output), Ok)?;
    let head = head(&settings, &index, json, &keys)?;
    let written = write(&settings, &index, &blobs, &head, output)?;
    memo.keep(&settings.target, &inputs);
    Built::new(&settings, &index, &written, &keys, begun).print(output)
}

fn unlock(settings: &Settings, arguments: &BuildArgs, output: &Output) -> Outcome<Vec<SecretKey>> {
    let keys = secrets::open_all(&settings.keys, &arguments.password, output)?;
    signing::require_role(
        &keys,
        settings.trust.root().root(),
        &settings.release.product,
    )?;
    Ok(keys)
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
fn require_space(
    settings: &Settings,
    images: &[FetchedImage],
    gathered: &Gathered,
    missing: u64,
) -> Outcome {
    let bundle = show::payload_bytes(images, gathered);
    let marker = settings.cache.join("blobs");
    let also_cache = pending::share_disk(&settings.target, &marker);
    let need = if also_cache {
        bundle.saturating_add(missing)
    } else {
        bundle
    };
    pending::require_space(&settings.target, need)
}

fn fetch(fetcher: &Fetcher, images: &[FetchedImage], missing: u64, output: &Output) -> Outcome {
    let begun = Instant::now();
    fetcher.fetch(images)?;
    output.event(&Event::Done {
        step: "fetch".to_owned(),
        summary: show::fetched(images, missing, begun.elapsed()),
        elapsed_ms: show::milliseconds(begun),
    });
    Ok(())
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

/// The signed head; what a site would refuse does not leave the house.
fn head(
    settings: &Settings,
    index: &BundleIndex,
    json: Vec<u8>,
    keys: &[SecretKey],
) -> Outcome<HeadFiles> {
    let mut head = HeadFiles {
        bundle_json: json,
        signature: None,
        more_signatures: BTreeMap::new(),
        roots: trust::load_chain(&settings.root, &settings.trust)?,
        revocations: None,
    };
    for key in keys {
        let signature = Signature::sign(key, &head.bundle_json, &index.purpose());
        signing::add(&mut head, &signature)?;
    }
    if !keys.is_empty() {
        signing::require_verifies(&head, &settings.trust)?;
    }
    Ok(head)
}

fn write(
    settings: &Settings,
    index: &BundleIndex,
    blobs: &Blobs<'_>,
    head: &HeadFiles,
    output: &Output,
) -> Outcome<Written> {
    let options = WriteOptions {
        effort: settings.effort,
        ..WriteOptions::default()
    };
    let mut pending = Pending::begin(&settings.target)?;
    let events = progress::of_write(output);
    let written = write_bundle(head, blobs, pending.file(), &options, &events)?;
    pending.publish()?;
    output.end_step();
    tracing::debug!(id = %written.id, blobs = index.blobs.len(), "written");
    Ok(written)
}
