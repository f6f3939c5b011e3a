//! Makes Rust of the proto files, without protoc: messages, server and client, and the descriptors
//! that the reflection service shows.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

/// Where the proto files are, by their packages.
const ROOT: &str = "proto";
/// The one that is the public face.
const EXCHANGE: &str = "proto/crosslatch/v1/exchange.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile([EXCHANGE], [ROOT])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("exchange.bin"), descriptors.encode_to_vec())?;
    // Ids and keys share the bytes of the message that they came in.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
