//! What `kubeadm join` needs: minted for one try, gone after it.
//!
//! | secret | kubeadm's | ends |
//! |---|---|---|
//! | `bootstrap-token-<id>` | bootstrap token, for discovery and the kubelet's first certificate | after the try, or [`TTL_S`] |
//! | `kubeadm-certs` | the shared certificates, encrypted with a key that only the machine gets | after the try |

use api::join::Credentials;
use api::join::Role;
use bundle::timestamp::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::fault::JoinError;
use super::kubeadm;
use super::kubeadm::Upload;
use super::plane::Plane;
use super::site;
use super::trial;
use super::trial::Trial;
use crate::kubernetes::ConfigMap;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::KubernetesError;
use crate::kubernetes::Secret;
use crate::kubernetes::config_map;
use crate::kubernetes::secret;
use crate::kubernetes::secrets;

/// How long a bootstrap token lasts should nobody remove it, seconds.
const TTL_S: i64 = 20 * 60;

/// The Secret that kubeadm puts the shared certificates into.
const CERTS: &str = "kubeadm-certs";

/// Mints everything for a try.
pub(super) async fn mint(
    plane: &Plane,
    kubernetes: &Kubernetes,
    role: Role,
    who: &Trial,
) -> Result<Credentials, JoinError> {
    let ca_hash = plane.ca_hash()?;
    let certificate_key = match role {
        Role::Master => Some(share_certificates(plane, kubernetes).await?),
        Role::Worker => None,
    };
    let token = mint_token(kubernetes, who).await?;
    Ok(Credentials {
        token,
        ca_cert_hashes: vec![ca_hash],
        certificate_key,
    })
}

/// Removes everything that was minted for a try.
pub(super) async fn remove(
    kubernetes: &Kubernetes,
    role: Role,
    who: &Trial,
) -> Result<(), KubernetesError> {
    let label = format!("{}={}", trial::ATTEMPT, who.who.attempt);
    let tokens: Vec<Secret> = kubernetes.list(&secrets(), &label).await?;
    for token in tokens {
        kubernetes
            .delete(&secret(&token.metadata.name), None)
            .await?;
    }
    match role {
        Role::Master => remove_shared_certificates(kubernetes).await,
        Role::Worker => Ok(()),
    }
}

async fn mint_token(kubernetes: &Kubernetes, who: &Trial) -> Result<String, JoinError> {
    let (id, rest) = (letters::<6>(), letters::<16>());
    let ends = kubernetes.now().await?.unix_seconds().saturating_add(TTL_S);
    let ends = Timestamp::from_unix_seconds(ends).unwrap_or(Timestamp::LATEST);
    let yes = || "true".to_owned();
    // kubeadm `apis/bootstraptoken/v1/utils.go`, and the group that may ask for a kubelet's certificate.
    let mut token = Secret::named(
        &format!("bootstrap-token-{id}"),
        "bootstrap.kubernetes.io/token",
        [
            ("token-id", id.clone()),
            ("token-secret", rest.clone()),
            ("expiration", ends.to_string()),
            ("usage-bootstrap-authentication", yes()),
            ("usage-bootstrap-signing", yes()),
            (
                "auth-extra-groups",
                "system:bootstrappers:kubeadm:default-node-token".to_owned(),
            ),
            ("description", format!("join of {}", who.who.node)),
        ],
    );
    let labels = &mut token.metadata.labels;
    labels.insert(trial::ATTEMPT.to_owned(), who.who.attempt.clone());
    labels.insert(trial::NODE.to_owned(), who.who.node.to_string());
    let _made: Secret = kubernetes.create(&secrets(), &token).await?;
    Ok(format!("{id}.{rest}"))
}

/// Lets kubeadm put the shared certificates into the cluster, encrypted with a new key.
async fn share_certificates(plane: &Plane, kubernetes: &Kubernetes) -> Result<String, JoinError> {
    let kept: Option<ConfigMap> = kubernetes.read(&config_map("kubeadm-config")).await?;
    let cluster_configuration = kept
        .and_then(|kept| kept.data.get("ClusterConfiguration").cloned())
        .ok_or_else(|| JoinError::Unknown("kubeadm's ClusterConfiguration".to_owned()))?;
    // Of a try whose daemon has died: kubeadm would put the new ones in their place and leave the owner's token.
    remove_shared_certificates(kubernetes).await?;
    let here = site::read_node(&plane.files.sealift)?;
    let key = hex::encode(rand::random::<[u8; 32]>());
    let upload = Upload {
        program: plane.files.kubeadm.clone(),
        kubeconfig: plane.files.kubernetes.join("admin.conf"),
        node: here.node,
        address: here.address,
        cluster_configuration,
        certificate_key: key.clone(),
    };
    let uploaded = tokio::task::spawn_blocking(move || kubeadm::upload_certs(&upload));
    uploaded.await.map_err(|_panicked| JoinError::Ending)??;
    Ok(key)
}

/// Removes the Secret and the token that kubeadm makes to own it.
async fn remove_shared_certificates(kubernetes: &Kubernetes) -> Result<(), KubernetesError> {
    #[derive(Deserialize)]
    struct Owner {
        name: String,
    }
    let Some(kept) = kubernetes.read::<Value>(&secret(CERTS)).await? else {
        return Ok(());
    };
    let owners = kept.pointer("/metadata/ownerReferences").cloned();
    let owners: Vec<Owner> = owners
        .and_then(|owners| serde_json::from_value(owners).ok())
        .unwrap_or_default();
    kubernetes.delete(&secret(CERTS), None).await?;
    for owner in owners {
        kubernetes.delete(&secret(&owner.name), None).await?;
    }
    Ok(())
}

/// `N` of a-z and 0-9, drawn at random.
pub(super) fn letters<const N: usize>() -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let drawn: [u8; N] = std::array::from_fn(|_| {
        // Of 0..=255 only the first 252 fall evenly on 36 letters.
        loop {
            let byte: u8 = rand::random();
            if byte < 252 {
                break byte;
            }
        }
    });
    let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied();
    drawn.iter().filter_map(letter).map(char::from).collect()
}
