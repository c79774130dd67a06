//! x
mod observe;
mod plan;
mod words;
fn main() {}
