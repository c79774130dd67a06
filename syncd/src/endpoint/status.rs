//! How the targets do, for people, for `installer status` and for metrics.

use std::fmt::Write as _;
use std::sync::Arc;

use api::endpoint::Report;
use api::endpoint::TargetState;
use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;

use super::board::Board;

/// The content type of metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes(board: Arc<Board>) -> Router {
    Router::new()
        .route("/v1/targets", get(targets))
        .route("/metrics", get(metrics))
        .with_state(board)
}

async fn targets(State(board): State<Arc<Board>>) -> Json<Report> {
    Json(board.report())
}

async fn metrics(State(board): State<Arc<Board>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, METRICS_TYPE)],
        text(&board.report()),
    )
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut family =
        |name: &str, help: &str, value: &dyn Fn(&api::endpoint::TargetReport) -> usize| {
            // Writing into a string can't fail.
            let _never = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for one in &report.targets {
                let (host, port) = (&one.target.host, one.target.port);
                let _never = writeln!(
                    text,
                    "{name}{{host={host:?},port=\"{port}\"}} {}",
                    value(one)
                );
            }
        };
    family(
        "sealift_api_target_up",
        "Whether an API server is ready.",
        &|one| usize::from(one.state == TargetState::Up),
    );
    family(
        "sealift_api_target_connections",
        "API connections of this node that go there.",
        &|one| one.connections,
    );
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use api::endpoint::Kind;
    use api::endpoint::Target;
    use api::endpoint::TargetReport;

    use super::*;

    #[test]
    fn metrics_name_each_target() {
        let report = Report {
            targets: vec![TargetReport {
                target: Target {
                    kind: Kind::Local,
                    host: "10.0.0.1".to_owned(),
                    port: 6443,
                },
                state: TargetState::Up,
                connections: 7,
            }],
        };
        insta::assert_snapshot!(text(&report), @r#"
        # HELP sealift_api_target_up Whether an API server is ready.
        # TYPE sealift_api_target_up gauge
        sealift_api_target_up{host="10.0.0.1",port="6443"} 1
        # HELP sealift_api_target_connections API connections of this node that go there.
        # TYPE sealift_api_target_connections gauge
        sealift_api_target_connections{host="10.0.0.1",port="6443"} 7
        # EOF
        "#);
        let json = serde_json::to_string(&report).unwrap();
        let expected = r#"{"targets":[{"kind":"local","host":"10.0.0.1","port":6443,"state":"up","connections":7}]}"#;
        assert_eq!(json, expected);
    }
}
