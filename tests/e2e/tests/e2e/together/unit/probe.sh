# Runs as the only other job beside the unit.
. "${0%/*}/common"

active() { [ "$(shown ActiveState)" = active ]; }
restarted() { [ "$(shown MainPID)" != "$1" ] && [ "$(shown MainPID)" != 0 ] && active; }
handles_hangup() { (( 0x$(sed -n 's/^SigCgt:\s*//p' "/proc/$(shown MainPID)/status") & 1 )); }
weight_is() { grep -q "weight = $1 # of web-1" "$file"; }
with_weight() { sed "s/weight = [0-9]* # of web-1/weight = $1 # of web-1/" "$file" >"/run/$1.toml"; echo "/run/$1.toml"; }

ip neigh add 10.99.0.11 lladdr 02:00:00:00:00:11 dev eth0 nud permanent
ip neigh add 10.99.0.12 lladdr 02:00:00:00:00:12 dev eth0 nud permanent
ip route add 10.99.9.0/24 via 10.99.0.77

what="a refused config at the start is tried again, without an end"
cp "$file" /run/good.toml
echo 'nonsense = 1' >"$file"
systemctl start balancer && failed "$what" "a refused config started"
tried() { [ "$(shown NRestarts)" -ge 7 ]; }
if within 30 tried; then
    cp /run/good.toml "$file"
    within 30 active && ok "$what" || failed "$what" "it did not start with a good config"
else
    failed "$what" "$(shown NRestarts) restarts"
fi

what="it is started once the first generation is in force, and says so"
systemctl stop balancer
attached || failed "$what" "stopping took the program off"
systemctl start balancer
balancer status --json >/run/status.json || failed "$what" "no answer after the start"
text=$(shown StatusText)
[[ $text == "1 service, 2 of 2 backends up, generation "* ]] && ok "$what" || failed "$what" "$text"

what="apply writes the config file"
if said=$(balancer apply "$(with_weight 110)" 2>&1) && weight_is 110; then ok "$what"; else failed "$what" "$said"; fi

what="a guarded change is taken back by the start after a kill"
if said=$(balancer apply "$(with_weight 120)" --guard 300s 2>&1); then
    pid=$(shown MainPID)
    weight_is 120 || failed "$what" "the file is not the guarded one"
    systemctl kill --signal KILL balancer
    within 30 restarted "$pid" && weight_is 110 && ok "$what" || failed "$what" "$(cat "$file")"
else
    failed "$what" "$said"
fi

what="rollback writes the config file"
if said=$(balancer rollback 2>&1) && weight_is 90; then ok "$what"; else failed "$what" "$said"; fi

what="a reload of a refused file fails and changes nothing"
cp "$file" /run/before.toml
pid=$(shown MainPID)
echo 'nonsense = 1' >>"$file"
if systemctl reload balancer; then
    failed "$what" "the reload succeeded"
else
    text=$(shown StatusText)
    [[ $text == *"the last reload was refused"* ]] && active || failed "$what" "$text"
    cp /run/before.toml "$file"
    systemctl reload balancer && [ "$(shown MainPID)" = "$pid" ] && ok "$what" || failed "$what" "a good file was refused"
fi

what="a controller that hangs is started again, and the program stays attached"
pid=$(shown MainPID)
kill -STOP "$pid"
watched() { attached || touch /run/gap; restarted "$pid"; }
if within 30 watched && [ ! -e /run/gap ]; then ok "$what"; else failed "$what" "$(shown Result) $(ls /run/gap)"; fi

what="a full state directory refuses a change, and frees it once there is room"
head -c 8m /dev/zero >/var/lib/balancer/filler 2>/dev/null
before=$(cat "$file")
if said=$(balancer apply "$(with_weight 130)" 2>&1); then
    failed "$what" "it was applied: $said"
elif [ "$(cat "$file")" != "$before" ] || ! active; then
    failed "$what" "the file or the unit changed: $said"
else
    rm /var/lib/balancer/filler
    said=$(balancer apply "$(with_weight 130)" 2>&1) && weight_is 130 && ok "$what" || failed "$what" "$said"
fi

what="what was detached stays away"
said=$(balancer detach 2>&1) || failed "$what" "$said"
ended() { [ "$(shown ActiveState)" = inactive ]; }
within 30 ended && sleep 0.5 && ended && [ "$(shown Result)" = success ] && ! attached && ok "$what" ||
    failed "$what" "$(shown ActiveState) $(shown Result)"

# Backends that nobody can look up hold up a start with nothing in the kernel.
what="SIGHUP during the start is one reload after it"
sed -i 's/10\.99\.0\.12/10.99.9.12/' "$file"
: >"${0%/*}/log"
systemctl start --no-block balancer
if within 30 handles_hangup && [ "$(shown ActiveState)" = activating ]; then
    pid=$(shown MainPID)
    kill -HUP "$pid"
    kill -HUP "$pid"
    again() { grep -q 'SIGHUP: reading the config again' "${0%/*}/log"; }
    within 30 active && [ "$(shown MainPID)" = "$pid" ] && within 30 again && ok "$what" || failed "$what" "$(shown Result)"
else
    failed "$what" "no handler while the unit is $(shown ActiveState)"
fi

what="a host without a BPF file system is told how to get one, and starts once it has it"
balancer detach >/dev/null 2>&1
within 30 ended
while umount /sys/fs/bpf 2>/dev/null; do :; done
systemctl start --no-block balancer
told() { grep -q 'try `mount -t bpf bpf /sys/fs/bpf`' "${0%/*}/log"; }
if within 30 told && mount -t bpf bpf /sys/fs/bpf && within 30 active && attached; then
    ok "$what"
else
    failed "$what" "$(tail -3 "${0%/*}/log")"
fi
echo done
