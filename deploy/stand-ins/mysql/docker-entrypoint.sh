#!/bin/bash
# What the official image's entrypoint does with MYSQL_ROOT_PASSWORD, and no more.
set -euo pipefail
data=/var/lib/mysql
socket=/var/run/mysqld/mysqld.sock
[ "${1:-}" = mysqld ] && shift

if [ ! -d "$data/mysql" ]; then
    [ -n "${MYSQL_ROOT_PASSWORD:-}" ] || { echo "set MYSQL_ROOT_PASSWORD" >&2; exit 1; }
    chown mysql:mysql "$data"
    mysqld "$@" --initialize-insecure
    mysqld "$@" --skip-networking --mysqlx=OFF --skip-log-bin &
    server=$!
    until mysqladmin -uroot -S"$socket" ping >/dev/null 2>&1; do
        kill -0 "$server"
        sleep 0.1
    done
    mysql -uroot -S"$socket" <<SQL
CREATE USER 'root'@'%' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
SQL
    kill "$server"
    wait "$server"
fi
exec mysqld "$@"
