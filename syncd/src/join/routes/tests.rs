//! The door and what is behind it, asked as a connection would ask.

use std::fs;
use std::path::Path;

use api::join::Master;
use api::join::NodeCertificate;
use api::join::Refusal;
use api::sync::NodeName;
use http::Method;
use http_body_util::BodyExt as _;
use program::FileError;
use serde_json::json;
use store::Incarnation;
use store::RealFs;
use tower::ServiceExt as _;

use super::*;
use crate::ca;
use crate::join::Pace;
use crate::join::plane::tests::plane_in;
use crate::kubernetes::fake::FakeApi;

const CLUSTER: Incarnation = Incarnation::from_bytes([7; 16]);

/// `m1` is a master, nobody else.
#[derive(Debug)]
struct OneMaster;

impl Roster for OneMaster {
    fn has(&self, node: &NodeName) -> bool {
        node.as_str() == "m1"
    }

    fn admit(&self, _master: &Master) -> Result<(), FileError> {
        Ok(())
    }
}

struct Port {
    router: Router,
    tokens: Arc<Tokens>,
    blob: Digest,
    _folder: tempfile::TempDir,
}

impl Port {
    async fn open() -> Self {
        let api = FakeApi::start().await;
        let folder = tempfile::tempdir().unwrap();
        let sealift = folder.path().join("sealift");
        ca::init(&sealift, Some(CLUSTER)).unwrap();
        let (store, blob) = store_with(folder.path(), b"an installer");
        let plane = plane_in(&api, &sealift);
        let roster: Arc<dyn Roster> = Arc::new(OneMaster);
        let broker = Broker::start(
            "m1".parse().unwrap(),
            plane.clone(),
            roster.clone(),
            None,
            Pace::default(),
        );
        let tokens = Arc::new(Tokens::new(plane.clone()));
        let door = Door::new(broker, tokens.clone(), plane, roster, store);
        Self {
            router: router(Arc::new(door)),
            tokens,
            blob,
            _folder: folder,
        }
    }

    async fn token(&self, role: Role) -> String {
        self.tokens.mint(role, 3600).await.unwrap().text
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: String,
    ) -> (StatusCode, Vec<u8>) {
        self.ask_from([10, 0, 0, 9].into(), method, path, token, body)
            .await
    }

    async fn ask_from(
        &self,
        from: IpAddr,
        method: Method,
        path: &str,
        token: &str,
        body: String,
    ) -> (StatusCode, Vec<u8>) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .extension(From(from))
            .body(Body::from(body))
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }
}

fn store_with(folder: &Path, blob: &[u8]) -> (Store, Digest) {
    let root = folder.join("store");
    fs::create_dir(&root).unwrap();
    let store = Store::create(RealFs::open(&root).unwrap(), CLUSTER).unwrap();
    let digest = Digest::of(blob);
    store.put_batch([(digest, blob.to_vec())]).unwrap();
    (store, digest)
}

fn code((status, body): (StatusCode, Vec<u8>)) -> (u16, String) {
    let refusal: Refusal = serde_json::from_slice(&body).unwrap();
    (status.as_u16(), refusal.code)
}

#[tokio::test]
async fn without_a_token_nothing_is_answered_and_guessing_is_slow() {
    let port = Port::open().await;
    let blob = format!("/v1/join/blob/{}", port.blob.to_hex());
    for path in [&*blob, "/v1/join/site", "/v1/join/nothing", "/"] {
        let refused = port.ask(Method::GET, path, "", String::new()).await;
        assert_eq!(code(refused), (401, "JOIN_TOKEN".to_owned()), "{path}");
    }
    let good = port.token(Role::Worker).await;
    for _ in 0..FAILURES_MAX {
        let wrong = "aaaaaaaa.0123";
        port.ask(Method::GET, &blob, wrong, String::new()).await;
    }
    // Even the right one waits then, but only for that address.
    let refused = port.ask(Method::GET, &blob, &good, String::new()).await;
    assert_eq!(code(refused), (429, "JOIN_BUSY".to_owned()));
    let other = [10, 0, 0, 8].into();
    let (status, body) = port
        .ask_from(other, Method::GET, &blob, &good, String::new())
        .await;
    assert_eq!(
        (status, body.as_slice()),
        (StatusCode::OK, &b"an installer"[..])
    );
}

#[tokio::test]
async fn what_is_not_here_or_no_name_is_refused_by_its_code() {
    let port = Port::open().await;
    let token = port.token(Role::Worker).await;
    let absent = format!("/v1/join/blob/{}", Digest::of(b"absent").to_hex());
    for (path, wanted) in [
        (&*absent, (404, "JOIN_UNKNOWN")),
        (
            "/v1/join/blob/..%2f..%2fetc%2fshadow",
            (400, "JOIN_REQUEST"),
        ),
        ("/v1/join/head/zz", (400, "JOIN_REQUEST")),
        ("/v1/join/nothing", (404, "JOIN_UNKNOWN")),
    ] {
        let refused = port.ask(Method::GET, path, &token, String::new()).await;
        assert_eq!(code(refused), (wanted.0, wanted.1.to_owned()), "{path}");
    }
    let turn = port.ask(Method::POST, "/v1/join/turn", &token, "{".to_owned());
    assert_eq!(code(turn.await), (400, "JOIN_REQUEST".to_owned()));
    let huge = "x".repeat(BODY_BYTES_MAX + 1);
    let (status, _) = port.ask(Method::POST, "/v1/join/turn", &token, huge).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_workers_token_gives_no_masters_name_and_no_authority() {
    let port = Port::open().await;
    let [worker, master] = [
        port.token(Role::Worker).await,
        port.token(Role::Master).await,
    ];
    let wish = |node: &str| {
        let (_key, request_pem) = ca::request(&node.parse().unwrap()).unwrap();
        json!({ "node": node, "request_pem": request_pem }).to_string()
    };
    let path = "/v1/join/certificate";
    let refused = port.ask(Method::POST, path, &worker, wish("m1")).await;
    assert_eq!(code(refused), (409, "JOIN_NAME_TAKEN".to_owned()));

    let (status, body) = port.ask(Method::POST, path, &worker, wish("w1")).await;
    assert_eq!(status, StatusCode::OK);
    let given: NodeCertificate = serde_json::from_slice(&body).unwrap();
    assert!(given.ca_key_pem.is_none());

    let (status, body) = port.ask(Method::POST, path, &master, wish("m2")).await;
    assert_eq!(status, StatusCode::OK);
    let given: NodeCertificate = serde_json::from_slice(&body).unwrap();
    assert!(
        given
            .ca_key_pem
            .is_some_and(|key| key.contains("PRIVATE KEY"))
    );
}
