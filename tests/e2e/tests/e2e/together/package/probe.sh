# Runs as the only other job beside the unit.
given=${0%/*}
. "$given/common"

dpkg_does() { dpkg --force-unsafe-io "$@" 2>&1; }
rounds() { cat /run/rounds 2>/dev/null || echo 0; }

# Client, switch and server; the balancer is this namespace. Answers go from the server straight to the client.
for name in client switch server; do ip netns add $name; ip -n $name link set lo up; done
ip link set peer0 netns switch
ip -n switch link add bridge type bridge
ip -n switch link set bridge up
ip -n switch link set peer0 master bridge up
for name in client server; do
    ip link add eth0 netns $name type veth peer name $name netns switch
    ip -n switch link set $name master bridge up
    ip -n $name link set eth0 up
done
ip -n client addr add 10.99.0.21/24 dev eth0
ip -n client route add 192.0.2.10 via 10.99.0.1
ip -n server addr add 10.99.0.11/24 dev eth0
ip -n server addr add 192.0.2.10/32 dev lo
ip netns exec server "$given/labserver" web-1 8000 &
server=$!

what="it is installed disabled, with its group, its manual and its completions"
if said=$(dpkg_does --install "$given/old.deb") && [[ $said == *"balancer init"* ]] &&
    [ "$(systemctl is-enabled balancer)" = disabled ] && [ "$(shown ActiveState)" = inactive ] &&
    getent group balancer >/run/group && [ -e /usr/share/man/man5/balancer.toml.5.gz ] &&
    [ -e /usr/share/bash-completion/completions/balancer ] && [ -e /usr/share/doc/balancer/runbook.md ] &&
    [ -e /usr/share/doc/balancer/linked-crates.txt.gz ] && [ ! -e "$file" ]; then
    ok "$what"
else
    failed "$what" "$said"
fi

what="init writes a first config, and the service starts with it once it is put right"
if said=$(balancer init 2>&1) && [ "$(stat -c %a $file)" = 640 ] && balancer check "$file" >/dev/null &&
    ! balancer init 2>/dev/null; then
    cp "$given/balancer.toml" "$file"
    said=$(systemctl start balancer 2>&1) && attached && ok "$what" || failed "$what" "$said"
else
    failed "$what" "$said"
fi

what="the socket has the group that the config names"
[ "$(stat -c %G:%a /run/balancer/control.sock)" = balancer:660 ] && ok "$what" || failed "$what" "$(ls -l /run/balancer)"

what="who is in the group may use it, and who is not is told which group to join"
useradd --no-create-home insider && usermod -aG balancer insider && useradd --no-create-home outsider
inside=$(setpriv --reuid insider --regid insider --init-groups balancer status 2>&1)
outside=$(setpriv --reuid outsider --regid outsider --init-groups balancer status 2>&1)
if [[ $inside == "edge: 1 service"* ]] && [[ $outside == *"usermod -aG balancer"* ]]; then
    ok "$what"
else
    failed "$what" "$inside $outside"
fi

what="an upgrade replaces the controller; the program stays attached, and every connection goes on"
ip netns exec client bash "$given/held" &
client=$!
if within 20 test -e /run/rounds; then
    pid=$(shown MainPID)
    (while [ ! -e /run/stop ]; do attached || touch /run/gap; sleep 0.02; done) &
    watcher=$!
    said=$(dpkg_does --install "$given/new.deb")
    seen=$(rounds)
    moved_on() { [ "$(rounds)" -gt $((seen + 3)) ]; }
    within 20 moved_on
    touch /run/stop
    wait $client $watcher
    if [ -e /run/held ] && [ ! -e /run/gap ] && [ "$(shown MainPID)" != "$pid" ] && [ "$(shown ActiveState)" = active ] &&
        [ "$(dpkg-query -W -f '${Version}' balancer)" = 0.0.10-1 ]; then
        ok "$what"
    else
        failed "$what" "$said $(ls /run/gap /run/held 2>&1) $(shown MainPID) $pid"
    fi
else
    failed "$what" "no connections"
fi

what="a package over a controller that systemd did not start leaves it alone, and says so"
systemctl stop balancer
balancer run --config "$file" >>"$given/log" 2>&1 &
pid=$!
within 20 balancer status
said=$(dpkg_does --install "$given/new.deb")
if kill -0 $pid && attached && [[ $said == *"Restart it to run this one"* ]]; then ok "$what"; else failed "$what" "$said"; fi

# Another controller, with places of its own, that is no business of the package.
ip link add eth1 type veth peer name peer1
ip link set eth1 up
sed "s/eth0/eth1/; s/192.0.2.10/192.0.2.20/; s/^name = \"edge\"/name = \"other\"\nstate_dir = \"\/run\/other\"\nhttp_listen = \"off\"\npin_dir = \"\/sys\/fs\/bpf\/other\"\ncontrol_socket = \"\/run\/other.sock\"/" \
    "$given/balancer.toml" >/run/other.toml
cat >/run/systemd/system/other.service <<END
[Unit]
DefaultDependencies=no
[Service]
Type=notify
ExecStart=$given/another run --config /run/other.toml
END
systemctl daemon-reload
systemctl start systemd-journald.socket systemd-journald.service
systemctl start other

what="the journal gets levels and fields"
"$given/another" --socket /run/other.sock drain web/web-1 >/run/said 2>&1
logged() {
    local lines
    lines=$(journalctl --output json --unit other)
    grep '"PRIORITY":"5"' <<<"$lines" | grep -q 'is in force' &&
        grep '"PRIORITY":"4"' <<<"$lines" | grep '"ASKED_BY_UID":"0"' | grep -q '"COMMAND":"drain web/web-1"'
}
within 20 logged && ok "$what" || failed "$what" "$(cat /run/said) $(journalctl --output json --unit other 2>&1)"

what="remove takes the data plane down, and names what another controller has attached"
said=$(dpkg_does --remove balancer)
ended() { ! kill -0 $pid; }
if within 20 ended && ! attached && [ -d /var/lib/balancer ] && [ -e "$file" ] && [ ! -e /usr/bin/balancer ] &&
    ip link show eth1 | grep -q xdp; then
    ok "$what"
else
    failed "$what" "$said"
fi

what="purge leaves state that a controller uses"
flock --no-fork /var/lib/balancer sleep 60 &
holder=$!
within 20 eval '! flock --nonblock /var/lib/balancer true'
said=$(dpkg_does --purge balancer)
if [ -d /var/lib/balancer ] && [[ $said == *"a controller uses /var/lib/balancer"* ]]; then
    ok "$what"
else
    failed "$what" "$said"
fi
kill $holder
wait $holder 2>/dev/null

what="it is installed without systemd, and purge clears the state but not the config"
mkdir -p /run/empty
unshare --mount bash -c 'mount --bind /run/empty /run && dpkg --force-unsafe-io --install '"$given/new.deb"' 2>&1' >/run/said
installed=$?
said=$(dpkg_does --purge balancer)
if [ $installed = 0 ] && [ ! -e /var/lib/balancer ] && [ -e "$file" ] && [[ $said == *"/etc/balancer holds what"* ]] &&
    ip link show eth1 | grep -q xdp && systemctl --quiet is-active other; then
    ok "$what"
else
    failed "$what" "$said $(cat /run/said)"
fi

"$given/another" --socket /run/other.sock detach >/dev/null
kill $server
echo done
