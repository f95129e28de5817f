# The unit alone, as somebody installs it without a package.
groupadd --system balancer
mkdir -p /etc/balancer /var/lib/balancer
# Small, so that it can be filled.
mount -t tmpfs -o size=4m,mode=0700 tmpfs /var/lib/balancer
cp "$given/balancer" /usr/bin/balancer
cp "$given/balancer.toml" /etc/balancer/balancer.toml
cp "$given/balancer.service" /etc/systemd/system/balancer.service
