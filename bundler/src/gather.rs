//! Everything of a release that is not an image: charts, manifests, node files, licenses, documents.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bundle::index;
use bundle::index::CarriedLicense;
use bundle::index::FileMode;
use bundle::index::NodeFile;
use bundle::index::Stage;
use bundle::license::VerifiedLicense;
use bundle::limits;
use bundle::verify::Trust;

use crate::chart;
use crate::durable;
use crate::durable::FileError;
use crate::failure::Outcome;
use crate::local::LocalBlob;
use crate::local::at;
use crate::local::entry_path;
use crate::local::expand;
use crate::release::Chart;
use crate::release::Document;
use crate::release::File;
use crate::release::Release;

/// The media type of a license file.
const LICENSE_MEDIA_TYPE: &str = "application/vnd.sealift.license.v1";

/// The media type of YAML (RFC 9512).
const YAML_MEDIA_TYPE: &str = "application/yaml";

/// What the index says of local content, and the blobs behind it.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Charts in the order of the release file.
    pub charts: Vec<index::Chart>,
    /// Manifests in the order of their application.
    pub manifests: Vec<index::Document>,
    /// Node files.
    pub files: Vec<NodeFile>,
    /// Texts for the operator.
    pub documents: Vec<index::Document>,
    /// Licenses, sorted by path.
    pub licenses: Vec<CarriedLicense>,
    /// Host checks.
    pub preflights: Vec<index::Document>,
    /// All blobs of these.
    pub blobs: Vec<(LocalBlob, Stage)>,
}

/// Reads and hashes all local content of a release. `folder` is the folder of the release file.
pub fn gather(release: &Release, folder: &Path, trust: &Trust) -> Outcome<Gathered> {
    let mut gathered = Gathered::default();
    for pattern in &release.cluster.manifests {
        let found = documents(
            folder,
            "cluster.manifests",
            pattern,
            Stage::Cluster,
            &mut gathered,
        )?;
        gathered.manifests.extend(found);
    }
    for chart in &release.charts {
        let chart = gathered.chart(chart, folder)?;
        gathered.charts.push(chart);
    }
    for pattern in &release.manifests {
        let found = documents(
            folder,
            "manifests",
            pattern,
            Stage::Application,
            &mut gathered,
        )?;
        gathered.manifests.extend(found);
    }
    for file in &release.files {
        let file = gathered.file(file, folder)?;
        gathered.files.push(file);
    }
    for pattern in &release.licenses {
        gathered.licenses(folder, pattern, release, trust)?;
    }
    for document in &release.documents {
        let document = gathered.document(document, folder)?;
        gathered.documents.push(document);
    }
    for pattern in &release.preflights {
        let found = documents(
            folder,
            "preflights",
            pattern,
            Stage::Documents,
            &mut gathered,
        )?;
        gathered.preflights.extend(found);
    }
    Ok(gathered)
}

fn documents(
    folder: &Path,
    key: &'static str,
    pattern: &str,
    stage: Stage,
    gathered: &mut Gathered,
) -> Outcome<Vec<index::Document>> {
    let mut found = Vec::new();
    for path in expand(folder, key, pattern)? {
        let blob = LocalBlob::of_file(&path, Some(YAML_MEDIA_TYPE))?;
        found.push(index::Document {
            path: entry_path(folder, &path)?,
            digest: blob.digest,
            accept: false,
        });
        gathered.blobs.push((blob, stage));
    }
    Ok(found)
}

impl Gathered {
    fn chart(&mut self, chart: &Chart, folder: &Path) -> Outcome<index::Chart> {
        let path = at(folder, chart.path.as_deref().unwrap_or(Path::new(".")));
        let packed = chart::pack(&path, &chart.name, chart.version.as_deref())?;
        let digest = packed.blob.digest;
        self.blobs.push((packed.blob, Stage::Application));
        let values = match &chart.values {
            Some(values) => {
                let blob = LocalBlob::of_file(&at(folder, values), Some(YAML_MEDIA_TYPE))?;
                let digest = blob.digest;
                self.blobs.push((blob, Stage::Application));
                Some(digest)
            }
            None => None,
        };
        Ok(index::Chart {
            name: chart.name.clone(),
            version: packed.version,
            digest,
            namespace: chart.namespace.clone(),
            release: chart.release.clone().unwrap_or_else(|| chart.name.clone()),
            values,
        })
    }

    fn file(&mut self, file: &File, folder: &Path) -> Outcome<NodeFile> {
        let path = at(folder, file.path.as_deref().unwrap_or(Path::new(".")));
        let blob = LocalBlob::of_file(&path, None)?;
        blob.require(file.sha256)?;
        let digest = blob.digest;
        self.blobs.push((blob, Stage::Node));
        let name = match &file.name {
            Some(name) => name.clone(),
            None => entry_path(durable::parent(&path), &path)?,
        };
        let mode = match file.mode {
            Some(mode) => mode,
            None => mode_of(&path)?,
        };
        Ok(NodeFile {
            path: name,
            role: file.role,
            mode,
            digest,
            platform: file.platform.clone(),
        })
    }

    fn licenses(
        &mut self,
        folder: &Path,
        pattern: &str,
        release: &Release,
        trust: &Trust,
    ) -> Outcome {
        for path in expand(folder, "licenses", pattern)? {
            let file = durable::read_capped(&path, limits::LICENSE_BYTES_MAX)?;
            // A license that the site would refuse is found here, not there.
            let verified = VerifiedLicense::verify(file, trust)?;
            verified.require_product(&release.product)?;
            let blob = LocalBlob::of_bytes(verified.file().to_vec(), LICENSE_MEDIA_TYPE);
            self.licenses.push(CarriedLicense {
                id: verified.license().license_id.clone(),
                digest: blob.digest,
            });
            self.blobs.push((blob, Stage::Metadata));
        }
        Ok(())
    }

    fn document(&mut self, document: &Document, folder: &Path) -> Outcome<index::Document> {
        let path = at(folder, &document.path);
        let blob = LocalBlob::of_file(&path, Some(text_media_type(&path)))?;
        let digest = blob.digest;
        self.blobs.push((blob, Stage::Documents));
        Ok(index::Document {
            path: entry_path(folder, &path)?,
            digest,
            accept: document.accept,
        })
    }
}

/// 0755 when the owner may run it: the one bit that neither git nor a umask takes away.
fn mode_of(path: &Path) -> Outcome<FileMode> {
    let metadata = path
        .metadata()
        .map_err(|source| FileError::new("read", path, source))?;
    let runs = metadata.permissions().mode() & 0o100 != 0;
    Ok(if runs {
        FileMode::Program
    } else {
        FileMode::Plain
    })
}

fn text_media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("md") => "text/markdown",
        Some("txt") => "text/plain",
        Some("html") => "text/html",
        Some("pdf") => "application/pdf",
        Some("json") => "application/json",
        _other => "application/octet-stream",
    }
}
