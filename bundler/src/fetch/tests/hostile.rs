//! A registry on loopback that answers exactly what a test says, byte for byte, and remembers what it was asked.
//!
//! Plain threads and sockets: a server library would repair what a test wants broken.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;

use bundle::Digest;
use serde_json::Value;
use serde_json::json;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
    /// How often this path was asked for before.
    pub(super) earlier: usize,
}

/// What is sent back; the connection is closed behind it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The body is sent again and again, until nobody reads it.
    pub(super) endless: bool,
}

type Rule = Box<dyn Fn(&Seen) -> Option<Answer> + Send + Sync>;

/// What a registry has, and how it misbehaves.
#[derive(Default)]
pub(super) struct Contents {
    /// Content type and bytes by path.
    pub(super) files: BTreeMap<String, (String, Vec<u8>)>,
    rules: Vec<Rule>,
}

/// A running registry.
pub(super) struct Hostile {
    pub(super) host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Answer {
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        Self {
            status,
            body: body.to_vec(),
            ..Self::default()
        }
        .with("Content-Length", &body.len().to_string())
    }

    /// An answer that does not say how long it is.
    pub(super) fn open_ended(body: &[u8]) -> Self {
        Self {
            status: 200,
            body: body.to_vec(),
            ..Self::default()
        }
    }

    /// Says another length than the body has.
    pub(super) fn claiming(mut self, length: usize) -> Self {
        self.headers.retain(|(name, _)| name != "Content-Length");
        self.with("Content-Length", &length.to_string())
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn send(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        if self.endless {
            loop {
                stream.write_all(&self.body)?;
            }
        }
        stream.flush()
    }
}

impl Contents {
    /// Adds a rule; it answers before those added earlier, and before the files.
    pub(super) fn rule(
        mut self,
        rule: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.rules.insert(0, Box::new(rule));
        self
    }

    pub(super) fn blob(&mut self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/{digest}");
        self.files.insert(
            path,
            ("application/octet-stream".to_owned(), bytes.to_vec()),
        );
        digest
    }

    /// Adds a manifest or an index, by its digest and maybe by tag.
    pub(super) fn document(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        value: &Value,
    ) -> Value {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        for reference in tag
            .into_iter()
            .map(str::to_owned)
            .chain([digest.to_string()])
        {
            let path = format!("/v2/{repository}/manifests/{reference}");
            self.files
                .insert(path, (media_type.to_owned(), bytes.clone()));
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds an image for one platform; gives its descriptor.
    pub(super) fn image(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        architecture: &str,
        layers: &[&[u8]],
    ) -> Value {
        let config =
            json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers"}})
                .to_string();
        let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe(CONFIG, config.as_bytes()),
            "layers": layers.iter().map(|bytes| describe(LAYER, bytes)).collect::<Vec<_>>(),
        });
        self.blob(repository, config.as_bytes());
        for layer in layers {
            self.blob(repository, layer);
        }
        self.document(repository, tag, MANIFEST, &manifest)
    }

    fn answer(&self, seen: &Seen) -> Answer {
        if let Some(answer) = self.rules.iter().find_map(|rule| rule(seen)) {
            return answer;
        }
        let path = seen.path.split('?').next().unwrap();
        match self.files.get(path) {
            Some((content_type, bytes)) => serve(seen, bytes).with("Content-Type", content_type),
            None => Answer::new(
                404,
                br#"{"errors":[{"code":"NAME_UNKNOWN","message":"not here"}]}"#,
            ),
        }
    }
}

/// Serves as a good registry does, ranges included.
pub(super) fn serve(seen: &Seen, bytes: &[u8]) -> Answer {
    let from = seen.header("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    match from {
        Some(from) => Answer::new(206, &bytes[from..]).with(
            "Content-Range",
            &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        ),
        None => Answer::new(200, bytes),
    }
}

impl Hostile {
    pub(super) fn start(contents: Contents) -> Self {
        Self::start_with(|_host| contents)
    }

    /// Starts a registry whose contents depend on its own address.
    pub(super) fn start_with(contents: impl FnOnce(&str) -> Contents) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let contents = Arc::new(contents(&host));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
            move || {
                for stream in listener.incoming() {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let (contents, seen) = (Arc::clone(&contents), Arc::clone(&seen));
                    thread::spawn(move || answer_one(&stream.unwrap(), &contents, &seen));
                }
            }
        });
        Self {
            host,
            seen,
            is_over,
            thread: Some(thread),
        }
    }

    /// Every request so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests for paths with `part` in them.
    pub(super) fn seen_of(&self, part: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.path.contains(part))
            .collect()
    }

    pub(super) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.host));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn answer_one(stream: &TcpStream, contents: &Contents, all: &Mutex<Vec<Seen>>) {
    let Some(mut seen) = read_request(stream) else {
        return;
    };
    {
        let mut all = all.lock().unwrap();
        seen.earlier = all.iter().filter(|other| other.path == seen.path).count();
        all.push(seen.clone());
    }
    // The client may have heard enough.
    let _closed = contents.answer(&seen).send(stream);
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|count| *count > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    Some(Seen {
        method,
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
        earlier: 0,
    })
}
