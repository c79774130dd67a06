//! What commands on the same machine ask of the broker, over the control socket.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/join/script` with [`ScriptWish`] | [`ScriptParts`]: a new token and all that a script needs |
//! | `GET /v1/join/tokens` | every token that has not ended, without its secret |
//! | `DELETE /v1/join/tokens/{id}` | 204: the token opens nothing any more |
//! | `GET /v1/join/queue` | [`api::join::Queue`] |

use std::collections::BTreeMap;
use std::sync::Arc;

use api::join::JoinRequest;
use api::join::ScriptParts;
use api::join::ScriptWish;
use axum::Json;
use axum::Router;
use axum::extract::Path;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::delete;
use axum::routing::get;
use axum::routing::post;
use bundle::Digest;
use bundle::index::BundleIndex;
use bundle::index::FileRole;
use http::StatusCode;
use store::Store;
use store::record::Kind;

use super::fault::JoinError;
use super::plane::read_text;
use super::routes::Door;
use super::site;
use crate::ca;

type Shared = State<Arc<Door>>;

/// The routes, to be merged into those of the control socket.
pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/v1/join/script", post(script))
        .route("/v1/join/tokens", get(tokens))
        .route("/v1/join/tokens/{id}", delete(revoke))
        .route("/v1/join/queue", get(queue))
        .with_state(door)
}

async fn script(
    State(door): Shared,
    Json(wish): Json<ScriptWish>,
) -> Result<Json<ScriptParts>, JoinError> {
    let plane = &door.plane;
    let here = site::read_node(&plane.files.sealift)?;
    let (store, vendor, kubernetes_bundle) = (door.store.clone(), here.vendor, here.kubernetes);
    let (root_fingerprint, installers) = {
        let vendor = vendor.clone();
        let read = tokio::task::spawn_blocking(move || {
            let trust = store
                .trust(&vendor)?
                .ok_or_else(|| JoinError::Unknown("the vendor's root".to_owned()))?;
            let fingerprint = Digest::of(trust.root().json());
            Ok::<_, JoinError>((fingerprint, installers(&store, &kubernetes_bundle)?))
        });
        read.await.map_err(|_panicked| JoinError::Ending)??
    };
    let known = site::read_site(plane).await?;
    let minted = door.tokens.mint(wish.role, wish.ttl_s).await?;
    Ok(Json(ScriptParts {
        token_id: minted.id,
        request: JoinRequest {
            cluster_id: known.cluster_id,
            role: wish.role,
            masters: known.masters,
            ca_pem: read_text(&plane.files.sealift.join(ca::CA_FILE))?,
            token: minted.text,
            expires_at: minted.expires_at,
            vendor,
            root_fingerprint,
        },
        installers,
    }))
}

/// The installer of a bundle for each platform; one for all platforms is under the bundle's own.
fn installers(store: &Store, id: &Digest) -> Result<BTreeMap<String, Digest>, JoinError> {
    let id = id.to_hex();
    let records = store.records()?;
    let record = records
        .iter()
        .find(|record| record.kind == Kind::Bundle && record.id == id)
        .ok_or_else(|| JoinError::Unknown(format!("the bundle {id}")))?;
    let index = BundleIndex::parse(&record.payload).map_err(|error| JoinError::Document {
        what: format!("the bundle {id}"),
        why: error.to_string(),
    })?;
    let mut installers = BTreeMap::new();
    let files = index.files.iter();
    for file in files.filter(|file| file.role == FileRole::Installer) {
        match &file.platform {
            Some(platform) => {
                installers.insert(platform.to_string(), file.digest);
            }
            None => installers.extend(
                index
                    .platforms
                    .iter()
                    .map(|platform| (platform.to_string(), file.digest)),
            ),
        }
    }
    if installers.is_empty() {
        let platforms: Vec<String> = index.platforms.iter().map(ToString::to_string).collect();
        return Err(JoinError::NoInstaller(platforms.join(", ")));
    }
    Ok(installers)
}

async fn tokens(State(door): Shared) -> Result<Response, JoinError> {
    Ok(Json(door.tokens.list().await?).into_response())
}

async fn revoke(State(door): Shared, Path(id): Path<String>) -> Result<StatusCode, JoinError> {
    door.tokens.revoke(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn queue(State(door): Shared) -> Result<Response, JoinError> {
    Ok(Json(door.broker.queue().await?).into_response())
}
