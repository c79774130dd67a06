//! A worker learns the list of masters from whichever master answers.

use std::sync::Arc;
use std::time::Duration;

use api::members::BYTES_MAX;
use api::members::Members;
use http::Method;
use http::StatusCode;

use super::Membership;
use super::gossip::merge;
use crate::masters::Masters;
use crate::masters::Wish;

/// Asks at every round, for ever; one answer is enough, because masters tell each other.
pub(crate) async fn learn(membership: Arc<Membership>, masters: Arc<Masters>, every: Duration) {
    loop {
        for master in masters.order() {
            let wish = Wish {
                method: Method::GET,
                path: "/v1/members".to_owned(),
                range: None,
            };
            let Ok((parts, flow)) = masters.ask(&master, &wish).await else {
                continue;
            };
            let Ok(bytes) = flow.whole(BYTES_MAX).await else {
                continue;
            };
            match Members::parse(&bytes) {
                Ok(list) if parts.status == StatusCode::OK => {
                    merge(&membership, list).await;
                    break;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%master, %error, "the list of members is not taken"),
            }
        }
        tokio::time::sleep(every).await;
    }
}
