//! Fuzz target: index. The oracle is in the shared library of this folder.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| sealift_fuzz::index(data));
