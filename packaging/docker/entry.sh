# The parts of a fleet in containers: setup | server | links | broker | coordinator N | device
set -eu
FLEET=${FLEET_DIR:-/srv/fleet}
ENROLMENT=${ENROLMENT_DIR:-/srv/enrolment}
TASK=${TASK_DIR:-/usr/share/starling/task}
HOME_DIR=${DEVICE_DIR:-/var/lib/starling}/home
BROKER_HOST=${BROKER_HOST:-broker}
BROKER_PORT=${BROKER_PORT:-8883}
ENROL_PORT=${ENROL_PORT:-8884}
COORDINATORS=${COORDINATORS:-1}
BOARDS=${BOARDS:-1}
PYTHON=${PYTHON:-/usr/lib/starling/bin/python}

setup() {
    # May be repeated: whatever is there stays.
    if [ -f "$FLEET/coordinators" ]; then
        before=$(cat "$FLEET/coordinators")
        if [ "$before" != "$COORDINATORS" ]; then
            echo "this fleet was set up with coordinators: $before, not $COORDINATORS." \
                "Remove its volumes to set up another one" >&2
            exit 78
        fi
    fi
    starling broker init --home "$FLEET/broker" --fleet demo --enrol-port "$ENROL_PORT" \
        --host "$BROKER_HOST" --port "$BROKER_PORT"
    genesis=
    if [ "$COORDINATORS" -gt 1 ]; then
        genesis=$FLEET/genesis
        if [ ! -f "$genesis" ]; then
            for n in $(seq "$COORDINATORS"); do
                starling coordinator identity --home "$FLEET/coordinator-$n" \
                    --name "coordinator-$n" --out "$FLEET/identity-$n.json"
            done
            starling coordinator genesis --fleet demo --out "$genesis" \
                "$FLEET"/identity-*.json
        fi
    fi
    for n in $(seq "$COORDINATORS"); do
        home=$FLEET/coordinator-$n
        starling coordinator init --home "$home" --fleet demo \
            --broker "$FLEET/broker" --broker-host "$BROKER_HOST" --port "$BROKER_PORT" \
            ${genesis:+--genesis "$genesis"}
        cp "$TASK/held-out.npz" "$home/held-out.npz"
        sed -i '/^\[evaluation\]/,/^\[/s/^data = ""/data = "held-out.npz"/' \
            "$home/coordinator.toml"
        # Only the first one is beside the broker, and answers at its door.
        [ "$n" = 1 ] || sed -i 's/^home = .*/home = ""/' "$home/coordinator.toml"
    done
    if [ ! -f "$FLEET/published" ]; then
        starling coordinator publish --no-wait --home "$FLEET/coordinator-1" \
            --bundle "$TASK/bundle" --task "$TASK/task.toml"
        touch "$FLEET/published"
    fi
    # Good for a month; who adds devices later runs this again, as `compose up` does.
    starling enrol token --home "$FLEET/coordinator-1" --uses 1000 --for 30d \
        >"$ENROLMENT/token.tmp"
    mv "$ENROLMENT/token.tmp" "$ENROLMENT/token"
    echo "$COORDINATORS" >"$FLEET/coordinators"
    # Whoever starts after this does nothing wrong any more.
    rm -rf "$FLEET/orders"
}

server() {
    trap 'exit 0' TERM INT
    while :; do
        sleep 3600 &
        wait $!
    done
}

coordinator() {
    orders=$FLEET/orders/coordinator-$1
    if [ -f "$orders" ]; then
        # `starling fleet chaos` has this coordinator do wrong.
        exec "$PYTHON" -m starling.fleet.runtime.faults.byzantine_coordinator \
            "$FLEET/coordinator-$1" "$orders"
    fi
    exec starling coordinator run --home "$FLEET/coordinator-$1"
}

home_of() {
    # The first board's home has no number.
    if [ "$1" = 1 ]; then echo "$HOME_DIR"; else echo "$HOME_DIR-$1"; fi
}

prepare() {
    home=$1
    until [ -f "$home/admission.json" ]; do
        # A coordinator that is about to start answers soon.
        starling agent enrol --home "$home" --pledge "$(cat "$TASK/pledge")" \
            --wait 60 --token - <"$ENROLMENT/token" || sleep 2
    done
    # A demonstration learns now, and does not spread its budget over a month.
    sed -i -e 's/^period_days = .*/period_days = 0.0/' \
        -e "s/^between_s = .*/between_s = ${BETWEEN_S:-0}/" \
        -e "s/^board = .*/board = \"${BOARD_PROFILE:-auto}\"/" "$home/agent.toml"
    if [ ! -f "$home/data/shard.npz" ]; then
        # Each board takes the first shard that nobody has.
        shard=0
        until mkdir "$ENROLMENT/shard-$shard" 2>/dev/null; do shard=$((shard + 1)); done
        count=$(ls "$TASK/shards" | wc -l)
        cp "$TASK/shards/$((shard % count)).npz" "$home/data/shard.tmp"
        mv "$home/data/shard.tmp" "$home/data/shard.npz"
    fi
}

board() {
    # One of several: started again by this shell, as docker would.
    prepare "$1"
    stopping=
    trap 'stopping=1; kill "$agent" 2>/dev/null || :' TERM
    while :; do
        starling agent run --home "$1" &
        agent=$!
        ended=0
        wait "$agent" || ended=$?
        if [ -n "$stopping" ]; then
            wait "$agent" || :
            exit 0
        fi
        # Wrong settings are not tried again.
        [ "$ended" != 78 ] || exit 78
        sleep 5
    done
}

device() {
    if [ "$BOARDS" = 1 ]; then
        prepare "$HOME_DIR"
        exec starling agent run --home "$HOME_DIR"
    fi
    running=
    trap 'kill $running 2>/dev/null || :' TERM
    for n in $(seq "$BOARDS"); do
        board "$(home_of "$n")" &
        running="$running $!"
    done
    # A signal ends one wait, and the next goes on until all boards have stopped.
    until wait; do :; done
}

well() {
    for n in $(seq "$BOARDS"); do
        starling agent status --quiet --home "$(home_of "$n")"
    done
}

case "$1" in
setup) setup ;;
server) server ;;
links)
    exec "$PYTHON" -m starling.fleet.runtime.containers.link_shaper \
        "$FLEET/orders/links" "${SERVER_HOST:-server}" "$BROKER_PORT" "$ENROL_PORT"
    ;;
broker) exec starling broker run --home "$FLEET/broker" ;;
coordinator) coordinator "$2" ;;
device) device ;;
well) well ;;
*) exec starling "$@" ;;
esac
