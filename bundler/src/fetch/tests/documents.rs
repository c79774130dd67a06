//! Manifests and indexes: which platforms are taken, and what is refused.

use bundle::Digest;
use bundle::fault::Fault;
use bundle::index::Stage;
use serde_json::Value;
use serde_json::json;

use super::Bench;
use super::bytes;
use super::hostile::Answer;
use super::hostile::CONFIG;
use super::hostile::Contents;
use super::hostile::Hostile;
use super::hostile::INDEX;
use super::hostile::LAYER;
use super::hostile::MANIFEST;
use super::hostile::Seen;
use super::request;
use super::web;

fn for_platform(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

fn index(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

/// An image for two platforms, with a note on one of them as build tools add it.
fn for_two_platforms() -> (Contents, Vec<u8>, Vec<u8>) {
    let (amd, arm) = (bytes(1, 1000), bytes(2, 1000));
    let mut contents = Contents::default();
    let first = for_platform(
        contents.image("shop/web", None, "amd64", &[&amd]),
        "linux",
        "amd64",
    );
    let second = for_platform(
        contents.image("shop/web", None, "arm64", &[&arm]),
        "linux",
        "arm64",
    );
    let note = for_platform(
        contents.image("shop/web", None, "unknown", &[b"note"]),
        "unknown",
        "unknown",
    );
    contents.document("shop/web", Some("1"), INDEX, &index(&[first, second, note]));
    (contents, amd, arm)
}

fn refused(contents: Contents) -> &'static str {
    let registry = Hostile::start(contents);
    Bench::new(&[&registry]).code(&registry)
}

fn refused_manifest(change: impl FnOnce(&mut Value)) -> &'static str {
    let mut contents = Contents::default();
    contents.image("shop/web", Some("1"), "amd64", &[b"layer"]);
    let bytes = &contents.files["/v2/shop/web/manifests/1"].1;
    let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut manifest);
    contents.document("shop/web", Some("1"), MANIFEST, &manifest);
    refused(contents)
}

#[test]
fn an_index_keeps_its_digest_and_brings_the_chosen_platform_alone() {
    let (contents, amd, arm) = for_two_platforms();
    let registry = Hostile::start(contents);
    let bench = Bench::new(&[&registry]);
    let image = bench.fetch_web(&registry).unwrap();
    assert_eq!(image.media_type, INDEX);
    let blobs: Vec<_> = image
        .blobs
        .iter()
        .map(|blob| (blob.media_type.as_str(), blob.stage))
        .collect();
    assert_eq!(
        blobs,
        [
            (INDEX, Stage::Metadata),
            (MANIFEST, Stage::Metadata),
            (CONFIG, Stage::Metadata),
            (LAYER, Stage::Application)
        ]
    );
    assert_eq!(image.blobs[0].digest, image.digest);
    assert!(bench.has(&amd) && !bench.has(&arm));
    assert_eq!(registry.seen().len(), 4);
}

#[test]
fn every_platform_that_is_asked_for_comes() {
    let (contents, amd, arm) = for_two_platforms();
    let registry = Hostile::start(contents);
    let bench = Bench::new(&[&registry]);
    let mut both = web(&registry);
    both.platforms.push("linux/arm64".parse().unwrap());
    bench.fetch(&[both]).unwrap();
    assert!(bench.has(&amd) && bench.has(&arm));
}

#[test]
fn a_missing_platform_is_told_with_those_that_are_there() {
    let (contents, amd, _arm) = for_two_platforms();
    let registry = Hostile::start(contents);
    let bench = Bench::new(&[&registry]);
    let mut wrong = web(&registry);
    wrong.platforms.push("linux/s390x".parse().unwrap());
    let error = bench.fetch(&[wrong]).unwrap_err();
    assert_eq!(error.code(), "SOURCE_PLATFORM");
    assert!(
        error.to_string().ends_with("is not for linux/s390x"),
        "{error}"
    );
    assert_eq!(
        error.facts()[0].value,
        "linux/amd64, linux/arm64, unknown/unknown"
    );
    assert!(!bench.has(&amd));
}

#[test]
fn the_config_tells_the_platform_of_an_image_without_an_index() {
    let mut contents = Contents::default();
    contents.image("shop/web", Some("1"), "arm64", &[b"layer"]);
    assert_eq!(refused(contents), "SOURCE_PLATFORM");
}

#[test]
fn what_runs_nowhere_is_right_for_every_platform() {
    let mut contents = Contents::default();
    let describe = |media_type: &str, digest: Digest| json!({"mediaType": media_type, "digest": digest, "size": 5});
    let chart = contents.blob("shop/web", b"chart");
    let config = contents.blob("shop/web", b"{   }");
    let manifest = json!({
        "schemaVersion": 2,
        "config": describe("application/vnd.cncf.helm.config.v1+json", config),
        "layers": [describe("application/vnd.cncf.helm.chart.content.v1.tar+gzip", chart)],
    });
    contents.document("shop/web", Some("1"), MANIFEST, &manifest);
    let registry = Hostile::start(contents);
    let bench = Bench::new(&[&registry]);
    bench.fetch_web(&registry).unwrap();
    assert!(bench.has(b"chart"));
}

#[test]
fn a_pinned_digest_is_what_is_asked_for_and_needs_no_network_afterwards() {
    let (contents, ..) = for_two_platforms();
    let registry = Hostile::start(contents);
    let bench = Bench::new(&[&registry]);
    let mut pinned = web(&registry);
    pinned.digest = Some(bench.fetch_web(&registry).unwrap().digest);
    let other = Bench::new(&[&registry]);
    registry.forget();
    let image = other.fetch(&[pinned.clone()]).unwrap().remove(0);
    assert_eq!(Some(image.digest), pinned.digest);
    assert_eq!(registry.seen_of("/manifests/1"), []);
    registry.forget();
    other.fetch(&[pinned]).unwrap();
    assert_eq!(registry.seen(), []);
}

#[test]
fn a_document_of_two_kinds_is_refused() {
    assert_eq!(
        refused_manifest(|manifest| manifest["manifests"] = json!([])),
        "SOURCE_DOCUMENT"
    );
    assert_eq!(
        refused_manifest(|manifest| manifest["mediaType"] = json!(INDEX)),
        "SOURCE_DOCUMENT"
    );
    assert_eq!(
        refused_manifest(|manifest| manifest["schemaVersion"] = json!(1)),
        "SOURCE_DOCUMENT"
    );
    assert_eq!(
        refused_manifest(|manifest| *manifest = json!([2])),
        "SOURCE_DOCUMENT"
    );
    let mut named_otherwise = Contents::default();
    named_otherwise.image("shop/web", Some("1"), "amd64", &[b"layer"]);
    named_otherwise
        .files
        .get_mut("/v2/shop/web/manifests/1")
        .unwrap()
        .0 = INDEX.to_owned();
    assert_eq!(refused(named_otherwise), "SOURCE_DOCUMENT");
}

#[test]
fn a_child_that_is_not_what_its_index_calls_it_is_refused() {
    let mut contents = Contents::default();
    let mut child = for_platform(
        contents.image("shop/web", None, "amd64", &[b"layer"]),
        "linux",
        "amd64",
    );
    child["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
    contents.document("shop/web", Some("1"), INDEX, &index(&[child]));
    assert_eq!(refused(contents), "SOURCE_DOCUMENT");
}

#[test]
fn an_index_in_an_index_is_followed_and_a_third_one_is_not() {
    for (depth, code) in [(2, None), (3, Some("SOURCE_DOCUMENT"))] {
        let mut contents = Contents::default();
        let mut child = for_platform(
            contents.image("shop/web", None, "amd64", &[b"layer"]),
            "linux",
            "amd64",
        );
        for _index in 0..depth {
            child = contents.document("shop/web", Some("1"), INDEX, &index(&[child]));
        }
        let registry = Hostile::start(contents);
        let fetched = Bench::new(&[&registry]).fetch_web(&registry);
        assert_eq!(fetched.err().map(|error| error.code()), code);
    }
}

#[test]
fn digests_sizes_and_documents_beyond_all_measure_are_refused() {
    assert_eq!(
        refused_manifest(|it| it["layers"][0]["digest"] = json!("sha256:../../x")),
        "SOURCE_DOCUMENT"
    );
    assert_eq!(
        refused_manifest(|it| it["layers"][0]["size"] = json!(1_u64 << 41)),
        "SOURCE_DOCUMENT"
    );
    assert_eq!(
        refused_manifest(|it| it["config"]["size"] = json!(5 << 20)),
        "SOURCE_TOO_LARGE"
    );
    assert_eq!(
        refused_manifest(|it| it["annotations"] = json!({"x": "y".repeat(5 << 20)})),
        "SOURCE_TOO_LARGE"
    );
    let again = |it: &mut Value| {
        let mut layer = it["layers"][0].clone();
        layer["size"] = json!(6);
        it["layers"] = json!([it["layers"][0], layer]);
    };
    assert_eq!(refused_manifest(again), "SOURCE_DOCUMENT");
    let mut child = json!({"mediaType": MANIFEST, "digest": Digest::of(b""), "size": 5 << 20});
    child["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let mut contents = Contents::default();
    contents.document("shop/web", Some("1"), INDEX, &index(&[child]));
    assert_eq!(refused(contents), "SOURCE_TOO_LARGE");
}

#[test]
fn a_manifest_with_another_digest_is_refused() {
    let lie = |seen: &Seen| {
        let digest = Digest::of(b"other").to_string();
        seen.path
            .ends_with("/manifests/1")
            .then(|| Answer::new(200, b"{}").with("Docker-Content-Digest", &digest))
    };
    assert_eq!(refused(Contents::default().rule(lie)), "SOURCE_DIGEST");
    let (contents, ..) = for_two_platforms();
    let swap = |seen: &Seen| {
        let other = bytes(9, seen.header("host").map_or(0, |_| 300));
        seen.path
            .contains("/manifests/sha256:")
            .then(|| Answer::new(200, &other))
    };
    assert_eq!(refused(contents.rule(swap)), "SOURCE_DIGEST");
}

#[test]
fn urls_and_data_of_a_descriptor_are_not_looked_at() {
    let elsewhere = Hostile::start(Contents::default());
    let url = format!("http://{}/layer", elsewhere.host);
    let code = refused_manifest(|manifest| {
        manifest["layers"][0] = json!({
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": Digest::of(b"foreign"),
            "size": 7,
            "urls": [url],
            "data": "Zm9yZWlnbg==",
        });
    });
    assert_eq!(code, "SOURCE_NOT_FOUND");
    assert_eq!(elsewhere.seen(), []);
}

#[test]
fn all_problems_of_all_images_are_told_before_a_layer_is_asked_for() {
    let mut contents = Contents::default();
    contents.image("shop/web", Some("1"), "amd64", &[b"layer"]);
    contents.image("shop/arm", Some("1"), "arm64", &[b"layer"]);
    let registry = Hostile::start(contents);
    let wanted = ["shop/absent:1", "shop/web:1", "shop/arm:1"].map(|rest| request(&registry, rest));
    let error = Bench::new(&[&registry]).fetch(&wanted).unwrap_err();
    let codes: Vec<_> = error.problems().map(Fault::code).collect();
    assert_eq!(codes, ["SOURCE_NOT_FOUND", "SOURCE_PLATFORM"]);
    assert_eq!(registry.seen_of(&Digest::of(b"layer").to_string()), []);
}

#[test]
fn two_images_that_give_one_blob_two_sizes_are_refused() {
    let mut contents = Contents::default();
    contents.image("shop/web", Some("1"), "amd64", &[b"layer"]);
    let bytes = contents.files["/v2/shop/web/manifests/1"].1.clone();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    manifest["layers"][0]["size"] = json!(6);
    contents.document("shop/two", Some("1"), MANIFEST, &manifest);
    let config = contents
        .files
        .keys()
        .find(|path| path.contains("/blobs/") && !path.contains(&Digest::of(b"layer").to_hex()))
        .unwrap()
        .clone();
    let file = contents.files[&config].clone();
    contents
        .files
        .insert(config.replace("shop/web", "shop/two"), file);
    let registry = Hostile::start(contents);
    let wanted = ["shop/web:1", "shop/two:1"].map(|rest| request(&registry, rest));
    assert_eq!(
        Bench::new(&[&registry]).fetch(&wanted).unwrap_err().code(),
        "SOURCE_DOCUMENT"
    );
}
