fn main() -> anyhow::Result<()> {
    xtask::ebpf::embed(xtask::ebpf::BALANCER, "BALANCER_EBPF_OBJECT_PATH")
}
