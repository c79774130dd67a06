//! Writes the honest documents into `corpus/`, for libFuzzer to begin with.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (number, (target, bytes)) in sealift_fuzz::seeds::all().into_iter().enumerate() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{number}")), bytes)?;
    }
    Ok(())
}
