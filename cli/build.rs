//! Tells the linker of a release to make the binary smaller. Never compiles or generates anything.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The toolchain's own linker is lld on this target alone; whoever chooses flags may have chosen another.
    let lld = var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu");
    let chosen = var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| !flags.is_empty());
    if lld && !chosen && var("PROFILE").is_ok_and(|profile| profile == "release") {
        // Functions of the same instructions are one: generic code repeats itself. Nothing compares addresses of functions.
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        // Addresses that move with the program as bits instead of 24 bytes each; read by glibc 2.36 and later.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
