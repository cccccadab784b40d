//! Compiles what is spoken over gRPC to clients without protoc: KMS v2 and OTLP. The server halves are for the tests.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    for file in ["proto/kms.proto", "proto/trace.proto"] {
        let descriptors = protox::compile([file], ["proto"])?;
        tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    }
    Ok(())
}
