//! Threads that compress whole frames. What a frame becomes depends on its content and the effort alone.
//!
//! Frames are compressed side by side, each by one call without inner workers: so the bytes can't depend on how many
//! threads there are, and a thread needs no second copy of its input. The library is pinned by `Cargo.lock`, and the
//! golden bundle notices when another version gives other bytes.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::write::Effort;

/// Threads; each has the tables of its level, 50 MiB at most, besides a frame and what it becomes.
pub(super) const THREADS: usize = 2;

/// A frame's content, and where to send what it becomes.
pub(super) struct Job {
    pub(super) plain: Vec<u8>,
    pub(super) reply: SyncSender<io::Result<Vec<u8>>>,
}

/// Compresses jobs until there are no more.
pub(super) fn run(jobs: &Mutex<Receiver<Job>>, effort: Effort) {
    let mut compressor = None;
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let compressed = compress(&mut compressor, &job.plain, effort);
        drop(job.plain);
        // The writing thread may have failed and gone.
        let _gone = job.reply.send(compressed);
    }
}

fn compress(
    compressor: &mut Option<Compressor<'static>>,
    plain: &[u8],
    effort: Effort,
) -> io::Result<Vec<u8>> {
    let compressor = match compressor {
        Some(compressor) => compressor,
        none => none.insert(new_compressor(effort)?),
    };
    compressor.compress(plain)
}

fn new_compressor(effort: Effort) -> io::Result<Compressor<'static>> {
    let (level, chain_log) = match effort {
        // Half of level 19's own table: 32 MiB a thread less for hardly any size.
        Effort::Release => (19, Some(23)),
        Effort::Fast => (3, None),
    };
    let mut compressor = Compressor::new(level)?;
    let fixed = [
        CParameter::ContentSizeFlag(true),
        CParameter::ChecksumFlag(true),
        CParameter::DictIdFlag(false),
    ];
    for parameter in fixed.into_iter().chain(chain_log.map(CParameter::ChainLog)) {
        compressor.set_parameter(parameter)?;
    }
    Ok(compressor)
}
