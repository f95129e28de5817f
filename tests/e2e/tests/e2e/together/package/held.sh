# Opens connections to the service, and goes on speaking on all of them until /run/stop is there.
connections=()
for number in {1..20}; do
    exec {connection}<>/dev/tcp/192.0.2.10/8001 || exit 1
    connections+=("$connection")
done
rounds=0
until [ -e /run/stop ]; do
    for connection in "${connections[@]}"; do
        echo "round $rounds" >&"$connection"
        read -r -t 10 answer <&"$connection" && [ "$answer" = "round $rounds" ] || exit 1
    done
    rounds=$((rounds + 1))
    echo $rounds >/run/rounds.new
    mv /run/rounds.new /run/rounds
    sleep 0.05
done
touch /run/held
