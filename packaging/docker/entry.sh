# The parts of a fleet in containers: setup | broker | coordinator N | registrar | device
set -eu
FLEET=${FLEET_DIR:-/srv/fleet}
ENROLMENT=${ENROLMENT_DIR:-/srv/enrolment}
TASK=${TASK_DIR:-/usr/share/starling/task}
HOME_DIR=${DEVICE_DIR:-/var/lib/starling}/home
BROKER_HOST=${BROKER_HOST:-broker}
BROKER_PORT=${BROKER_PORT:-8883}
COORDINATORS=${COORDINATORS:-1}

setup() {
    # May be repeated: whatever is there stays.
    starling broker init --home "$FLEET/broker" --fleet demo \
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
        starling coordinator init --home "$FLEET/coordinator-$n" --fleet demo \
            --broker "$FLEET/broker" --broker-host "$BROKER_HOST" --port "$BROKER_PORT" \
            ${genesis:+--genesis "$genesis"}
    done
    if [ ! -f "$FLEET/published" ]; then
        starling coordinator publish --no-wait --home "$FLEET/coordinator-1" \
            --bundle "$TASK/bundle" --task "$TASK/task.toml"
        touch "$FLEET/published"
    fi
}

registrar() {
    trap 'exit 0' TERM INT
    while :; do
        for request in "$ENROLMENT"/*.request; do
            [ -e "$request" ] || continue
            admission=${request%.request}.admission
            [ -e "$admission" ] && continue
            starling coordinator admit --no-wait "$request" --out "$admission.tmp" \
                --home "$FLEET/coordinator-1" && mv "$admission.tmp" "$admission"
        done
        sleep 1 &
        wait $!
    done
}

device() {
    starling agent init --home "$HOME_DIR" >/dev/null
    # A demonstration learns now, and does not spread its budget over a month.
    sed -i "s/^period_days = .*/period_days = 0.0/" "$HOME_DIR/agent.toml"
    if [ ! -f "$HOME_DIR/admission.json" ]; then
        name=$(starling agent enrol --home "$HOME_DIR" --json |
            sed 's/.*"device": "\([a-z0-9]*\)".*/\1/')
        cp "$HOME_DIR/enrolment-request.json" "$ENROLMENT/$name.tmp"
        mv "$ENROLMENT/$name.tmp" "$ENROLMENT/$name.request"
        until [ -e "$ENROLMENT/$name.admission" ]; do sleep 0.5; done
        # Each device takes the first shard that nobody has.
        shard=0
        until mkdir "$ENROLMENT/shard-$shard" 2>/dev/null; do shard=$((shard + 1)); done
        count=$(ls "$TASK/shards" | wc -l)
        cp "$TASK/shards/$((shard % count)).npz" "$HOME_DIR/data/"
        starling agent enrol --home "$HOME_DIR" \
            --admission "$ENROLMENT/$name.admission"
    fi
    exec starling agent run --home "$HOME_DIR"
}

case "$1" in
setup) setup ;;
broker) exec starling broker run --home "$FLEET/broker" ;;
coordinator) exec starling coordinator run --home "$FLEET/coordinator-$2" ;;
registrar) registrar ;;
device) device ;;
*) exec starling "$@" ;;
esac
