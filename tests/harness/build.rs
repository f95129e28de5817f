fn main() -> anyhow::Result<()> {
    xtask::ebpf::embed(xtask::ebpf::TESTS, "BALANCER_TESTS_OBJECT_PATH")
}
