# What probes have in common. Each check says "ok WHAT" or "failed WHAT: WHY".
export PATH=/usr/bin:/bin:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
file=/etc/balancer/balancer.toml

ok() { echo "ok $1"; }
failed() { echo "failed $1: $2"; systemctl status --no-pager --lines=0 balancer 2>&1; }
shown() { systemctl show --value --property "$1" balancer; }

# within SECONDS COMMAND...: whether the command is true in time
within() {
    local until=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || return 1; sleep 0.05; done
}
attached() { ip link show eth0 | grep -q xdp; }
