#!/bin/sh
# Makes the user and the directory of a tracker. As root.
set -eu

groupadd --gid 10001 tracker
useradd --uid 10001 --gid tracker --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tracker
install -d -o tracker -g tracker -m 0700 /data
