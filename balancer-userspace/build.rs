fn main() {
    println!("cargo::rustc-env=BALANCER_EBPF_OBJECT=/work/main/target/bpf/bpfel-unknown-none/release/balancer");
}
