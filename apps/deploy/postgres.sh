#!/bin/sh
# Run once by the image of PostgreSQL, when its volume is empty: a user for each service, who owns
# one database.
set -eu
for name in parley_auth parley_mailer parley_socket; do
	psql -v ON_ERROR_STOP=1 -v name="$name" -v password="$PARLEY_DATABASE_PASSWORD" --username "${POSTGRES_USER:-postgres}" --dbname postgres <<-'SQL'
		CREATE ROLE :"name" LOGIN PASSWORD :'password';
		CREATE DATABASE :"name" OWNER :"name";
		REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
	SQL
done
