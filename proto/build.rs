//! Compiles the `.proto` files in pure Rust; no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 7] = ["ca", "catalog", "join", "proxy", "raft", "traffic", "watch"];
    println!("cargo:rerun-if-changed=weft");
    println!("cargo:rerun-if-changed=grpc");
    let ours = FILES.map(|name| format!("weft/v1/{name}.proto"));
    let others = [
        "grpc/envoy/auth.proto",
        "grpc/envoy/secret.proto",
        "grpc/health/v1/health.proto",
        "grpc/otlp/logs.proto",
        "grpc/otlp/trace.proto",
        "grpc/spiffe/workload.proto",
    ];
    let paths = ours.into_iter().chain(others.map(str::to_owned));
    let descriptors = protox::compile(paths, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::grpc::Lean")
        .compile_fds(descriptors)?;
    Ok(())
}
