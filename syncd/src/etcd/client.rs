//! The calls (etcd `api/etcdserverpb/rpc.proto`, by its gateway: ids are decimal strings, an absent field is its zero).

use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::join_all;
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;

use super::EtcdError;
use super::Seen;
use super::SeenMember;
use crate::https;
use crate::https::ClientPem;
use crate::https::Credentials;

/// How long a call may take: an election is over by then.
const PATIENCE: Duration = Duration::from_secs(4);

/// Largest answer: a list of members.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where kubeadm keeps etcd's certificates, and where etcd answers on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdFiles {
    /// Folder of `ca.crt` and `healthcheck-client.{crt,key}`.
    pub pki: PathBuf,
    /// `https://host:port` of the member on this machine.
    pub local: String,
}

/// A way to etcd, by the member of this machine and, when that is silent, by the others.
pub struct Etcd {
    files: EtcdFiles,
    http: Mutex<Option<Client>>,
    /// Where members answer, as they were last listed.
    known: Mutex<Vec<String>>,
    watched: Mutex<Watched>,
}

/// Which members there were, and since when on this process's monotonic clock.
#[derive(Debug, Default)]
struct Watched {
    members: Vec<(u64, bool, bool)>,
    since: Option<Instant>,
}

/// A member as etcd lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
}

/// Something that etcd refuses writes for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The member that raised it.
    pub member: u64,
    /// `NOSPACE` or `CORRUPT`.
    pub kind: String,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    members: Vec<ListedMember>,
}

#[derive(Deserialize)]
struct ListedMember {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", default)]
    client_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<RaisedAlarm>,
}

#[derive(Deserialize)]
struct RaisedAlarm {
    #[serde(rename = "memberID", default)]
    member: String,
    #[serde(default)]
    alarm: String,
}

#[derive(Deserialize)]
struct StatusAnswer {
    #[serde(default)]
    leader: String,
}

type Result<T> = std::result::Result<T, EtcdError>;

impl EtcdFiles {
    /// As kubeadm lays them out below `/etc/kubernetes`.
    pub fn of(kubernetes: &Path, local: &str) -> Self {
        Self {
            pki: kubernetes.join("pki/etcd"),
            local: local.to_owned(),
        }
    }
}

impl Etcd {
    /// Names the files; nothing is read yet.
    pub fn new(files: EtcdFiles) -> Self {
        Self {
            files,
            http: Mutex::default(),
            known: Mutex::default(),
            watched: Mutex::default(),
        }
    }

    /// Lists the members: a read that a quorum has confirmed.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let listed: Listed = self
            .ask_any("/v3/cluster/member/list", &json!({ "linearizable": true }))
            .await?;
        let members: Vec<Member> = listed
            .members
            .into_iter()
            .map(|member| {
                Ok(Member {
                    id: number("/v3/cluster/member/list", &member.id)?,
                    name: member.name,
                    peer_urls: member.peer_urls,
                    client_urls: member.client_urls,
                    is_learner: member.is_learner,
                })
            })
            .collect::<Result<_>>()?;
        let urls = members.iter().flat_map(|member| member.client_urls.clone());
        *lock(&self.known) = urls.collect();
        Ok(members)
    }

    /// Looks at everything that a change of members depends on.
    pub async fn see(&self) -> Result<Seen> {
        let members = self.members().await?;
        let unchanged_for = self.watch(&members);
        let raised: Alarms = self
            .ask_any("/v3/maintenance/alarm", &json!({ "action": "GET" }))
            .await?;
        let alarms = raised.alarms.into_iter().map(|raised| Alarm {
            member: raised.member.parse().unwrap_or_default(),
            kind: raised.alarm,
        });
        let answers = join_all(members.iter().map(|member| self.answers(member))).await;
        let members = members
            .into_iter()
            .zip(answers)
            .map(|(member, answers)| SeenMember { member, answers });
        Ok(Seen {
            members: members.collect(),
            alarms: alarms.collect(),
            unchanged_for,
        })
    }

    /// Removes a member.
    pub async fn remove(&self, id: u64) -> Result<()> {
        let _removed: Value = self
            .ask_any(
                "/v3/cluster/member/remove",
                &json!({ "ID": id.to_string() }),
            )
            .await?;
        Ok(())
    }

    /// Remembers since when the members are these.
    fn watch(&self, members: &[Member]) -> Duration {
        let now = Instant::now();
        let these: Vec<_> = members
            .iter()
            .map(|member| (member.id, member.is_learner, member.name.is_empty()))
            .collect();
        let mut watched = lock(&self.watched);
        if watched.members != these {
            watched.members = these;
            watched.since = Some(now);
        }
        watched.since.map_or(Duration::ZERO, |since| now - since)
    }

    /// Whether a member answers and knows a leader.
    async fn answers(&self, member: &Member) -> bool {
        for endpoint in &member.client_urls {
            let status: Result<StatusAnswer> = self
                .ask(endpoint, "/v3/maintenance/status", &json!({}))
                .await;
            if status.is_ok_and(|status| !matches!(status.leader.as_str(), "" | "0")) {
                return true;
            }
        }
        false
    }

    async fn ask_any<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let first = self.ask(&self.files.local, path, body).await;
        let Err(EtcdError::Silent { .. }) = &first else {
            return first;
        };
        let others = lock(&self.known).clone();
        for endpoint in others.iter().filter(|url| **url != self.files.local) {
            match self.ask(endpoint, path, body).await {
                Err(EtcdError::Silent { .. }) => {}
                answered => return answered,
            }
        }
        first
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        path: &str,
        body: &Value,
    ) -> Result<T> {
        let silent = |source| EtcdError::Silent {
            endpoint: endpoint.to_owned(),
            source,
        };
        let wrong = |why: String| EtcdError::Answer {
            call: path.to_owned(),
            why,
        };
        let url = format!("{}{path}", endpoint.trim_end_matches('/'));
        let request = self.http()?.post(url).body(body.to_string());
        let response = request.send().await.map_err(silent)?;
        let is_done = response.status().is_success();
        let body = https::read_capped(response, ANSWER_BYTES_MAX);
        let body = body.await.map_err(silent)?;
        let body = body.ok_or_else(|| wrong("it is larger than 1 MiB".to_owned()))?;
        if !is_done {
            return Err(EtcdError::Refused {
                call: path.to_owned(),
                message: said(&body),
            });
        }
        serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))
    }

    /// The client, made when the certificates are there.
    fn http(&self) -> Result<Client> {
        let mut http = lock(&self.http);
        if let Some(client) = http.as_ref() {
            return Ok(client.clone());
        }
        let read = |name: &str| {
            let file = self.files.pki.join(name);
            fs::read(&file).map_err(|source| EtcdError::Unreadable { file, source })
        };
        let credentials = Credentials {
            authority_pem: read("ca.crt")?,
            client_pem: Some(ClientPem {
                certificate: read("healthcheck-client.crt")?,
                key: read("healthcheck-client.key")?,
            }),
        };
        let client = https::client(&credentials, PATIENCE)?;
        *http = Some(client.clone());
        Ok(client)
    }

    /// Reads the certificates again at the next call: they were renewed, or the machine has joined another cluster.
    pub fn forget_certificates(&self) {
        *lock(&self.http) = None;
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Etcd")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(call: &str, text: &str) -> Result<u64> {
    text.parse().map_err(|_no_number| EtcdError::Answer {
        call: call.to_owned(),
        why: format!("{text:?} is no member's number"),
    })
}

fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.message,
        Err(_no_json) => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}
