//! `syncd init`: an empty directory becomes this node's store.

use program::Outcome;
use program::Output;
use store::RealFs;
use store::Store;

use super::place::Place;

pub(super) fn run(place: &Place, output: &Output) -> Outcome {
    let cluster = place.require_cluster()?;
    let directory = &place.store;
    let disk = RealFs::open_or_create(directory)
        .map_err(|source| program::FileError::new("make folder", directory, source))?;
    Store::create(disk, cluster)?;
    let result = serde_json::json!({ "store": directory, "cluster": cluster.to_string() });
    output.result(&result, |lines| {
        lines.line(format!(
            "The store is in {}, of cluster {cluster}.",
            directory.display()
        ));
    })
}
