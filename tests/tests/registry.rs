//! The embedded registry serves what skopeo understands.

use anyhow::Result;
use tests::corpus::Corpus;
use tests::corpus::CorpusPlan;
use tests::real_parts;
use tests::real_parts::Part;
use tests::registry::DebianRegistry;
use tests::registry::EmbeddedRegistry;
use tests::registry::skopeo;
use tests::skip;

#[test]
fn skopeo_pulls_every_image_from_the_embedded_registry_with_unchanged_digests() -> Result<()> {
    if let Some(why) = real_parts::missing(&[Part::Skopeo, Part::Registry]) {
        skip!("{why}");
    }
    let scratch = tempfile::tempdir()?;
    let corpus = Corpus::make(&CorpusPlan::tiny(11), &scratch.path().join("layout"))?;
    let ours = EmbeddedRegistry::start(&corpus.layout, &[])?;
    let theirs = DebianRegistry::start(scratch.path())?;
    for image in &corpus.images {
        let from = format!("docker://{}/{}", ours.address(), image.reference());
        let to = format!("docker://{}/{}", theirs.address(), image.reference());
        skopeo(&[
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &from,
            &to,
        ])?;
        assert_eq!(
            theirs.digest_of(&image.reference())?,
            image.digest.to_string()
        );
    }
    Ok(())
}
