# Becomes systemd in namespaces of its own. $1: a directory with `balancer`, `balancer.service`, `balancer.toml` and `probe`.
# What the unit writes (/etc, /run, /var/lib, pins) is in memory and goes with the namespaces.
set -eu
given=$1
mount --make-rprivate /
mount -t proc proc /proc
mount -t bpf bpf /sys/fs/bpf
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/systemd/system /var/lib/balancer /run/layers
# Small, so that it can be filled.
mount -t tmpfs -o size=4m,mode=0700 tmpfs /var/lib/balancer
for place in etc usr/bin; do
    upper=/run/layers/$place
    mkdir -p "$upper/new" "$upper/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$upper/new,workdir=$upper/work" "/$place"
done
rm -rf /etc/systemd/system/*
mkdir -p /etc/balancer /etc/systemd/system/balancer.service.d
cp "$given/balancer" /usr/bin/balancer
cp "$given/balancer.toml" /etc/balancer/balancer.toml
cp "$given/balancer.service" /etc/systemd/system/balancer.service
# Nothing else of the host is started; and what takes long in operation takes less here.
cat >/etc/systemd/system/balancer.service.d/here.conf <<END
[Unit]
DefaultDependencies=no
After=
Wants=
[Service]
RestartSec=100ms
WatchdogSec=4
StandardOutput=append:$given/log
StandardError=append:$given/log
END
cat >/run/systemd/system/probe.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash $given/probe
ExecStopPost=/bin/systemctl exit --force --force
StandardOutput=file:$given/said
StandardError=file:$given/said
END
printf '[Unit]\nDefaultDependencies=no\nWants=probe.service\n' >/run/systemd/system/probe.target
ip link set lo up
ip link add eth0 type veth peer name peer0
ip addr add 10.99.0.1/24 dev eth0
ip link set eth0 up
ip link set peer0 up
export container=test
exec /lib/systemd/systemd --system --unit=probe.target --log-target=console --show-status=no
