#!/bin/sh
# Run once by the postgres image, when its volume is empty: the owner, who migrates, and the ordinary role, which
# row-level security binds.
set -eu

psql --username="${POSTGRES_USER:-postgres}" --dbname="$POSTGRES_DB" --set=ON_ERROR_STOP=1 \
    --set=owner_password="$(cat /run/secrets/owner_password)" \
    --set=app_password="$(cat /run/secrets/app_password)" \
    --set=database="$POSTGRES_DB" <<'SQL'
CREATE ROLE tidings_owner LOGIN PASSWORD :'owner_password' NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
CREATE ROLE tidings_app   LOGIN PASSWORD :'app_password'   NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
ALTER DATABASE :"database" OWNER TO tidings_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO tidings_owner;
GRANT USAGE ON SCHEMA public TO tidings_app;
SQL
