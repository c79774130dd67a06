//! The endpoint over real sockets, asked in plain HTTP.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::time::Duration;
use std::time::Instant;

use bundle::Digest;

use super::Access;
use super::Conditions;
use super::Embedded;
use super::LayoutSource;

/// A registry with one image `demo/web:1` whose one layer is several chunks long.
struct Fixture {
    _directory: tempfile::TempDir,
    registry: Embedded,
    manifest: String,
    layer: Vec<u8>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (is, value) = line.split_once(": ")?;
            is.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn fixture(conditions: Conditions) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let blobs = directory.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.to_hex()), bytes).unwrap();
        digest
    };
    let layer: Vec<u8> = (0..700_001_u32).flat_map(u32::to_le_bytes).collect();
    let layer_digest = put(&layer);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[{{"digest":"{layer_digest}"}}]}}"#,
        put(b"{}")
    );
    let digest = put(manifest.as_bytes());
    let entry = |tag: &str| {
        format!(
            r#"{{"digest":"{digest}","annotations":{{"org.opencontainers.image.ref.name":"docker.io/demo/web:{tag}"}}}}"#
        )
    };
    let index = format!(
        r#"{{"manifests":[{},{},{}]}}"#,
        entry("1"),
        entry("2"),
        entry("3")
    );
    fs::write(directory.path().join("index.json"), index).unwrap();
    fs::write(
        directory.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let source = LayoutSource::open(directory.path()).unwrap();
    Fixture {
        _directory: directory,
        registry: Embedded::start(source, conditions).unwrap(),
        manifest,
        layer,
    }
}

impl Fixture {
    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        ask(self.registry.address(), method, path, headers)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    fn layer_path(&self) -> String {
        format!("/v2/demo/web/blobs/{}", Digest::of(&self.layer))
    }
}

pub(super) fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    Answer {
        status: head[9..12].parse().unwrap(),
        head,
        body: bytes[end + 4..].to_vec(),
    }
}

#[test]
fn a_manifest_comes_by_tag_and_by_digest_with_its_type() {
    let fixture = fixture(Conditions::default());
    let digest = Digest::of(fixture.manifest.as_bytes());
    for path in [
        "/v2/demo/web/manifests/1".to_owned(),
        "/v2/demo/web/manifests/1?ns=docker.io".to_owned(),
        "/v2/docker.io/demo/web/manifests/2".to_owned(),
        format!("/v2/demo/web/manifests/{digest}"),
    ] {
        let answer = fixture.get(&path);
        assert_eq!(
            (answer.status, answer.text()),
            (200, fixture.manifest.as_str()),
            "{path}"
        );
        assert_eq!(
            answer.header("docker-content-digest"),
            Some(digest.to_string().as_str())
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/vnd.oci.image.manifest.v1+json")
        );
    }
    let head = fixture.ask("HEAD", "/v2/demo/web/manifests/1", "");
    assert_eq!(
        head.header("content-length"),
        Some(fixture.manifest.len().to_string().as_str())
    );
    assert!(head.body.is_empty());
}

#[test]
fn a_layer_comes_whole_and_in_parts() {
    let fixture = fixture(Conditions::default());
    let path = fixture.layer_path();
    let size = fixture.layer.len();

    let whole = fixture.get(&path);
    assert_eq!(
        (whole.status, Digest::of(&whole.body)),
        (200, Digest::of(&fixture.layer))
    );

    let part = fixture.ask("GET", &path, "Range: bytes=262000-2000000\r\n");
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("content-range"),
        Some(format!("bytes 262000-2000000/{size}").as_str())
    );
    assert!(part.body == fixture.layer[262_000..=2_000_000]);

    let end = fixture.ask("GET", &path, "Range: bytes=-5\r\n");
    assert!(end.body == fixture.layer[size - 5..]);

    let behind = fixture.ask("GET", &path, &format!("Range: bytes={size}-\r\n"));
    assert_eq!(
        (behind.status, behind.header("content-range")),
        (416, Some(format!("bytes */{size}").as_str()))
    );
}

#[test]
fn tags_are_listed_page_by_page() {
    let fixture = fixture(Conditions::default());
    assert_eq!(
        fixture.get("/v2/demo/web/tags/list").text(),
        r#"{"name":"demo/web","tags":["1","2","3"]}"#
    );
    let page = fixture.get("/v2/demo/web/tags/list?n=1&last=1");
    assert_eq!(page.text(), r#"{"name":"demo/web","tags":["2"]}"#);
    assert_eq!(
        page.header("link"),
        Some("</v2/demo/web/tags/list?n=1&last=2>; rel=\"next\"")
    );
}

#[test]
fn what_is_not_there_has_the_code_of_the_specification() {
    let fixture = fixture(Conditions::default());
    let absent = Digest::of(b"absent");
    for (method, path, status, code) in [
        (
            "GET",
            "/v2/demo/web/manifests/9".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET",
            "/v2/demo/web/manifests/1?ns=quay.io".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET",
            format!("/v2/demo/web/blobs/{absent}"),
            404,
            "BLOB_UNKNOWN",
        ),
        (
            "GET",
            "/v2/demo/web/blobs/sha256:..%2f..%2fetc".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "GET",
            "/v2/demo/../web/manifests/1".to_owned(),
            400,
            "NAME_INVALID",
        ),
        ("GET", "/v2/other/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("GET", "/etc/passwd".to_owned(), 404, "UNSUPPORTED"),
        (
            "PUT",
            "/v2/demo/web/manifests/1".to_owned(),
            405,
            "UNSUPPORTED",
        ),
        (
            "POST",
            "/v2/demo/web/blobs/uploads/".to_owned(),
            405,
            "UNSUPPORTED",
        ),
    ] {
        let answer = fixture.ask(method, &path, "");
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(code), "{path}: {}", answer.text());
    }
}

#[test]
fn a_door_asks_for_a_name_in_its_own_way() {
    let user = || "reader".to_owned();
    let password = || "secret".to_owned();
    let named = "Authorization: Basic cmVhZGVyOnNlY3JldA==\r\n";

    let basic = fixture(Conditions {
        access: Access::Basic {
            user: user(),
            password: password(),
        },
        ..Conditions::default()
    });
    let refused = basic.get("/v2/");
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Basic realm=\"sealift\""))
    );
    assert_eq!(basic.ask("GET", "/v2/", named).status, 200);

    let bearer = fixture(Conditions {
        access: Access::Bearer {
            user: user(),
            password: password(),
        },
        ..Conditions::default()
    });
    assert!(
        bearer
            .get("/v2/")
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer realm=\"http://127.0.0.1:")
    );
    assert_eq!(bearer.get("/token?service=sealift").status, 401);
    let token: serde_json::Value =
        serde_json::from_slice(&bearer.ask("GET", "/token", named).body).unwrap();
    let sent = format!(
        "Authorization: Bearer {}\r\n",
        token["token"].as_str().unwrap()
    );
    assert_eq!(bearer.ask("GET", "/v2/", &sent).status, 200);
}

#[test]
fn a_link_takes_the_time_that_its_bandwidth_needs() {
    let fixture = fixture(Conditions {
        bytes_per_second: NonZeroU64::new(14_000_000),
        ..Conditions::default()
    });
    let begun = Instant::now();
    assert_eq!(fixture.get(&fixture.layer_path()).body.len(), 2_800_004);
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
}
