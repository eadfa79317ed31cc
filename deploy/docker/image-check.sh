#!/bin/sh
# Runs the steps of the Dockerfile in bare Debians made by debootstrap, and tries the result: make image-check.
# As root. It takes minutes, 1.5 GB of /tmp, Debian's mirror and a package index.
set -eu
[ "$(id -u)" = 0 ] || { echo "image-check: debootstrap needs root" >&2; exit 1; }
command -v debootstrap > /dev/null || { echo "image-check: apt install debootstrap" >&2; exit 1; }

suite=$(sed -n 's/^FROM python:3.11-slim-\([a-z]*\) AS build$/\1/p' deploy/docker/Dockerfile)
mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' | grep -m 1 '/debian/*$')}
port=${PORT:-18000}
work=$(mktemp -d /tmp/image-check.XXXXXX)
started=$(date +%s)
tracker=

finish() {
  [ -z "$tracker" ] || kill -KILL "$tracker" 2> /dev/null || true
  for mount in proc dev; do umount --lazy "$work/run/$mount" "$work/build/$mount" 2> /dev/null || true; done
  rm -rf --one-file-system "$work"
}
trap finish EXIT
step() { echo "== $1, after $(($(date +%s) - started)) s"; }

step "a bare $suite"
# What python:3.11-slim has and Debian's smallest system has not.
debootstrap --variant=minbase --include=python3,python3-venv,python3-dev,ca-certificates "$suite" "$work/build" "$mirror" \
  > "$work/debootstrap.log" 2>&1 || { tail -20 "$work/debootstrap.log"; exit 1; }
# A machine behind a proxy has its name servers and its certificates from there.
cp -L /etc/resolv.conf "$work/build/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$work/build/etc/ssl/certs/ca-certificates.crt"
cp -a "$work/build" "$work/run"
for stage in build run; do
  mount -t proc proc "$work/$stage/proc"
  mount --bind /dev "$work/$stage/dev"
done

step "COPY"
for path in $(sed -n 's/^COPY \([^-]\)/\1/p' deploy/docker/Dockerfile | awk '{ for (i = 1; i < NF; i++) print $i }' | sort -u); do
  mkdir -p "$work/build/src/$(dirname "$path")"
  cp -a "$path" "$work/build/src/$path"
done
rm -rf "$work/build/src/src/tracker/_compiled"

step "RUN build.sh"
chroot "$work/build" sh /src/deploy/docker/build.sh /src /opt/tracker

step "RUN runtime.sh, COPY --from=build"
chroot "$work/run" sh -s < deploy/docker/runtime.sh
cp -a "$work/build/opt/tracker" "$work/run/opt/tracker"
du -sh "$work/run/opt/tracker" | cut -f1

step "CMD"
mkdir -p "$work/out"
environment="PATH=/opt/tracker/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 TRACKER_DATA_DIR=/data TRACKER_PORT=$port"
# shellcheck disable=SC2086
chroot --userspec=10001:10001 "$work/run" env -i $environment tracker up --demo > "$work/out/log" 2>&1 &
tracker=$!
tries=0
until grep -q "tracker: ready" "$work/out/log"; do
  tries=$((tries + 1))
  if [ $tries -gt 120 ] || ! kill -0 "$tracker" 2> /dev/null; then cat "$work/out/log"; exit 1; fi
  sleep 1
done
# shellcheck disable=SC2086
chroot --userspec=10001:10001 "$work/run" env -i $environment tracker health
follow="
import http.client
connection = http.client.HTTPConnection('127.0.0.1', $port)
connection.request('GET', '/offer/3?affiliate_id=513')
answer = connection.getresponse()
assert answer.status == 302, answer.status
print('302', answer.headers['location'])
"
chroot "$work/run" python3 -c "$follow"
kill -TERM "$tracker"
wait "$tracker" || { echo "it ended with $?"; cat "$work/out/log"; exit 1; }
tracker=
step "done"
