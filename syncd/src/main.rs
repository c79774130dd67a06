//! The `syncd` program: everything is in the library, so that it can be tested without a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    syncd::main()
}
