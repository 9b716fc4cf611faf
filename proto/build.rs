//! Compiles `weft/v1/*.proto` in pure Rust; no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 6] = ["ca", "catalog", "join", "proxy", "raft", "watch"];
    println!("cargo:rerun-if-changed=weft");
    let paths = FILES.map(|name| format!("weft/v1/{name}.proto"));
    let descriptors = protox::compile(paths, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::grpc::Lean")
        .compile_fds(descriptors)?;
    Ok(())
}
