#!/bin/sh
# Does what tests rely on in the entrypoint of the image `postgres`, with the same variables.
set -eu

# As process 1 it would not end by a signal otherwise.
trap 'exit 130' INT
trap 'exit 143' TERM

case ${1:-} in
  '' | -*) set -- postgres "$@" ;;
esac
[ "$1" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
  install -d -o postgres -g postgres -m 700 "$PGDATA"
  exec setpriv --reuid postgres --regid postgres --init-groups -- "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  password=${POSTGRES_PASSWORD:-}
  method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  if [ -n "$password" ]; then
    printf '%s\n' "$password" |
      initdb --no-sync --encoding=UTF8 --locale=C.UTF-8 --auth=trust --username="$user" --pwfile=/dev/stdin
  elif [ "$method" = trust ]; then
    initdb --no-sync --encoding=UTF8 --locale=C.UTF-8 --auth=trust --username="$user"
  else
    echo 'Error: Database is uninitialized and superuser password is not specified.' >&2
    echo '       Set POSTGRES_PASSWORD to a non-empty value, or POSTGRES_HOST_AUTH_METHOD to "trust".' >&2
    exit 1
  fi
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
  # Nothing in it outlives a test.
  printf "\nlisten_addresses = '*'\nfsync = off\n" >>"$PGDATA/postgresql.conf"
  if [ "$database" != postgres ]; then
    quoted=$(printf %s "$database" | sed 's/"/""/g')
    echo "CREATE DATABASE \"$quoted\"" | postgres --single -j postgres >/dev/null
  fi
fi

exec "$@"
