//! Shows the program's own `getrandom` to libraries that look it up at run time.

fn main() {
    println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    println!("cargo::rerun-if-changed=build.rs");
}
