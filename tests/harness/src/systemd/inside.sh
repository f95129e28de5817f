# Becomes systemd in namespaces of its own. $1: a directory with `prepare`, `probe` and what these need.
# What is written (/etc, /usr, /var, /run, pins) is in memory and goes with the namespaces.
set -eu
given=$1
mount --make-rprivate /
mount -t proc proc /proc
mount -t bpf bpf /sys/fs/bpf
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/layers
for place in etc usr var; do
    upper=/run/layers/$place
    mkdir -p "$upper/new" "$upper/work"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$upper/new,workdir=$upper/work" "/$place"
done
rm -rf /etc/systemd/system/* /var/lib/balancer
mkdir -p /etc/systemd/system/balancer.service.d
. "$given/prepare"
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
