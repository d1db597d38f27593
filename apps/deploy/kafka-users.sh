#!/usr/bin/env bash
# kafka-users.sh BROKER makes the user of the services for both mechanisms of SCRAM, or gives it
# its password again. It logs in as the broker does, by PLAIN.
set -euo pipefail
broker=$1 home=${KAFKA_HOME:-/opt/kafka} user=parley
settings=$(mktemp)
trap 'rm -f "$settings"' EXIT
cat >"$settings" <<SETTINGS
security.protocol=SASL_PLAINTEXT
sasl.mechanism=PLAIN
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="broker" password="$PARLEY_KAFKA_PASSWORD";
SETTINGS
for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
	"$home/bin/kafka-configs.sh" --bootstrap-server "$broker" --command-config "$settings" \
		--alter --entity-type users --entity-name "$user" \
		--add-config "$mechanism=[password=$PARLEY_KAFKA_PASSWORD]"
done
