//! Compiles `proto/kms.proto` to the KMS v2 client without protoc. The server half is for the tests.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/kms.proto");
    let descriptors = protox::compile(["proto/kms.proto"], ["proto"])?;
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
