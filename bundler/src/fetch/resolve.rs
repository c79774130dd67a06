//! Finds out what an image is made of: walks from its name down to its layers, platform by platform.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use bundle::Digest;
use bundle::index::Stage;
use bundle::limits;
use bundle::name::Platform;

use super::BlobDescriptor;
use super::Events;
use super::FetchEvent;
use super::FetchedImage;
use super::Shared;
use super::sources::Place;
use super::sources::RawDocument;
use super::sources::Source;
use super::sources::keep;
use super::transfer::Wanted;
use crate::cache::blocking;
use crate::source::ImageRequest;
use crate::source::SourceError;
use crate::source::document::Content;
use crate::source::document::Descriptor;
use crate::source::document::Document;
use crate::source::document::PlatformEntry;

/// Documents of one image; an index with an index of 512 in each place would otherwise be asked for 262 144 times.
const DOCUMENTS_MAX: usize = limits::LAYERS_MAX;

impl Shared {
    /// Resolves one image at the first of its places that has it whole.
    pub(super) async fn resolve(&self, request: ImageRequest) -> Result<FetchedImage, SourceError> {
        let mut places = self.sources.places(&request);
        let mut number = 0;
        loop {
            // Never empty: the registry itself, or the layout, is always the last one.
            let place = places.get(number).cloned();
            let Some(place) = place else {
                return Err(SourceError::NotFound {
                    what: request.name.to_string(),
                    place: "any registry".to_owned(),
                });
            };
            match self.resolve_at(&request, &place).await {
                Ok(mut image) => {
                    places.swap(0, number);
                    image.places = places;
                    self.events.send(FetchEvent::Resolved {
                        name: image.name.clone(),
                        digest: image.digest,
                        blobs: image.blobs.len(),
                        bytes: image.blobs.iter().map(|blob| blob.size).sum(),
                    });
                    return Ok(image);
                }
                Err(error)
                    if number + 1 == places.len() || matches!(error, SourceError::Cache(_)) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(image = %request.name, %place, %error, "a mirror does not have it, the next is asked");
                    number += 1;
                }
            }
        }
    }

    async fn resolve_at(
        &self,
        request: &ImageRequest,
        place: &Place,
    ) -> Result<FetchedImage, SourceError> {
        let mut walk = Walk {
            shared: self,
            request,
            source: self.sources.open(place).await?,
            place,
            blobs: BTreeMap::new(),
            order: Vec::new(),
            covered: BTreeSet::new(),
            present: BTreeSet::new(),
        };
        let top = walk.top().await?;
        let digest = Digest::of(&top.bytes);
        let media_type = walk.walk(digest, top).await?;
        walk.check_platforms()?;
        Ok(FetchedImage {
            name: request.name.clone(),
            digest,
            media_type: media_type.to_owned(),
            blobs: walk.in_order(),
            places: Vec::new(),
        })
    }
}

/// One image being walked.
struct Walk<'a> {
    shared: &'a Shared,
    request: &'a ImageRequest,
    source: Source,
    place: &'a Place,
    blobs: BTreeMap<Digest, BlobDescriptor>,
    order: Vec<Digest>,
    /// Platforms that were asked for and are there.
    covered: BTreeSet<Platform>,
    /// All that are there, for the message.
    present: BTreeSet<String>,
}

/// A document that is to be read.
struct Pending {
    digest: Digest,
    raw: RawDocument,
    /// Indexes above it.
    depth: usize,
    /// An index has said already that it is for one of the platforms.
    is_chosen: bool,
}

impl Walk<'_> {
    async fn top(&self) -> Result<RawDocument, SourceError> {
        if let Some(digest) = &self.request.digest
            && let Some(bytes) = self.cached(digest).await?
        {
            return Ok(RawDocument { bytes, named: None });
        }
        self.source
            .top(&self.request.name, self.request.digest.as_ref())
            .await
    }

    /// Walks everything below the top document; gives the top's media type.
    async fn walk(
        &mut self,
        digest: Digest,
        raw: RawDocument,
    ) -> Result<&'static str, SourceError> {
        let mut media_type = None;
        let mut pending = VecDeque::from([Pending {
            digest,
            raw,
            depth: 0,
            is_chosen: false,
        }]);
        let mut count = 0;
        while let Some(next) = pending.pop_front() {
            count += 1;
            if count > DOCUMENTS_MAX {
                return Err(self.refuse(
                    &digest,
                    format!("it has more than {DOCUMENTS_MAX} manifests"),
                ));
            }
            let named = next.raw.named.as_deref();
            let document = Document::parse(&next.raw.bytes, named)
                .map_err(|reason| self.refuse(&next.digest, reason))?;
            let is_top = media_type.is_none();
            media_type.get_or_insert(document.media_type);
            match &document.content {
                Content::Index(children) => {
                    if next.depth >= limits::INDEX_NESTING_MAX {
                        let reason = format!(
                            "it is nested in more than {} indexes",
                            limits::INDEX_NESTING_MAX - 1
                        );
                        return Err(self.refuse(&next.digest, reason));
                    }
                    self.keep_document(&next, document.media_type).await?;
                    for (child, is_chosen) in self.choose(children) {
                        pending.push_back(self.load(child, next.depth + 1, is_chosen).await?);
                    }
                }
                Content::Manifest { config, layers } => {
                    if self.is_wanted(&next, config, is_top).await? {
                        self.keep_document(&next, document.media_type).await?;
                        self.add(config, Stage::Metadata)?;
                        for layer in layers {
                            self.add(layer, self.request.stage)?;
                        }
                    }
                }
            }
        }
        Ok(media_type.unwrap_or_default())
    }

    /// The children of an index that have to be looked at, and whether the index says already that they are wanted.
    fn choose<'d>(&mut self, children: &'d [Descriptor]) -> Vec<(&'d Descriptor, bool)> {
        let mut chosen = Vec::new();
        for child in children.iter().filter(|child| child.is_document()) {
            match &child.platform {
                Some(platform) if !child.is_index() => {
                    if self.note(platform) {
                        chosen.push((child, true));
                    }
                }
                Some(_) | None => chosen.push((child, false)),
            }
        }
        chosen
    }

    /// Notes a platform that is there; says whether it was asked for.
    fn note(&mut self, platform: &PlatformEntry) -> bool {
        self.present.insert(platform.to_string());
        let matching: Vec<&Platform> = self
            .request
            .platforms
            .iter()
            .filter(|it| platform.is_for(it))
            .collect();
        self.covered.extend(matching.iter().copied().cloned());
        !matching.is_empty()
    }

    /// Whether a manifest is for one of the platforms, by its index or else by its own config.
    async fn is_wanted(
        &mut self,
        manifest: &Pending,
        config: &Descriptor,
        is_top: bool,
    ) -> Result<bool, SourceError> {
        if manifest.is_chosen {
            return Ok(true);
        }
        if config.is_image_config() {
            let bytes = self.read_config(config).await?;
            let platform = PlatformEntry::of_config(&bytes)
                .map_err(|reason| self.refuse(&config.digest, reason))?;
            return Ok(self.note(&platform));
        }
        // A chart or another artifact runs nowhere, so it is right everywhere; inside an index it is nobody's choice.
        if is_top {
            self.covered.extend(self.request.platforms.iter().cloned());
        }
        Ok(is_top)
    }

    async fn load(
        &self,
        child: &Descriptor,
        depth: usize,
        is_chosen: bool,
    ) -> Result<Pending, SourceError> {
        let what = self.what(&child.digest);
        let max = u64::try_from(limits::MANIFEST_BYTES_MAX).unwrap_or(u64::MAX);
        if child.size > max {
            return Err(self.too_large(what, max));
        }
        let mut raw = match self.cached(&child.digest).await? {
            Some(bytes) => RawDocument { bytes, named: None },
            None => {
                self.source
                    .document(&child.digest, child.size, &what)
                    .await?
            }
        };
        if let Some(named) = raw.named.filter(|named| *named != child.media_type)
            && crate::source::document::DOCUMENT_TYPES.contains(&named.as_str())
        {
            let reason = format!(
                "it came as {named}, but its index calls it {}",
                child.media_type
            );
            return Err(self.refuse(&child.digest, reason));
        }
        raw.named = Some(child.media_type.clone());
        Ok(Pending {
            digest: child.digest,
            raw,
            depth,
            is_chosen,
        })
    }

    async fn read_config(&self, config: &Descriptor) -> Result<Vec<u8>, SourceError> {
        let max = u64::try_from(limits::MANIFEST_BYTES_MAX).unwrap_or(u64::MAX);
        let what = format!("config {}", config.digest);
        if config.size > max {
            return Err(self.too_large(what, max));
        }
        let wanted = Wanted {
            digest: config.digest,
            size: config.size,
            stage: Stage::Metadata,
            places: vec![self.place.clone()],
        };
        // Configs are a part of finding out, not of what is counted.
        self.shared.fetch_blob(&wanted, &Events::nowhere()).await?;
        let gone = || SourceError::NotFound {
            what,
            place: "the cache".to_owned(),
        };
        self.cached(&config.digest).await?.ok_or_else(gone)
    }

    async fn cached(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        let (cache, digest) = (self.shared.cache.clone(), *digest);
        let max = u64::try_from(limits::MANIFEST_BYTES_MAX).unwrap_or(u64::MAX);
        Ok(blocking(move || cache.read(&digest, max)).await?)
    }

    async fn keep_document(
        &mut self,
        document: &Pending,
        media_type: &str,
    ) -> Result<(), SourceError> {
        keep(&self.shared.cache, document.raw.bytes.clone()).await?;
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: document.digest,
            size: u64::try_from(document.raw.bytes.len()).unwrap_or(u64::MAX),
            platform: None,
            annotations: None,
        };
        self.add(&descriptor, Stage::Metadata)
    }

    fn add(&mut self, blob: &Descriptor, stage: Stage) -> Result<(), SourceError> {
        if let Some(known) = self.blobs.get_mut(&blob.digest) {
            if known.size != blob.size {
                let reason = format!(
                    "it gives {} the sizes {} and {}",
                    blob.digest, known.size, blob.size
                );
                return Err(self.refuse(&blob.digest, reason));
            }
            known.stage = known.stage.min(stage);
            return Ok(());
        }
        self.order.push(blob.digest);
        self.blobs.insert(
            blob.digest,
            BlobDescriptor {
                digest: blob.digest,
                size: blob.size,
                media_type: blob.media_type.clone(),
                stage,
            },
        );
        Ok(())
    }

    fn check_platforms(&self) -> Result<(), SourceError> {
        let missing = self
            .request
            .platforms
            .iter()
            .filter(|wanted| !self.covered.contains(*wanted));
        let missing: Vec<&str> = missing.map(Platform::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(SourceError::Platform {
            what: self.request.name.to_string(),
            wanted: missing.join(", "),
            present: self.present.iter().cloned().collect(),
        })
    }

    fn in_order(mut self) -> Vec<BlobDescriptor> {
        self.order
            .iter()
            .filter_map(|digest| self.blobs.remove(digest))
            .collect()
    }

    fn what(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.request.name)
    }

    fn refuse(&self, digest: &Digest, reason: String) -> SourceError {
        SourceError::Document {
            what: self.what(digest),
            place: self.source.place(),
            reason,
        }
    }

    fn too_large(&self, what: String, max: u64) -> SourceError {
        SourceError::TooLarge {
            what,
            place: self.source.place(),
            limit: format!("{max} bytes"),
        }
    }
}
