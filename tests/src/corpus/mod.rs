//! Real OCI images from a seed: gzip layers with tar inside, shared between images, configs, manifests, one index.
//!
//! A corpus is an OCI image layout directory. The same plan gives the same bytes on every machine; a few hundred
//! megabytes take seconds. Nothing here is random but by the seed, and no time or owner of this machine gets in.

mod layer;
mod plan;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::Result;
use bundle::Digest;
use serde_json::json;

pub use self::plan::CorpusPlan;
pub use self::plan::ImagePlan;
pub use self::plan::LayerPlan;
use crate::image_layout::Config;
use crate::image_layout::INDEX;
use crate::image_layout::Layer;
use crate::image_layout::LayoutWriter;
use crate::image_layout::MANIFEST;
use crate::image_layout::Named;

/// The registry that stands in the full names of all images.
pub const REGISTRY: &str = "registry.acme.example";

/// Images on disk, as an OCI image layout.
#[derive(Debug)]
pub struct Corpus {
    /// The layout: `oci-layout`, `index.json`, `blobs/sha256/…`.
    pub layout: PathBuf,
    /// The images, in the order of the plan.
    pub images: Vec<Image>,
    /// Size of each blob by digest.
    pub blobs: BTreeMap<Digest, u64>,
}

/// One image of a corpus.
#[derive(Clone, Debug)]
pub struct Image {
    /// The repository's path in its registry, as `shop/web`.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// What the tag names: the manifest, or the index of an image for several platforms.
    pub digest: Digest,
    /// Its media type.
    pub media_type: &'static str,
    /// All blobs that a pull for linux/amd64 needs, the digest above included.
    pub amd64: Vec<Digest>,
}

impl Image {
    /// `repository:tag`.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// `registry/repository:tag`, its name in the layout and at the site.
    pub fn name(&self) -> String {
        format!("{REGISTRY}/{}", self.reference())
    }

    fn in_index(&self) -> Named {
        Named {
            name: self.name(),
            digest: self.digest,
            media_type: self.media_type,
        }
    }
}

impl Corpus {
    /// Makes the images of a plan below `layout`, which must not exist yet.
    pub fn make(plan: &CorpusPlan, layout: &Path) -> Result<Self> {
        let mut writer = LayoutWriter::create(layout)?;
        let layers = layer::make_all(&plan.layers, &writer.blobs_directory())?;
        for layer in &layers {
            writer.add_layer(layer);
        }
        let images = plan
            .images
            .iter()
            .map(|image| write_image(&mut writer, image, &layers))
            .collect::<Result<Vec<_>>>()?;
        let named: Vec<Named> = images.iter().map(Image::in_index).collect();
        writer.write_index(&named)?;
        Ok(Self {
            layout: layout.to_owned(),
            images,
            blobs: writer.blobs,
        })
    }

    /// Bytes of all blobs that pulls of all images for linux/amd64 need, each blob once.
    pub fn amd64_bytes(&self) -> u64 {
        self.amd64_blobs().values().sum()
    }

    /// The blobs that pulls of all images for linux/amd64 need, with their sizes.
    pub fn amd64_blobs(&self) -> BTreeMap<Digest, u64> {
        let needed = self.images.iter().flat_map(|image| &image.amd64);
        needed
            .filter_map(|digest| Some((*digest, *self.blobs.get(digest)?)))
            .collect()
    }

    /// Path of a blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.layout.join("blobs/sha256").join(digest.to_hex())
    }
}

/// Writes one image: a manifest for linux/amd64 and, where the plan says so, one for linux/arm64 and the index.
fn write_image(writer: &mut LayoutWriter, plan: &ImagePlan, layers: &[Layer]) -> Result<Image> {
    let chosen = pick(layers, &plan.layers)?;
    let (amd64, mut blobs) = write_manifest(writer, plan, "amd64", &chosen)?;
    let (digest, media_type) = if plan.arm64_layers.is_empty() {
        (amd64, MANIFEST)
    } else {
        let (arm64, _others) =
            write_manifest(writer, plan, "arm64", &pick(layers, &plan.arm64_layers)?)?;
        let mut children = Vec::new();
        for (architecture, child) in [("amd64", amd64), ("arm64", arm64)] {
            children.push(json!({
                "mediaType": MANIFEST, "digest": child, "size": writer.blobs.get(&child),
                "platform": {"architecture": architecture, "os": "linux"},
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
        let digest = writer.put_json(&index)?;
        blobs.push(digest);
        (digest, INDEX)
    };
    Ok(Image {
        repository: plan.repository.clone(),
        tag: plan.tag.clone(),
        digest,
        media_type,
        amd64: blobs,
    })
}

fn pick(layers: &[Layer], indices: &[usize]) -> Result<Vec<Layer>> {
    let layer = |index: &usize| layers.get(*index).copied();
    let found = indices.iter().map(layer);
    found
        .collect::<Option<_>>()
        .context("the plan names no such layer")
}

/// Writes config and manifest of one platform; gives the manifest's digest and all blobs below and with it.
fn write_manifest(
    writer: &mut LayoutWriter,
    plan: &ImagePlan,
    architecture: &str,
    layers: &[Layer],
) -> Result<(Digest, Vec<Digest>)> {
    let settings = json!({
        "Entrypoint": ["/bin/run"], "Env": ["PATH=/bin"], "Labels": {"image": plan.repository},
    });
    let config = Config {
        architecture,
        settings,
        made_by: "seed",
    };
    writer.put_manifest(&config, layers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_images_and_another_seed_others() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let make =
            |seed, folder| Corpus::make(&CorpusPlan::tiny(seed), &scratch.path().join(folder));
        let (first, again, other) = (make(1, "a")?, make(1, "b")?, make(2, "c")?);
        assert_eq!(first.blobs, again.blobs);
        assert!(
            first
                .images
                .iter()
                .zip(&other.images)
                .all(|(a, b)| a.digest != b.digest)
        );
        Ok(())
    }

    #[test]
    fn every_blob_is_what_its_name_says() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let corpus = Corpus::make(&CorpusPlan::tiny(3), &scratch.path().join("layout"))?;
        let files = fs::read_dir(corpus.layout.join("blobs/sha256"))?.count();
        assert_eq!(files, corpus.blobs.len());
        for (digest, size) in &corpus.blobs {
            let bytes = fs::read(corpus.blob_path(digest))?;
            assert_eq!(
                (Digest::of(&bytes), u64::try_from(bytes.len())?),
                (*digest, *size)
            );
        }
        Ok(())
    }

    #[test]
    fn images_share_layers_and_one_is_for_two_platforms() -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let corpus = Corpus::make(&CorpusPlan::tiny(4), &scratch.path().join("layout"))?;
        let named: usize = corpus.images.iter().map(|image| image.amd64.len()).sum();
        assert!(named > corpus.amd64_blobs().len(), "no blob is shared");
        assert!(corpus.images.iter().any(|image| image.media_type == INDEX));
        assert!(
            corpus.blobs.len() > corpus.amd64_blobs().len(),
            "nothing is for arm64 only"
        );
        Ok(())
    }
}
